"""The deliver stage: holding, taking back, kills and restarts, a full disk; what was sent is not sent again."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import peers
import pytest
from deliverbox import QUICK, Box, fake, unreachable
from planned import PACS, QC, entry, new_items

from magickbox.clock import now
from magickbox.courier import Courier
from magickbox.delivery import DeliveryState, ItemState, Progress
from magickbox.destination import Delivered, DicomDestination, Result
from magickbox.job import JobState, Move
from magickbox.ledger import Ledger, deliveries
from magickbox.ledger.responses import Responses
from magickbox.logs import silent
from magickbox.pace import Pace
from magickbox.prover import no_provers
from magickbox.proving import Proving
from magickbox.sender import FakeSender, Item
from magickbox.steps import Step, unwatched

S = DeliveryState


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield Box(ledger, tmp_path / "jobs", FakeSender())


# Holding, taking back, trying again


@contextmanager
def paused_at(box: Box, nth: int) -> Iterator[threading.Event]:
    """While the ``nth`` instance is in hand; going on when the event is set."""
    arrived, go = threading.Event(), threading.Event()
    seen: list[str] = []

    def answer(_destination: DicomDestination, item: Item) -> Result:
        seen.append(item.sop_instance)
        if len(seen) == nth:
            arrived.set()
            assert go.wait(10)
        return Delivered()

    fake(box).answer = answer
    with box.running():
        assert arrived.wait(10)
        yield go


def test_a_held_job_stops_after_the_instance_in_hand_and_goes_on_when_released(box: Box) -> None:
    (number,) = box.routed(entry(PACS, new_items(4)))
    with paused_at(box, 2) as go:
        box.move(Move.HOLD)
        go.set()
        peers.wait_for(lambda: any(event == "attempt" for _, event, _ in box.notes))
        assert box.items(number) == [ItemState.SENT] * 2 + [ItemState.PENDING] * 2
        time.sleep(0.05)
        assert len(fake(box).calls) == 1
    box.move(Move.RELEASE)
    with box.running():
        box.ends()
    assert [len(call.items) for call in fake(box).calls] == [4, 2]
    with box.ledger.reading() as tx:
        assert deliveries.get(tx, number).tries == 0


def test_a_job_held_at_its_last_instance_is_done_after_its_release(box: Box) -> None:
    box.routed(entry(PACS, new_items(2)))
    with paused_at(box, 2) as go:
        box.move(Move.HOLD)
        go.set()
        peers.wait_for(lambda: box.states() == [S.DELIVERED])
        assert box.job() is JobState.HELD
    with box.running() as stage:
        box.move(Move.RELEASE)
        stage.wake()
        box.ends()


def test_a_job_that_is_held_between_being_due_and_being_begun_is_not_begun(box: Box) -> None:
    (number,) = box.routed(entry(PACS))
    with box.ledger.reading() as tx:
        due = deliveries.get(tx, number)
    box.move(Move.HOLD)
    rng, stopping = random.Random(1), threading.Event()
    proving = Proving(
        box.ledger, no_provers(), lambda job: box.folder / job, QUICK, silent, now, rng, stopping, lambda: None
    )
    courier = Courier(
        box.ledger,
        box.sender,
        lambda job: box.folder / job,
        QUICK,
        proving,
        Responses(box.ledger),
        silent,
        unwatched,
        now,
        rng,
        stopping,
    )
    courier.attempt(due, lambda _session: None)
    assert fake(box).calls == []
    with box.ledger.reading() as tx:
        assert deliveries.attempts(tx, number) == []


def test_a_cancelled_delivery_stops_and_is_tried_again_on_request(box: Box) -> None:
    (number,) = box.routed(entry(PACS, new_items(3)))
    stage = box.stage()
    with paused_at(box, 1) as go:
        stage.cancel(number, "anna")
        go.set()
        peers.wait_for(lambda: any(event == "cancelled" for _, event, _ in box.notes))
    assert box.items(number) == [ItemState.SENT, ItemState.PENDING, ItemState.PENDING]
    assert box.job() is JobState.DONE
    with box.running() as running:
        running.retry(number, "anna")
        box.ends()
        peers.wait_for(lambda: box.states() == [S.DELIVERED])
    assert len(fake(box).sent) == 3


def test_a_dead_delivery_is_tried_again_on_request(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    box.pace = Pace(patience=0.0).scaled(0.01)
    (number,) = box.routed(entry(PACS))
    with box.running() as stage:
        box.ends(JobState.ATTENTION)
        fake(box).refusal = unreachable()
        stage.retry(number, "anna")
        box.ends()
    assert box.states() == [S.DELIVERED]


# Ends and restarts


class Killed(BaseException):
    """The box is gone; nothing in it may catch this."""


@pytest.mark.parametrize(
    ("step", "sent_again"),
    [
        (Step.RESPONSE, ["2"]),
        (Step.RESPONSE_COMMITTED, []),
        (Step.ENTRY_ENDING, []),
        (Step.ENTRY_ENDED, []),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_after_a_kill_at_most_the_instance_in_flight_is_sent_again(box: Box, step: Step, sent_again: list[str]) -> None:
    """Killed at the second instance, or at the entry's end; then a new box on the same ledger."""
    count, killed = 0, threading.Event()

    def kill(at: Step) -> None:
        nonlocal count
        count += at is step
        if at is step and count == (2 if step in (Step.RESPONSE, Step.RESPONSE_COMMITTED) else 1):
            killed.set()
            raise Killed

    box.reached = kill
    box.routed(entry(PACS, new_items(3), gate=True, has_fallback=True), entry(QC, new_items(3), waits_for=0))
    dying = box.stage()
    dying.start()
    assert killed.wait(5)
    assert dying.stop(1.0)
    box.reached = unwatched
    with box.running():
        box.ends()
    assert box.states() == [S.DELIVERED, S.SKIPPED]
    sent = [item.sop_instance[-1] for _, item in fake(box).sent]
    assert sorted(sent) == sorted(["1", "2", "3", *sent_again])


