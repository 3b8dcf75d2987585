"""The second stage: a job that is READY meets its processor, and comes out with an outcome."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from magickbox import attempt as attempts
from magickbox.association import same_title
from magickbox.clock import now, to_text
from magickbox.dropins import Dropins
from magickbox.engine import Ended, Engine, Run
from magickbox.errors import DiskFull, MagickboxError
from magickbox.inputguard import InputGuard
from magickbox.job import Job, JobState, Move
from magickbox.jobfolder import AttemptFolder, JobFolder
from magickbox.ledger import Ledger, Transaction, jobs
from magickbox.logs import Note
from magickbox.processor import NO_PROCESSOR, Outcome, Processor, choose, judge_run
from magickbox.steps import Reached, Step, unwatched

MAX_INTERRUPTED = 3
PAUSE = 5.0


@dataclass(frozen=True)
class Slots:
    """How many processors run at once, how long one may run, and how long it has to end when it is told to."""

    count: int = 1
    timeout: float = 3600.0
    stop_grace: float = 20.0


class Process:
    """Runs processors, at most ``slots.count`` at once, each in a thread of its own."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        folder_of: Callable[[str], Path],
        dropins: Callable[[], Dropins],
        slots: Slots,
        has_room: Callable[[], bool],
        on_processed: Callable[[], None],
        note: Note,
        reached: Reached = unwatched,
    ) -> None:
        self._ledger, self._engine, self._folder_of = ledger, engine, folder_of
        self._dropins, self._slots, self._has_room = dropins, slots, has_room
        self._on_processed, self._note, self._reached = on_processed, note, reached
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._running: dict[str, threading.Thread] = {}
        self._not_before: dict[str, float] = {}
        self._thread = threading.Thread(target=self._dispatch, name="process", daemon=True)

    def start(self) -> None:
        """Start to take READY jobs."""
        self._thread.start()

    def wake(self) -> None:
        """Something changed: a job was born or released, a processor appeared, a slot is free."""
        self._wake.set()

    def stop(self) -> None:
        """End what runs (``stop_grace``); its jobs are READY again."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        while running := dict(self._running):
            # A run that was only about to start when it was told to stop is told again.
            for job in running:
                self._engine.stop(_run_name(job, self._attempt_of(job)), "the box stops")
            for thread in running.values():
                thread.join(0.2)

    def _attempt_of(self, job: str) -> int:
        with self._ledger.reading() as tx:
            return jobs.get(tx, job).attempt

    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(timeout=1.0)
            self._wake.clear()
            self._running = {job: t for job, t in self._running.items() if t.is_alive()}
            try:
                self._take_ready()
            except MagickboxError as exc:
                self._note("error", "waits", {"reason": exc})

    def _take_ready(self) -> None:
        with self._ledger.reading() as tx:
            ready = jobs.in_state(tx, JobState.READY)
        for job in ready:
            if self._stopping.is_set() or job.id in self._running:
                continue
            if self._not_before.get(job.id, 0.0) <= time.monotonic():
                self._take(job)

    def _take(self, job: Job) -> None:
        """Give a READY job to its processor, pass it on if it has none, or say why it waits."""
        dropins = self._dropins()
        if dropins.away:
            self._wait(job, "the folder of the processors is not there")
            return
        bad = [b for b in dropins.bad if same_title(b.name, job.called_ae)]
        processor = choose(dropins.good, job.called_ae)
        if processor is None and bad:
            self._wait(job, f"processor {bad[0].name} is bad: {bad[0].problems[0]}")
        elif processor is None:
            self._pass(job)
        elif not self._has_room():
            self._wait(job, "the disk is below its free-space mark (min_free)")
        elif len(self._running) < self._slots.count:
            thread = threading.Thread(target=self._work, args=(job, processor), name=f"run {job.id}", daemon=True)
            self._running[job.id] = thread
            thread.start()

    def _wait(self, job: Job, why: str) -> None:
        self._not_before[job.id] = time.monotonic() + 1.0
        if job.reason != why:
            with self._ledger.transaction() as tx:
                jobs.note(tx, job.id, why)
            self._note("warning", "waits", {"job": job.id, "reason": why})

    def _pass(self, job: Job) -> None:
        """No processor serves the called AE: the box is a plain router."""
        message = f"no processor serves {job.called_ae}"
        JobFolder(self._folder_of(job.id)).write_proc(Outcome(NO_PROCESSOR, message).as_proc_json())
        with self._ledger.transaction() as tx:
            jobs.move(tx, job.id, Move.PASS, message, outcome=NO_PROCESSOR, message=message)
        self._note("info", "passed", {"job": job.id, "outcome": NO_PROCESSOR, "reason": message})
        self._on_processed()

    # --- one run, in its own thread ---------------------------------------------------------------------------------

    def _work(self, job: Job, processor: Processor) -> None:
        """The worker boundary: whatever goes wrong, the job ends in a state that says so."""
        try:
            self._run(job, processor)
        except (OSError, DiskFull) as exc:
            self._interrupt(job.id, f"trouble on the box's side: {exc}", counts=False)
        except Exception as exc:  # noqa: BLE001  # worker boundary: one bad run must not end the stage
            self._note("error", "run-broke", {"job": job.id, "reason": repr(exc)})
            self._interrupt(job.id, f"the box stumbled: {exc!r}", counts=True)
        finally:
            self._running.pop(job.id, None)
            self._wake.set()

    def _run(self, job: Job, processor: Processor) -> None:
        """Steps 10 to 12."""
        n = job.attempt + 1
        with self._ledger.transaction() as tx:
            jobs.move(tx, job.id, Move.START, f"attempt {n} by {processor.name}", attempt=n, processor=processor.name)
            jobs.begin_attempt(tx, job.id, n, processor.name, processor.version, processor.digest)
            instances = tuple(h.instance for h in jobs.held_by(tx, job.id) if h.place != "superseded")
        self._reached(Step.RUN_RECORDED)
        folder = JobFolder(self._folder_of(job.id))
        attempt = attempts.prepare(folder, n, tuple(i.file for i in instances))
        guard = InputGuard(folder.input, instances)
        self._reached(Step.RUN_PREPARED)
        ended = self._engine.run(self._as_run(job, n, processor, folder, attempt), self._started(attempt, processor))
        self._reached(Step.RUN_ENDED)
        self._collect(job, folder, attempt, n, ended, guard)

    def _as_run(self, job: Job, n: int, processor: Processor, folder: JobFolder, attempt: AttemptFolder) -> Run:
        return Run(
            name=_run_name(job.id, n),
            job=job.id,
            attempt=n,
            processor=processor,
            workdir=attempt.path,
            log=folder.log,
            timeout=processor.timeout or self._slots.timeout,
            stop_grace=self._slots.stop_grace,
        )

    def _started(self, attempt: AttemptFolder, processor: Processor) -> Callable[[dict[str, object]], None]:
        began = to_text(now())

        def note_it(handle: dict[str, object]) -> None:
            attempts.write_run(attempt, processor, began, handle)
            self._reached(Step.RUN_STARTED)

        return note_it

    def _collect(
        self, job: Job, folder: JobFolder, attempt: AttemptFolder, n: int, ended: Ended, guard: InputGuard
    ) -> None:
        changed = guard.changed()
        if changed is not None:
            self._hold_changed(job.id, n, changed)
        elif ended.interrupted is not None:
            attempts.clear(attempt)
            self._interrupt(job.id, ended.interrupted, counts=not self._stopping.is_set())
        elif ended.exit_code != 0 and ended.trouble is None and not self._has_room():
            attempts.clear(attempt, keep_output=False)
            self._interrupt(job.id, f"the disk ran full (exit code {ended.exit_code}: {ended.last_line})", counts=True)
        else:
            outcome = judge_run(ended.exit_code, attempts.read_said(attempt), ended.last_line, ended.trouble)
            attempts.seal(attempt)
            result = attempts.RunResult(ended.exit_code, outcome)
            attempts.write_result(attempt, result)
            self._reached(Step.RUN_RESULT)
            self.finish(job.id, folder, attempt, n, result)

    def finish(self, job: str, folder: JobFolder, attempt: AttemptFolder, n: int, result: attempts.RunResult) -> None:
        """Step 12, from wherever it stands: OUTPUT renamed, proc.json written, the job PROCESSED."""
        attempts.publish(folder, attempt, result)
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
        attempts.clear(attempt)
        level = "info" if o.success.casefold() == "success" else "warning"
        self._note(level, "processed", {"job": job, "attempt": n, "outcome": o.success, "reason": o.message})
        self._on_processed()

    def _hold_changed(self, job: str, n: int, file: str) -> None:
        why = f"the processor changed INPUT/{file}; what was received may be damaged"
        with self._ledger.transaction() as tx:
            jobs.end_attempt(tx, job, n, None, "held", why)
            jobs.move(tx, job, Move.HOLD, why)
        self._note("error", "held", {"job": job, "attempt": n, "reason": why})

    def _interrupt(self, job: str, why: str, counts: bool) -> None:
        """A run that says nothing: the job is READY again, and HELD the third time in a row."""
        while True:
            try:
                with self._ledger.transaction() as tx:
                    interrupt(tx, job, why, counts)
                break
            except DiskFull:
                time.sleep(1.0)
        self._not_before[job] = time.monotonic() + PAUSE
        self._note("warning", "interrupted", {"job": job, "reason": why})


def interrupt(tx: Transaction, job: str, why: str, counts: bool) -> Job:
    """End the present attempt as interrupted; raises nothing if the job is not RUNNING any more."""
    found = jobs.get(tx, job)
    if found.state is not JobState.RUNNING:
        return found
    times = found.interrupted + int(counts)
    jobs.end_attempt(tx, job, found.attempt, None, "interrupted", why)
    if times >= MAX_INTERRUPTED:
        return jobs.move(tx, job, Move.HOLD, f"interrupted {times} times in a row; the last time: {why}", interrupted=0)
    moved = jobs.move(tx, job, Move.INTERRUPT, f"interrupted: {why}", interrupted=times)
    if moved.hold_asked:
        moved = jobs.move(tx, job, Move.HOLD, "held, as asked while it was running")
    return moved


def _run_name(job: str, attempt: int) -> str:
    return f"mb-{job}-{attempt}"
