"""``magickbox destinations``: what it shows and does, with and without a running box."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import peers
import pytest
from boxes import TestBox, new_box
from planned import PACS, QC, entry, routed

from magickbox.breaker import Circuit
from magickbox.cli.main import main
from magickbox.clock import now
from magickbox.destination import DicomDestination
from magickbox.ledger import queues
from magickbox.queueing import Mode, QueueState, lane_of


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def destinations(box: TestBox, *words: str) -> int:
    return main(["destinations", *words, "--data", str(box.data.root)])


def state(box: TestBox, to: DicomDestination) -> QueueState:
    with box.ledger.reading() as tx:
        return queues.state_of(tx, lane_of(to))


def is_unreachable(box: TestBox, to: DicomDestination) -> None:
    circuit = Circuit(3, now(), 1, now() + timedelta(minutes=2), "connection refused")
    with box.ledger.transaction() as tx:
        queues.change(tx, lane_of(to), lambda was: replace(was, circuit=circuit, trouble="connection refused"))


def test_the_listing_says_what_stands_in_the_way(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    routed(box.ledger, entry(PACS), entry(QC))
    is_unreachable(box, PACS)
    assert destinations(box, "list", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["name"], first["state"], first["open"]) == ("PACS@127.0.0.1:104", "UNREACHABLE", 1)
    assert first["reason"] == "connection refused"
    assert second["state"] == "RUNNING"
    assert destinations(box, "list") == 0
    assert "UNREACHABLE" in capsys.readouterr().out


def test_pause_drain_and_resume_without_a_box(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    routed(box.ledger, entry(PACS), entry(QC))
    for verb, mode in (("pause", Mode.PAUSED), ("drain", Mode.DRAINING), ("resume", Mode.RUNNING)):
        assert destinations(box, verb, "PACS") == 0
        assert "PACS@127.0.0.1:104" in capsys.readouterr().out
        assert state(box, PACS).mode is mode
    assert state(box, QC) == QueueState()


def test_a_name_that_is_none_or_two(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    routed(box.ledger, entry(PACS), entry(replace(PACS, port=4242)))
    assert destinations(box, "pause", "NOBODY") == 1
    assert "no destination 'NOBODY'" in capsys.readouterr().err
    assert destinations(box, "pause", "PACS") == 1
    assert "there is more than one destination 'PACS'; there are: PACS@127.0.0.1:104, PACS@127.0.0.1:4242" in (
        capsys.readouterr().err
    )
    assert destinations(box, "pause", "PACS@127.0.0.1:4242") == 0


def test_a_host_with_a_long_name_can_be_named(box: TestBox) -> None:
    far = replace(PACS, host=".".join(["a" * 60] * 4))
    routed(box.ledger, entry(far))
    assert destinations(box, "pause", f"PACS@{far.host}:104") == 0
    assert state(box, far).mode is Mode.PAUSED


@pytest.mark.peer
def test_an_echo_that_is_answered_lets_the_box_ask_at_once(
    box: TestBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with peers.storescp(tmp_path / "stored") as scp:
        routed(box.ledger, entry(scp.destination))
        is_unreachable(box, scp.destination)
        assert destinations(box, "echo", "STORESCP") == 0
        assert "answers" in capsys.readouterr().out
        assert state(box, scp.destination).circuit.probe_in(now(), 120.0) == 0.0
    assert destinations(box, "echo", "STORESCP") == 1
    assert "connection refused" in capsys.readouterr().err
