"""The stages go on whatever meets them: a ledger that refuses, no thread to be had, odd things in OUTPUT."""

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from boxes import Image, TestBox, new_box

from magickbox.allotment import unbounded
from magickbox.dropins.folder import Dropins
from magickbox.engine import Ended, Run
from magickbox.errors import LedgerError
from magickbox.job import Job, JobState
from magickbox.ledger import Ledger, Transaction
from magickbox.process import Process
from magickbox.processor import Processor
from magickbox.runs import runner as runs
from magickbox.runs.runner import Limits, Runner


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestBox]:
    monkeypatch.setattr(runs, "REFUSED_PAUSE", 0.01)
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


@dataclass
class Scripted:
    """An engine whose runs do what a test says."""

    act: Callable[[Run], None] = lambda _run: None
    ended: Ended = field(default_factory=lambda: Ended(0))

    def run(self, run: Run, started: Callable[[dict[str, object]], None]) -> Ended:
        started({})
        self.act(run)
        return self.ended

    def refusal(self, processor: Processor) -> str | None:
        return None

    def stop(self, name: str, reason: str) -> None:
        """Nothing to stop."""

    def leave(self, name: str) -> bool:
        return False

    def rejoin(self, run: Run) -> Ended | None:
        return None

    def sweep(self, spared: Collection[str] = ()) -> int:
        return 0

    def end_leftovers(self, name: str) -> int:
        return 0


@dataclass
class Stumbling:
    """Makes the ledger refuse the next transactions."""

    ledger: Ledger
    times: int = 0
    lines: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        good = self.ledger.transaction

        @contextmanager
        def transaction(*, soon: bool = False) -> Iterator[Transaction]:
            if self.times > 0:
                self.times -= 1
                raise LedgerError("the ledger cannot be written: database is locked")
            with good(soon=soon) as tx:
                yield tx

        self.ledger.transaction = transaction  # type: ignore[method-assign]  # a test's

    def note(self, level: str, event: str, facts: Mapping[str, object]) -> None:
        self.lines.append((level, event, dict(facts)))


def a_runner(box: TestBox, engine: Scripted, note: Callable[..., None] = lambda *_: None) -> Runner:
    return Runner(box.ledger, engine, lambda job: box.data.jobs / job, Limits(), lambda: True, lambda: None, note)


def a_processor(tmp_path: Path) -> Processor:
    return Processor("Proc", tmp_path, ("/bin/true",), "Proc")


def run_once(box: TestBox, tmp_path: Path, job: Job, act: Callable[[Run], None], note: Callable[..., None]) -> bool:
    return a_runner(box, Scripted(act), note).run(job, a_processor(tmp_path), lambda: False)


def test_a_good_result_waits_for_a_ledger_that_refuses(box: TestBox, tmp_path: Path) -> None:
    job, ledger = box.job(Image("1.2.1")), Stumbling(box.ledger)

    def act(run: Run) -> None:
        (run.output / "result.txt").write_text("x")
        ledger.times = 5

    assert run_once(box, tmp_path, job, act, ledger.note)
    assert (box.row(job).state, box.row(job).outcome) == (JobState.PROCESSED, "success")
    assert (box.folder(job).output / "result.txt").exists()
    assert [event for _, event, _ in ledger.lines] == ["waits", "processed"], "noted once a minute"


def test_a_run_that_says_nothing_is_ready_again_when_the_ledger_is_back(box: TestBox, tmp_path: Path) -> None:
    job, ledger = box.job(Image("1.2.1")), Stumbling(box.ledger)

    def act(_run: Run) -> None:
        ledger.times = 5
        raise RuntimeError("stumbled")

    assert not run_once(box, tmp_path, job, act, ledger.note)
    assert box.row(job).state is JobState.READY


@pytest.mark.parametrize("not_begun", [True, False])
def test_what_cannot_even_begin_waits_and_what_is_broken_off_three_times_is_held(
    box: TestBox, tmp_path: Path, not_begun: bool
) -> None:
    job = box.job(Image("1.2.1"))
    engine = Scripted(ended=Ended(None, interrupted="nothing starts here", not_begun=not_begun))
    runner = a_runner(box, engine)
    for _ in range(3):
        assert not runner.run(box.row(job), a_processor(tmp_path), lambda: False)
    assert box.row(job).state is (JobState.READY if not_begun else JobState.HELD)
    assert box.row(job).reason.endswith("nothing starts here")
    engine.ended = Ended(0)
    if not_begun:
        assert runner.run(box.row(job), a_processor(tmp_path), lambda: False)
        assert box.row(job).outcome == "success"


