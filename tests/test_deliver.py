"""The deliver stage: fallback, restart, holding, a dead destination beside a live one, a full disk, real peers."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from magickbox.deliver import Deliver
from magickbox.delivery import DeliveryState, ItemState, NewDelivery, NewItem, Progress
from magickbox.destination import Delivered, DicomDestination, Rejected, Result, Retry
from magickbox.job import JobState, Move
from magickbox.ledger import Ledger, deliveries, jobs
from magickbox.owncalls import OwnCalls
from magickbox.pace import Pace
from magickbox.scu.store import StoreSender
from magickbox.sender import Answer, FakeSender, Item, Sender
from magickbox.steps import Reached, Step, unwatched

import peers
from planned import ARCHIVE, PACS, QC, entry, new_items, routed, with_files

S = DeliveryState
QUICK = Pace().scaled(0.01)


@dataclass
class Box:
    """A stage with its ledger, and what it noted."""

    ledger: Ledger
    folder: Path
    sender: Sender
    pace: Pace = QUICK
    reached: Reached = unwatched
    notes: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def stage(self) -> Deliver:
        return Deliver(
            self.ledger,
            self.sender,
            lambda job: self.folder / job,
            pace=self.pace,
            note=lambda level, event, facts: self.notes.append((level, event, dict(facts))),
            reached=self.reached,
            rng=random.Random(1),
        )

    @contextmanager
    def running(self) -> Iterator[Deliver]:
        stage = self.stage()
        stage.start()
        try:
            yield stage
        finally:
            assert stage.stop(5.0)

    def routed(self, *planned: NewDelivery, name: str = "job") -> list[int]:
        for new in planned:
            with_files(
                self.folder / name, [item for item in new.items if not (self.folder / name / item.file).exists()]
            )
        return routed(self.ledger, *planned, name=name)

    def states(self, name: str = "job") -> list[DeliveryState]:
        with self.ledger.reading() as tx:
            return [delivery.state for delivery in deliveries.listing(tx, name)]

    def job(self, name: str = "job") -> JobState:
        with self.ledger.reading() as tx:
            return jobs.get(tx, name).state

    def items(self, number: int) -> list[ItemState]:
        with self.ledger.reading() as tx:
            return [item.state for item in deliveries.instances_of(tx, number)]

    def ends(self, state: JobState = JobState.DONE, name: str = "job") -> None:
        peers.wait_for(lambda: self.job(name) is state, f"{name} to be {state}, notes: {self.notes}")

    def move(self, step: Move, name: str = "job") -> None:
        with self.ledger.transaction() as tx:
            jobs.move(tx, name, step, "asked", "anna")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield Box(ledger, tmp_path / "jobs", FakeSender())


def fake(box: Box) -> FakeSender:
    assert isinstance(box.sender, FakeSender)
    return box.sender


def unreachable(*titles: str) -> Callable[[DicomDestination], str | None]:
    return lambda destination: "connection refused" if destination.called_ae in titles else None


def answers(by_uid: dict[str, Sequence[Result]]) -> Answer:
    """Each instance's answers one after another, the last for ever."""
    left = {uid: list(results) for uid, results in by_uid.items()}

    def answer(_destination: DicomDestination, item: Item) -> Result:
        results = left.get(item.sop_instance, [Delivered()])
        return results.pop(0) if len(results) > 1 else results[0]

    return answer


REFUSED, BUSY, GONE = Rejected("0xA900", 0xA900), Retry("0x0110", 0x0110), Retry("the peer aborted the association")


# What becomes of entries


def test_everything_arrives_and_the_job_is_done(box: Box) -> None:
    (number,) = box.routed(entry(PACS, new_items(3)))
    with box.running():
        box.ends()
    assert [item.sop_instance for _, item in fake(box).sent] == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    with box.ledger.reading() as tx:
        assert jobs.get(tx, "job").delivered == 1
        (attempt,) = deliveries.attempts(tx, number)
    assert (attempt.sent, attempt.refused, attempt.result) == (3, 0, "")
    assert attempt.ended is not None


def test_a_fallback_takes_the_whole_selection_after_three_attempts(box: Box) -> None:
    def half(destination: DicomDestination, item: Item) -> Result:
        return BUSY if destination == PACS and item.sop_instance == "1.2.3.2" else Delivered()

    fake(box).answer = half
    gate, behind = box.routed(entry(PACS, gate=True, has_fallback=True), entry(QC, waits_for=0))
    with box.running():
        box.ends()
    assert box.states() == [S.REPLACED, S.DELIVERED]
    assert [call.destination for call in fake(box).calls] == [PACS, PACS, PACS, QC]
    assert [item.sop_instance for to, item in fake(box).sent if to == QC] == ["1.2.3.1", "1.2.3.2"]
    with box.ledger.reading() as tx:
        assert deliveries.get(tx, gate).reason == "given up after 3 attempts: 0x0110 processing failure"
        assert jobs.get(tx, "job").delivered == 1
        assert deliveries.get(tx, behind).tries == 0


