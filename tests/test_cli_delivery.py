"""``magickbox deliveries show``: all about one delivery, and what happens next."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from boxes import TestBox, new_box
from planned import PACS, QC, entry, new_items, routed

from magickbox.breaker import Circuit
from magickbox.cli.main import main
from magickbox.delivery import Delivery, DeliveryState
from magickbox.destination import Delivered, Rejected
from magickbox.job import JobState
from magickbox.ledger import deliveries, endings
from magickbox.prospect import what_next
from magickbox.queueing import Mode, QueueState

MOMENT = datetime(2026, 3, 12, 17, 12, tzinfo=UTC)
OPEN = Delivery(
    7, "job", 1, "rule", 0, PACS, False, None, False, DeliveryState.OPEN, MOMENT, 1, MOMENT, None, "", 2
)  # fmt: skip


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    (made.data.root / "routing.json").write_text('{"routing": []}')
    yield made
    made.ledger.close()


def told(capsys: pytest.CaptureFixture[str], box: TestBox, *words: str) -> str:
    assert main(["deliveries", "show", *words, "--data", str(box.data.root)]) == 0
    return capsys.readouterr().out


def test_all_about_one_delivery(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = routed(
        box.ledger, entry(PACS, new_items(4), gate=True, has_fallback=True), entry(QC, new_items(4), waits_for=0)
    )
    with box.ledger.transaction() as tx:
        deliveries.begin_attempt(tx, first)
        deliveries.record_response(tx, first, 1, Delivered())
        deliveries.record_response(tx, first, 2, Delivered(0xB000, "0xB000 coerced"))
        for _ in range(2):
            deliveries.record_response(tx, first, 3, Rejected("0xA900 for Jane", 0xA900))
    assert "being tried since" in told(capsys, box, str(first))
    with box.ledger.transaction() as tx:
        deliveries.end_attempt(tx, first, 1, 2, 1, "the peer aborted the association")
    said = told(capsys, box, str(first))
    assert "4: 2 sent, 1 to be sent, 1 refused for good" in said
    assert "the peer aborted the association" in said
    assert "1      SENT      0xB000  0xB000 coerced" in said
    assert "1      REJECTED  0xA900" in said
    assert "the entry behind it takes over" in said
    assert f"it waits for delivery {first}" in told(capsys, box, str(second))
    found = json.loads(told(capsys, box, str(first), "--json"))
    assert found["progress"] == {"pending": 1, "sent": 2, "refused": 0, "rejected": 1}
    assert [found["delivery"][key] for key in ("id", "state", "entry", "tries")] == [first, "OPEN", 1, 1]
    assert [each["state"] for each in found["instances"]] == ["SENT", "SENT", "REJECTED", "PENDING"]
    assert found["next"].startswith("it is tried at ")
    with box.ledger.transaction() as tx:
        endings.fail(tx, first, "given up")
        endings.fail(tx, second, "given up")
    assert "REPLACED" in told(capsys, box, str(first))
    assert f"'magickbox deliveries retry {second}'" in told(capsys, box, str(second))


@pytest.mark.parametrize("number", ["99", "x", "-1"])
def test_one_that_is_none(box: TestBox, capsys: pytest.CaptureFixture[str], number: str) -> None:
    with box.ledger.reading():
        pass
    assert main(["deliveries", "show", "--data", str(box.data.root), "--", number]) == 1
    assert number in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job", "queue", "words"),
    [
        (JobState.DELIVERING, QueueState(), "it is tried at 2026-03-12T17:12:00"),
        (JobState.HELD, QueueState(), "it waits: its job is HELD"),
        (JobState.DELIVERING, QueueState(Mode.PAUSED), "its destination is paused"),
        (JobState.DELIVERING, QueueState(Mode.DRAINING, MOMENT - timedelta(1)), "its destination is draining"),
        (JobState.DELIVERING, QueueState(Mode.DRAINING, MOMENT + timedelta(1)), "it is tried at"),
        (
            JobState.DELIVERING,
            QueueState(circuit=Circuit(3, MOMENT, 1, MOMENT + timedelta(seconds=30), "no")),
            "is unreachable, and is asked again at 2026-03-12T17:12:30",
        ),
    ],
)
def test_what_happens_next_with_one_that_is_open(job: JobState, queue: QueueState, words: str) -> None:
    assert words in what_next(OPEN, job, queue, None)


@pytest.mark.parametrize("state", [s for s in DeliveryState if s is not DeliveryState.OPEN])
def test_each_state_has_its_words(state: DeliveryState) -> None:
    assert what_next(replace(OPEN, state=state, waits_for=6), JobState.DELIVERING, QueueState(), None)