def test_damage_is_a_ledger_error_and_a_bug_is_not(box: TestBox) -> None:
    with pytest.raises(LedgerError, match="malformed"), box.ledger.transaction():
        raise sqlite3.DatabaseError("database disk image is malformed")
    with pytest.raises(LedgerError, match="malformed"), box.ledger.reading():
        raise sqlite3.DatabaseError("database disk image is malformed")
    with pytest.raises(sqlite3.IntegrityError), box.ledger.transaction():
        raise sqlite3.IntegrityError("a bug")
    with pytest.raises(sqlite3.ProgrammingError), box.ledger.reading():
        raise sqlite3.ProgrammingError("a bug")


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_processed(stage: Process, box: TestBox, job: Job) -> bool:
    stage.wake()
    return box.row(job).state is JobState.PROCESSED


@contextmanager
def a_process(box: TestBox, dropins: Callable[[], Dropins], note: Callable[..., None]) -> Iterator[Process]:
    stage = Process(
        box.ledger, a_runner(box, Scripted()), lambda job: box.data.jobs / job, dropins, unbounded(1), lambda: True,
        lambda: None, note,
    )  # fmt: skip
    stage.start()
    yield stage
    stage.stop(5)


def test_the_stage_outlives_anything_a_round_meets(box: TestBox, tmp_path: Path) -> None:
    job, ledger = box.job(Image("1.2.1")), Stumbling(box.ledger)
    trouble = [RuntimeError("odd"), sqlite3.DatabaseError("odd")]

    def dropins() -> Dropins:
        if trouble:
            raise trouble.pop()
        return Dropins((a_processor(tmp_path),), ())

    with a_process(box, dropins, ledger.note) as stage:
        until(lambda: is_processed(stage, box, job))
    assert [event for _, event, _ in ledger.lines] == ["waits"]


def test_a_thread_that_cannot_start_costs_neither_slot_nor_job(
    box: TestBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, real = box.job(Image("1.2.1")), threading.Thread.start
    refused: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("run ") and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr("magickbox.process.PAUSE", 0.01)
    with a_process(box, lambda: Dropins((a_processor(tmp_path),), ()), lambda *_: None) as stage:
        until(lambda: is_processed(stage, box, job))
    assert refused


def test_those_who_wait_cost_nothing_and_a_birth_beside_them_a_look_at_the_new_job_only(
    box: TestBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magickbox.process.LOOK_EVERY", 0.01)
    monkeypatch.setattr("magickbox.process.TELL_AFTER", 0.0)
    monkeypatch.setattr("magickbox.waitingroom.COUNT_EVERY", 0.05)
    queue = [box.job(Image(f"1.2.{n}", study=f"1.9.{n}")) for n in range(40)]
    go_on, asked, rounds = threading.Event(), list[str](), list[int]()

    def act(_run: Run) -> None:
        go_on.wait(20)

    def has_room() -> bool:
        rounds.append(1)
        return True

    stage = Process(
        box.ledger, a_runner(box, Scripted(act)), lambda job: box.data.jobs / job,
        lambda: Dropins((a_processor(tmp_path),), ()), unbounded(1), has_room, lambda: None, lambda *_: None,
    )  # fmt: skip
    stage.start()
    until(lambda: "waits for a free slot: 1 of 1 are taken" in {box.row(job).reason for job in queue})
    last = box.job(Image("1.3.1", study="1.8.1"))
    until(lambda: counted_again(box, rounds))
    box.ledger._connection.set_trace_callback(asked.append)
    before = len(rounds)
    until(lambda: len(rounds) > before + 20)
    assert asked == [], "nobody is looked at while nothing changes"
    stage.wake()
    before = len(rounds)
    until(lambda: len(rounds) > before + 20)
    box.ledger._connection.set_trace_callback(None)
    looks = [statement for statement in asked if statement not in ("BEGIN", "ROLLBACK")]
    assert [statement.partition("since >= '")[2][:2] for statement in looks] == ["20"], "only at those of late"
    go_on.set()
    until(lambda: all(box.row(job).state is JobState.PROCESSED for job in (*queue, last)))
    stage.stop(5)


def counted_again(box: TestBox, rounds: list[int]) -> bool:
    """True when the stage has found the job that nobody announced, and asks the ledger no more."""
    asked: list[str] = []
    box.ledger._connection.set_trace_callback(asked.append)
    before = len(rounds)
    until(lambda: len(rounds) > before + 100)
    box.ledger._connection.set_trace_callback(None)
    return not asked


def test_a_stage_that_was_never_started_can_be_stopped(box: TestBox) -> None:
    stage = Process(
        box.ledger, a_runner(box, Scripted()), lambda job: box.data.jobs / job, lambda: Dropins((), ()), unbounded(1),
        lambda: True, lambda: None, lambda *_: None,
    )  # fmt: skip
    stage.stop(1)