def test_a_gate_that_arrives_skips_its_fallback(box: Box) -> None:
    box.routed(entry(PACS, gate=True, has_fallback=True), entry(QC, waits_for=0))
    with box.running():
        box.ends()
    assert box.states() == [S.DELIVERED, S.SKIPPED]
    assert {call.destination for call in fake(box).calls} == {PACS}


def test_a_chain_of_fallbacks_that_all_fail_ends_in_one_dead_entry(box: Box) -> None:
    fake(box).refusal = unreachable("PACS", "ARCHIVE", "QC")
    box.pace = Pace(patience=0.0).scaled(0.01)
    box.routed(
        entry(PACS, gate=True, has_fallback=True),
        entry(ARCHIVE, gate=True, waits_for=0, has_fallback=True),
        entry(QC, waits_for=1),
    )
    with box.running():
        box.ends(JobState.ATTENTION)
    assert box.states() == [S.REPLACED, S.REPLACED, S.DEAD]
    assert [call.destination.called_ae for call in fake(box).calls] == ["PACS"] * 3 + ["ARCHIVE"] * 3 + ["QC"]
    with box.ledger.reading() as tx:
        assert "to QC@127.0.0.1:106 is dead: given up after 0.0 days: connection refused" in jobs.get(tx, "job").reason


def test_a_refusal_for_good_is_asked_once_more_on_a_second_association(box: Box) -> None:
    fake(box).answer = answers({"1.2.3.1": [REFUSED], "1.2.3.2": [REFUSED, Delivered()]})
    (number,) = box.routed(entry(PACS, new_items(3)))
    with box.running():
        box.ends(JobState.ATTENTION)
    assert box.items(number) == [ItemState.REJECTED, ItemState.SENT, ItemState.SENT]
    assert [len(call.items) for call in fake(box).calls] == [3, 2]
    with box.ledger.reading() as tx:
        reason = deliveries.get(tx, number).reason
    assert reason == "1 of 3 instances refused for good, for example: 0xA900 dataset does not match its SOP class"


def test_one_instance_that_breaks_every_association_does_not_keep_the_others(box: Box) -> None:
    fake(box).answer = answers({"1.2.3.1": [GONE]})
    (number,) = box.routed(entry(PACS, new_items(4)))
    with box.running():
        peers.wait_for(lambda: box.items(number).count(ItemState.SENT) == 3)
    assert box.items(number)[0] is ItemState.PENDING
    assert box.states() == [S.OPEN]


def test_out_of_resources_ends_the_attempt_another_status_does_not(box: Box) -> None:
    full = Retry("0xA700", 0xA700)
    fake(box).answer = answers({"1.2.3.1": [BUSY, Delivered()], "1.2.3.3": [full, Delivered()]})
    box.routed(entry(PACS, new_items(4)))
    with box.running():
        box.ends()
    assert [item.sop_instance[-1] for _, item in fake(box).sent] == ["2", "4", "1", "3"]


def test_a_warning_counts_as_stored_and_is_noted(box: Box) -> None:
    fake(box).answer = answers({"1.2.3.1": [Delivered(0xB000, "0xB000 Doe^Jane was renamed")]})
    box.routed(entry(PACS))
    with box.running():
        box.ends()
    (facts,) = [facts for _, event, facts in box.notes if event == "instance"]
    assert facts["said"] == "0xB000"
    assert "Jane" not in str(box.notes)


def test_a_file_that_is_gone_is_refused_and_said(box: Box) -> None:
    (number,) = box.routed(entry(PACS))
    (box.folder / "job" / "OUTPUT" / "1.dcm").unlink()
    with box.running():
        box.ends(JobState.ATTENTION)
    assert box.items(number) == [ItemState.REJECTED, ItemState.SENT]


def test_an_internal_error_is_noted_once_and_tried_again(box: Box) -> None:
    failures = [ValueError("surprise")]

    def answer(_destination: DicomDestination, _item: Item) -> Result:
        if failures:
            raise failures.pop()
        return Delivered()

    fake(box).answer = answer
    (number,) = box.routed(entry(PACS))
    with box.running():
        box.ends()
        with box.ledger.reading() as tx:
            first, _ = deliveries.attempts(tx, number)
    assert first.result == "internal error: ValueError"
    assert [event for level, event, _ in box.notes if level == "error"] == ["attempt-broke"]


# One destination and the other


def test_a_destination_that_hangs_keeps_nobody_else_waiting(box: Box) -> None:
    hanging = threading.Event()

    def answer(destination: DicomDestination, _item: Item) -> Result:
        if destination == PACS:
            assert hanging.wait(10)
        return Delivered()

    fake(box).answer = answer
    box.routed(entry(PACS), name="slow")
    box.routed(entry(QC), name="quick")
    with box.running():
        box.ends(name="quick")
        assert box.job("slow") is JobState.DELIVERING
        hanging.set()
        box.ends(name="slow")


