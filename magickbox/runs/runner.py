"""One run of a processor, from START to PROCESSED: steps 10 to 12 of section 8."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from magickbox.clock import now, to_text
from magickbox.engine import Ended, Engine, Run
from magickbox.errors import DiskFull, ForbiddenMove, GoesOn, LedgerError
from magickbox.job import Job, JobState, Move
from magickbox.jobfolder import AttemptFolder, JobFolder
from magickbox.ledger import Ledger, Transaction, jobs
from magickbox.logs import Note, Seldom
from magickbox.processor import Outcome, Processor, judge_run
from magickbox.runs import attempt as attempts
from magickbox.runs import steps, tries
from magickbox.runs.inputguard import InputGuard
from magickbox.steps import Reached, Step, unwatched

MAX_INTERRUPTED = 3
REFUSED_PAUSE = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Seconds that a processor may run if it does not say otherwise, and that it has to end when it is told to."""

    timeout: float = 3600.0
    stop_grace: float = 20.0


@dataclass(frozen=True)
class _Attempt:
    """A run that is under way."""

    job: str
    n: int
    folder: JobFolder
    attempt: AttemptFolder
    processor: Processor


class Runner:
    """Runs a processor for a job and writes down what came of it; safe from several threads, one job each."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        folder_of: Callable[[str], Path],
        limits: Limits,
        has_room: Callable[[], bool],
        on_processed: Callable[[], None],
        note: Note,
        reached: Reached = unwatched,
    ) -> None:
        self._ledger, self._engine, self._folder_of, self._limits = ledger, engine, folder_of, limits
        self._has_room, self._on_processed, self._note, self._reached = has_room, on_processed, note, reached

    def stop(self, job: str, reason: str) -> None:
        """Tell the run of a job to end; another thread waits for it in ``run``."""
        with self._ledger.reading() as tx:
            self._engine.stop(run_name(job, jobs.get(tx, job).attempt), reason)

    def leave(self, job: str, reason: str) -> None:
        """The box stops: let the run of a job go on if its engine can, else tell it to end."""
        with self._ledger.reading() as tx:
            name = run_name(job, jobs.get(tx, job).attempt)
        if not self._engine.leave(name):
            self._engine.stop(name, reason)

    def refusal(self, processor: Processor) -> str | None:
        """Why jobs of this processor have to wait; see ``engine.Engine.refusal``."""
        return self._engine.refusal(processor)

    def run(self, job: Job, processor: Processor, stopping: Callable[[], bool]) -> bool:
        """Run to the end; False if the run says nothing and is to be made again. The worker boundary: never raises."""
        return self._bounded(job, lambda: self._run(job, processor, stopping))

    def rejoin(self, job: Job, stopping: Callable[[], bool]) -> bool:
        """Wait for a run that has outlived the box, to its end; the same as ``run``, whose worker boundary this is."""
        return self._bounded(job, lambda: self._rejoin(job, stopping))

    def abandon(self, job: Job, why: str = "the box ended while it was running") -> None:
        """End what still lives of a run that a killed box had started, and interrupt it."""
        ended = self._engine.end_leftovers(run_name(job.id, job.attempt))
        attempts.clear(JobFolder(self._folder_of(job.id)).attempt(job.attempt))
        with self._ledger.transaction() as tx:
            moved = interrupt(tx, job.id, why, counts=True)
        facts = {"job": job.id, "attempt": job.attempt, "processes-ended": ended, "state": moved.state}
        self._note("warning", "interrupted", facts)

    def _bounded(self, job: Job, work: Callable[[], bool]) -> bool:
        try:
            return work()
        except ForbiddenMove:
            return True  # held or deleted by a person just before it could start
        except GoesOn as exc:
            self._note("info", "goes-on", {"job": job.id, "reason": exc})
            return True
        except DiskFull as exc:
            self._interrupt(job.id, f"the disk is full: {exc}", counts=False)
        except LedgerError as exc:
            self._interrupt(job.id, str(exc), counts=False)
        except OSError as exc:
            self._interrupt(job.id, f"trouble on the box's side: {exc}", counts=not attempts.is_shortage(exc))
        except Exception as exc:  # noqa: BLE001  # worker boundary: one bad run must not end the stage
            self._interrupt(job.id, f"the box stumbled: {exc!r}", counts=True)
        return False

    def _run(self, job: Job, processor: Processor, stopping: Callable[[], bool]) -> bool:
        n = job.attempt + 1
        folder = JobFolder(self._folder_of(job.id))
        under_way = _Attempt(job.id, n, folder, folder.attempt(n), processor)
        with self._ledger.transaction() as tx:
            jobs.move(tx, job.id, Move.START, f"attempt {n} by {processor.name}", attempt=n, processor=processor.name)
            jobs.begin_attempt(tx, job.id, n, processor.name, processor.version, processor.digest)
            instances = tuple(h.instance for h in jobs.held_by(tx, job.id) if h.place != "superseded")
        self._reached(Step.RUN_RECORDED)
        with self._cleared(under_way.attempt):
            attempts.prepare(folder, n, tuple(i.file for i in instances))
            guard = InputGuard(folder.input, instances)
            self._reached(Step.RUN_PREPARED)
            ended = self._engine.run(self._as_run(under_way), self._started(under_way))
            self._reached(Step.RUN_ENDED)
            return self._collect(under_way, ended, guard, stopping())

    def _rejoin(self, job: Job, stopping: Callable[[], bool]) -> bool:
        folder = JobFolder(self._folder_of(job.id))
        attempt = folder.attempt(job.attempt)
        with self._cleared(attempt, run_name(job.id, job.attempt)):
            with self._ledger.reading() as tx:
                instances = tuple(h.instance for h in jobs.held_by(tx, job.id) if h.place != "superseded")
            self._note("info", "rejoin", {"job": job.id, "attempt": job.attempt})
            processor = attempts.read_lasting_run(attempt)
            under_way = _Attempt(job.id, job.attempt, folder, attempt, processor) if processor is not None else None
            ended = self._engine.rejoin(self._as_run(under_way)) if under_way is not None else None
            if under_way is None or ended is None:
                self.abandon(job)
                return False
            self._reached(Step.RUN_ENDED)
            return self._collect(under_way, ended, InputGuard(folder.input, instances, is_late=True), stopping())

    @contextmanager
    def _cleared(self, attempt: AttemptFolder, leftovers: str | None = None) -> Iterator[None]:
        """Take away afterwards what the run needed only while it ran; nothing of one that goes on without the box."""
        try:
            yield
        except GoesOn:
            raise
        except BaseException as exc:
            self._clear(attempt, leftovers)
            if isinstance(exc, DiskFull) or (isinstance(exc, OSError) and attempts.is_shortage(exc)):
                steps.give_room(attempt)
            raise
        self._clear(attempt, leftovers)

    def _clear(self, attempt: AttemptFolder, leftovers: str | None) -> None:
        if leftovers is not None:
            self._engine.end_leftovers(leftovers)
        attempts.clear(attempt)

    def _as_run(self, under_way: _Attempt) -> Run:
        return Run(
            name=run_name(under_way.job, under_way.n),
            job=under_way.job,
            attempt=under_way.n,
            processor=under_way.processor,
            workdir=under_way.attempt.path,
            log=under_way.folder.log,
            timeout=under_way.processor.timeout or self._limits.timeout,
            stop_grace=self._limits.stop_grace,
        )

    def _started(self, under_way: _Attempt) -> Callable[[dict[str, object]], None]:
        began = to_text(now())

        def note_it(handle: dict[str, object]) -> None:
            attempts.write_run(under_way.attempt, under_way.processor, began, handle)
            self._reached(Step.RUN_STARTED)

        return note_it

    def _collect(self, under_way: _Attempt, ended: Ended, guard: InputGuard, stopping: bool) -> bool:
        """Step 11: what the run came to, durable; True unless it says nothing."""
        changed = guard.changed()
        if changed is not None:
            self._surely(under_way.job, lambda: self._hold_changed(under_way, changed))
        elif ended.interrupted is not None:
            self._interrupt(under_way.job, ended.interrupted, counts=not (stopping or ended.not_begun))
            return False
        elif ended.exit_code != 0 and ended.trouble is None and not self._has_room():
            attempts.clear(under_way.attempt, keep_output=False)
            self._interrupt(under_way.job, f"the disk ran full (exit code {ended.exit_code})", counts=True)
            return False
        else:
            said = attempts.read_said(under_way.attempt)
            sealed = attempts.seal(under_way.attempt, ended.met)
            outcome = judge_run(ended.exit_code, said, ended.last_line, ended.trouble or sealed.trouble)
            if self._is_tried_again(under_way, ended, outcome):
                return True
            outcome = tries.after_all(self._ledger, under_way.job, under_way.processor.retry, outcome)
            result = attempts.RunResult(ended.exit_code, attempts.with_remark(outcome, sealed))
            attempts.write_result(under_way.attempt, result)
            self._reached(Step.RUN_RESULT)
            self._surely(under_way.job, lambda: self.finish(under_way.job, under_way.folder, under_way.n, result))
        return True

    def _is_tried_again(self, under_way: _Attempt, ended: Ended, outcome: Outcome) -> bool:
        """True if a run failed passingly, by its processor's own word, and the job is READY for another one."""
        job, n = under_way.job, under_way.n
        another = tries.again(self._ledger, job, under_way.processor.retry, ended, outcome)
        if another is None:
            return False
        attempts.clear(under_way.attempt, keep_output=False)
        self._surely(job, lambda: tries.write(self._ledger, job, n, ended.exit_code, another))
        self._note("warning", "tried-again", {"job": job, "attempt": n, "cause": another.cause, "pause": another.pause})
        return True

    def finish(self, job: str, folder: JobFolder, n: int, result: attempts.RunResult) -> None:
        """Step 12, from wherever it stands: OUTPUT renamed, proc.json written, the job PROCESSED."""
        attempts.publish(folder, folder.attempt(n), result)
        self._reached(Step.RUN_PUBLISHED)
        folder.write_proc(result.outcome.as_proc_json())
        self._reached(Step.RUN_SAID)
        o = result.outcome
        why = f"outcome {o.success}" + (f": {o.message}" if o.message else "")
        with self._ledger.transaction() as tx:
            jobs.end_attempt(tx, job, n, result.exit_code, o.success, o.message)
            moved = jobs.move(tx, job, Move.FINISH, why, outcome=o.success, message=o.message, interrupted=0)
            if moved.hold_asked:
                jobs.move(tx, job, Move.HOLD, "held, as asked while it was running")
        self._reached(Step.PROCESSED)
        attempts.clear(folder.attempt(n))
        steps.tidy(folder.attempt(n))
        # What the processor says may name a patient: it stands in proc.json and the ledger, not in a log.
        facts = {"job": job, "attempt": n, "outcome": o.success[:64], "exit": result.exit_code}
        level = "info" if o.success.casefold() == "success" else "warning"
        self._note(level, "processed", {**facts, "says": f"jobs/{job}/proc.json"})
        self._on_processed()

    def _hold_changed(self, under_way: _Attempt, file: str) -> None:
        why = f"the processor changed INPUT/{file}; what was received may be damaged"
        steps.forget(under_way.attempt)
        with self._ledger.transaction() as tx:
            jobs.end_attempt(tx, under_way.job, under_way.n, None, "held", why)
            jobs.move(tx, under_way.job, Move.HOLD, why)
        self._note("error", "held", {"job": under_way.job, "attempt": under_way.n, "reason": why})

    def _interrupt(self, job: str, why: str, counts: bool) -> None:
        """A run that says nothing: the job is READY again, and HELD the third time in a row."""

        def write() -> Job:
            with self._ledger.transaction() as tx:
                return interrupt(tx, job, why, counts)

        moved = self._surely(job, write)
        self._note("warning", "interrupted", {"job": job, "state": moved.state, "reason": why})

    def _surely(self, job: str, write: Callable[[], T]) -> T:
        """Write what must not be lost: again and again while ledger or disk refuse, which is noted each minute."""
        seldom = Seldom(self._note)
        while True:
            try:
                return write()
            except (LedgerError, DiskFull, OSError) as exc:
                if isinstance(exc, OSError) and not attempts.is_shortage(exc):
                    raise
                seldom.note(job, "error", "waits", {"job": job, "reason": exc})
            time.sleep(REFUSED_PAUSE)


def interrupt(tx: Transaction, job: str, why: str, counts: bool) -> Job:
    """End the present attempt as interrupted; does nothing if the job is not RUNNING any more."""
    found = jobs.get(tx, job)
    if found.state is not JobState.RUNNING:
        return found
    times = found.interrupted + int(counts and not found.hold_asked)
    jobs.end_attempt(tx, job, found.attempt, None, "interrupted", why)
    if times >= MAX_INTERRUPTED:
        return jobs.move(tx, job, Move.HOLD, f"interrupted {times} times in a row; the last time: {why}", interrupted=0)
    moved = jobs.move(tx, job, Move.INTERRUPT, f"interrupted: {why}", interrupted=times)
    if moved.hold_asked:
        moved = jobs.move(tx, job, Move.HOLD, f"held, as asked while it was running ({why})")
    return moved


def run_name(job: str, attempt: int) -> str:
    """How a run is found again after a kill of the box."""
    return f"mb-{job}-{attempt}"
