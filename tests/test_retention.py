"""What expires, what never does, and that one job that cannot be removed keeps no other."""

import math
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from boxes import LITTLE, MR, Image, TestBox, new_box

from magickbox.clock import now
from magickbox.delivery import DeliveryState, NewDelivery, NewItem
from magickbox.destination import DicomDestination
from magickbox.errors import ForbiddenMove
from magickbox.job import Job, JobState, Move
from magickbox.ledger import deliveries, endings, jobs
from magickbox.removal import Removal
from magickbox.retention import Retention, expired
from magickbox.steps import Step

S = DeliveryState
DAY = 86400.0


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def entry(gate: bool = False, waits_for: int | None = None) -> NewDelivery:
    item = NewItem("OUTPUT/result.txt", "1.2.9", MR, LITTLE)
    return NewDelivery("rule", 0, DicomDestination("10.0.0.5", 104, "BOX", "PACS"), gate, waits_for, gate, (item,))


def routed(box: TestBox, *entries: NewDelivery) -> tuple[Job, list[int]]:
    """A processed job for which the rules asked for these deliveries; an id for each."""
    box.count += 1
    job = box.run(box.job(Image(f"1.2.{box.count}"), called=f"P{box.count}"))
    with box.ledger.transaction() as tx:
        ids = deliveries.plan(tx, job.id, deliveries.record_decision(tx, job.id, "", "{}"), entries)
        jobs.move(tx, job.id, Move.ROUTE, "routed")
    return job, ids


def unrouted(box: TestBox) -> Job:
    box.count += 1
    return box.move(box.run(box.job(Image(f"1.2.{box.count}"), called=f"P{box.count}")), Move.SETTLE)


def delivered(box: TestBox) -> Job:
    job, (delivery,) = routed(box, entry())
    with box.ledger.transaction() as tx:
        endings.deliver(tx, delivery)
    return box.row(job)


def due(box: TestBox, keep_done: float = 7 * DAY, keep_unrouted: float = math.inf, days: float = 8) -> set[str]:
    with box.ledger.reading() as tx:
        found = expired(tx, keep_done, keep_unrouted, now() + timedelta(days=days))
    return {each.job.id for each in found}


def test_what_was_delivered_expires_after_keep_done(box: TestBox) -> None:
    job = delivered(box)
    assert job.state is JobState.DONE
    assert due(box, days=6.9) == set()
    assert due(box, days=7.1) == {job.id}
    assert due(box, keep_done=math.inf) == set()


def test_what_was_not_routed_stays_for_ever_unless_it_is_said(box: TestBox) -> None:
    job = unrouted(box)
    assert due(box, days=10_000) == set()
    assert due(box, keep_done=math.inf, keep_unrouted=DAY) == {job.id}
    assert due(box, keep_unrouted=9 * DAY) == set()


def test_a_fallback_counts_as_delivered(box: TestBox) -> None:
    """The gate arrived and its fallback was skipped; or the gate failed and its fallback arrived."""
    skipped, (gate, _) = routed(box, entry(gate=True), entry(waits_for=0))
    with box.ledger.transaction() as tx:
        endings.deliver(tx, gate)
    replaced, (gate, fallback) = routed(box, entry(gate=True), entry(waits_for=0))
    with box.ledger.transaction() as tx:
        endings.fail(tx, gate, "no answer")
        endings.deliver(tx, fallback)
    assert due(box) == {skipped.id, replaced.id}


def test_a_chain_of_gates_counts_as_delivered(box: TestBox) -> None:
    job, ids = routed(box, entry(gate=True), entry(gate=True, waits_for=0), entry(waits_for=1))
    with box.ledger.transaction() as tx:
        endings.fail(tx, ids[0], "no answer")
        endings.deliver(tx, ids[1])
    with box.ledger.reading() as tx:
        assert [d.state for d in deliveries.listing(tx, job.id)] == [S.REPLACED, S.DELIVERED, S.SKIPPED]
    assert due(box) == {job.id}


def test_what_was_cancelled_keeps_its_job(box: TestBox) -> None:
    cancelled, (one, other) = routed(box, entry(), entry())
    with box.ledger.transaction() as tx:
        endings.deliver(tx, one)
        endings.cancel(tx, other, "a person")
    alone, (only,) = routed(box, entry())
    with box.ledger.transaction() as tx:
        endings.cancel(tx, only, "a person")
    assert [box.row(job).state for job in (cancelled, alone)] == [JobState.DONE, JobState.DONE]
    assert due(box, keep_unrouted=0) == set()


def test_a_fallback_that_was_cancelled_stands_in_for_nothing(box: TestBox) -> None:
    job, (gate, fallback) = routed(box, entry(gate=True), entry(waits_for=0))
    with box.ledger.transaction() as tx:
        endings.fail(tx, gate, "no answer")
        endings.cancel(tx, fallback, "a person")
    assert box.row(job).state is JobState.DONE
    assert due(box, keep_unrouted=0) == set()


def test_nothing_else_ever_expires(box: TestBox) -> None:
    dead, (delivery,) = routed(box, entry())
    with box.ledger.transaction() as tx:
        endings.fail(tx, delivery, "refused")
    routed(box, entry())
    box.job(Image("1.3.1"), called="A")
    box.run(box.job(Image("1.3.2"), called="B"))
    box.move(box.job(Image("1.3.3"), called="C"), Move.HOLD)
    box.move(box.job(Image("1.3.4"), called="D"), Move.LOSE)
    box.move(box.run(box.job(Image("1.3.5"), called="E"), "failed"), Move.ALARM)
    assert box.row(dead).state is JobState.ATTENTION
    assert due(box, keep_done=0, keep_unrouted=0, days=10_000) == set()


class Log:
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self.noted = threading.Event()

    def note(self, level: str, event: str, facts: Mapping[str, object]) -> None:
        self.lines.append((level, event, str(facts.get("job"))))
        self.noted.set()


def test_a_running_box_deletes_and_says_so(box: TestBox) -> None:
    job, log = delivered(box), Log()
    retention = Retention(box.ledger, Removal(box.data, box.ledger), 0, math.inf, log.note)
    for _ in range(3):
        retention.run_once()
    assert log.lines == [("info", "expired", job.id)]
    assert box.row(job).state is JobState.DELETED
    assert "keep_done" in box.row(job).reason
    assert not box.folder(job).path.exists()
    with box.ledger.reading() as tx:
        assert "retention" in {line.who for line in jobs.history(tx, job.id)}


def test_one_job_that_cannot_be_removed_keeps_no_other(box: TestBox) -> None:
    first, second, log = delivered(box), delivered(box), Log()

    def refuse(step: Step) -> None:
        if step is Step.DELETE_MARKED and not log.lines:
            raise OSError("no")

    Retention(box.ledger, Removal(box.data, box.ledger, refuse), 0, 0, log.note).run_once()
    assert log.lines == [("error", "not-expired", first.id), ("info", "expired", second.id)]
    assert box.row(first).state is JobState.DELETING


def test_a_job_that_is_routed_anew_meanwhile_is_not_deleted(box: TestBox) -> None:
    """Between the look and the deletion a person asked for it again."""
    job, log = delivered(box), Log()
    removal = Removal(box.data, box.ledger)
    box.move(job, Move.REROUTE)
    with pytest.raises(ForbiddenMove, match="no longer DONE"):
        removal.delete(job.id, "expired", "retention", only_if=JobState.DONE)
    assert box.row(job).state is JobState.PROCESSED
    assert box.folder(job).input.is_dir()
    Retention(box.ledger, removal, 0, 0, log.note).run_once()
    assert log.lines == []