def test_from_wake_to_the_association_in_100_ms(box: Box) -> None:
    waits = []
    with box.running() as stage:
        for n in range(10):
            box.routed(entry(PACS, new_items(1)), name=f"job-{n}")
            before = time.monotonic()
            stage.wake()
            peers.wait_for(lambda n=n: len(fake(box).calls) > n)  # type: ignore[misc]
            waits.append(time.monotonic() - before)
            box.ends(name=f"job-{n}")
    assert sorted(waits)[5] < 0.1


def test_an_idle_stage_does_nothing(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    box.pace = Pace()
    box.routed(entry(PACS))
    with box.running():
        peers.wait_for(lambda: fake(box).calls)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1
    assert len(fake(box).calls) == 1


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
    box.move(Move.RELEASE)
    with box.running():
        box.ends()


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
    count = 0

    def kill(at: Step) -> None:
        nonlocal count
        count += at is step
        if at is step and count == (2 if step in (Step.RESPONSE, Step.RESPONSE_COMMITTED) else 1):
            raise Killed

    box.reached = kill
    box.routed(entry(PACS, new_items(3), gate=True, has_fallback=True), entry(QC, new_items(3), waits_for=0))
    dying = box.stage()
    dying.start()
    (worker,) = [thread for thread in _workers(dying)]
    worker.join(5)
    assert not worker.is_alive()
    assert dying.stop(1.0)
    box.reached = unwatched
    with box.running():
        box.ends()
    assert box.states() == [S.DELIVERED, S.SKIPPED]
    sent = [item.sop_instance[-1] for _, item in fake(box).sent]
    assert sorted(sent) == sorted(["1", "2", "3", *sent_again])


def _workers(stage: Deliver) -> list[threading.Thread]:
    def found() -> list[threading.Thread]:
        return [worker.thread for worker in stage._workers.values()]

    peers.wait_for(found)
    return found()


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


# With real peers


def real(box: Box, *names: str) -> tuple[NewItem, ...]:
    """Real files as a job's OUTPUT."""
    items = []
    for name in names:
        item = peers.item_of(peers.sample(name))
        target = box.folder / "job" / "OUTPUT" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(item.path.read_bytes())
        items.append(NewItem(f"OUTPUT/{name}", item.sop_instance, item.sop_class, item.transfer_syntax))
    return tuple(items)


@pytest.mark.peer
def test_a_dead_pacs_is_replaced_by_a_living_one(box: Box, tmp_path: Path) -> None:
    box.sender = StoreSender(OwnCalls(), peers.QUICK)
    items = real(box, "CT_small.dcm", "MR_small_RLE.dcm", "test-SR.dcm")
    nobody = DicomDestination("127.0.0.1", peers.free_port(), "BOX", "PACS")
    with peers.storescp(tmp_path / "stored") as scp:
        box.routed(entry(nobody, items, gate=True, has_fallback=True), entry(scp.destination, items, waits_for=0))
        with box.running():
            box.ends()
        assert sorted(scp.stored()) == sorted(item.sop_instance for item in items)
    assert box.states() == [S.REPLACED, S.DELIVERED]


@pytest.mark.peer
def test_a_pacs_that_comes_back_gets_everything(box: Box, tmp_path: Path) -> None:
    box.sender = StoreSender(OwnCalls(), peers.QUICK)
    items = real(box, "CT_small.dcm", "rtplan.dcm")
    port = peers.free_port()
    with box.running() as stage:
        with peers.storescp(tmp_path / "stored", "--abort-after", port=port) as scp:
            (number,) = box.routed(entry(scp.destination, items))
            stage.wake()
            peers.wait_for(lambda: len([n for n in box.notes if n[1] == "attempt"]) > 1)
        with peers.storescp(tmp_path / "stored", port=port) as scp:
            box.ends()
            assert sorted(scp.stored()) == sorted(item.sop_instance for item in items)
    assert box.items(number) == [ItemState.SENT] * 2


@pytest.mark.peer
def test_a_thousand_small_instances_are_the_boxs_own_matter_for_a_second(box: Box, tmp_path: Path) -> None:
    """The limit here leaves room for storescp itself and for a busy machine."""
    box.sender = StoreSender(OwnCalls(), peers.QUICK)
    (small,) = real(box, "rtplan.dcm")
    items = [NewItem(small.file, f"1.2.3.{n}", small.sop_class, small.transfer_syntax) for n in range(1000)]
    with peers.storescp(tmp_path / "stored", "--ignore") as scp:
        box.routed(entry(scp.destination, items))
        began = time.monotonic()
        with box.running():
            box.ends()
        assert time.monotonic() - began < 5.0


def test_a_stop_breaks_off_a_peer_that_never_answers(box: Box) -> None:
    def never(talk: peers.Talk) -> None:
        talk.accept()

    box.sender = StoreSender(OwnCalls())
    with peers.ScriptedPeer([never]) as peer:
        (number,) = box.routed(entry(peer.destination, real(box, "CT_small.dcm")))
        stage = box.stage()
        stage.start()
        peers.wait_for(lambda: peer.talks and peer.talks[0].contexts)
        began = time.monotonic()
        assert stage.stop(0.2)
        assert time.monotonic() - began < 2.0
    assert box.items(number) == [ItemState.PENDING]
    assert box.states() == [S.OPEN]