def test_a_stop_ends_after_the_instance_in_hand_and_does_not_count_as_a_try(box: Box) -> None:
    arrived, go = threading.Event(), threading.Event()

    def answer(_destination: DicomDestination, _item: Item) -> Result:
        arrived.set()
        assert go.wait(10)
        return Delivered()

    fake(box).answer = answer
    (number,) = box.routed(entry(PACS, new_items(3)))
    stage = box.stage()
    stage.start()
    assert arrived.wait(10)
    threading.Timer(0.1, go.set).start()
    assert stage.stop(5.0)
    assert box.items(number) == [ItemState.SENT, ItemState.PENDING, ItemState.PENDING]
    with box.ledger.reading() as tx:
        (attempt,) = deliveries.attempts(tx, number)
        assert attempt.result == "the box stops"
        assert deliveries.get(tx, number).tries == 0


def test_a_stage_that_was_never_started_stops(box: Box) -> None:
    assert box.stage().stop(0.1)


def test_jobs_that_a_crash_left_with_nothing_open_are_ended_at_the_start(box: Box) -> None:
    (number,) = box.routed(entry(PACS))
    with box.ledger.transaction() as tx:
        tx.execute("UPDATE deliveries SET state = 'DELIVERED' WHERE id = ?", (number,))
        deliveries.begin_attempt(tx, number)
    box.stage().recover()
    assert box.job() is JobState.DONE
    with box.ledger.reading() as tx:
        assert deliveries.attempts(tx, number)[0].result == "cut short: the box ended"


# A full disk


def test_a_response_that_cannot_be_committed_is_followed_by_no_other_request(box: Box, tmp_path: Path) -> None:
    """The ledger may not grow while the second response is there: an instance that was sent is not sent again."""
    seen: list[str] = []

    def grow(pages: int) -> None:
        with box.ledger.reading() as tx:
            tx.execute(f"PRAGMA max_page_count = {pages}")

    def answer(_destination: DicomDestination, item: Item) -> Result:
        seen.append(item.sop_instance[-1])
        if len(seen) == 2:
            grow(1)
            return Delivered(0xB000, "x" * 50_000)  # what does not fit into a page that is there
        return Delivered()

    fake(box).answer = answer
    (number,) = box.routed(entry(PACS, new_items(3)))
    with box.running():
        peers.wait_for(lambda: any(event == "disk-full" for _, event, _ in box.notes))
        assert seen == ["1", "2"]
        grow(1_000_000)
        box.ends()
    assert seen == ["1", "2", "3"]
    assert len(fake(box).calls) == 2
    with box.ledger.reading() as tx:
        assert deliveries.progress(tx, number) == Progress(sent=3)
