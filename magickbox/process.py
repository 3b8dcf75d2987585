"""The second stage: a job that is READY meets its processor, waits with a reason, or is passed on without one."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from magickbox.association import same_title
from magickbox.clock import to_text
from magickbox.dropins.folder import BadDropin, Dropins
from magickbox.errors import MagickboxError
from magickbox.job import Job, JobState, Move
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Ledger, jobs
from magickbox.logs import Note, Seldom
from magickbox.processor import NO_PROCESSOR, Outcome, Processor, choose
from magickbox.runs.runner import Runner

PAUSE = 5.0  # seconds until a run that said nothing is made again
LONGEST_PAUSE, AT_ONCE = 300.0, 3  # it grows to this, from so many in a row on
LOOK_EVERY = 1.0  # seconds until all jobs that are READY are looked at again; more if such a look costs much
OVERLAP = timedelta(seconds=5)  # a job may be recorded so much later than it says it became READY
SHARE = 20  # of the time goes into such looks: a twentieth at most


class Process:
    """Gives READY jobs to their processors, at most ``slots`` at once, each in a thread of its own."""

    def __init__(
        self,
        ledger: Ledger,
        runner: Runner,
        folder_of: Callable[[str], Path],
        dropins: Callable[[], Dropins],
        slots: int,
        has_room: Callable[[], bool],
        on_processed: Callable[[], None],
        note: Note,
    ) -> None:
        self._ledger, self._runner, self._folder_of = ledger, runner, folder_of
        self._dropins, self._slots, self._has_room = dropins, slots, has_room
        self._on_processed, self._note = on_processed, note
        self._wake, self._changed = threading.Event(), threading.Event()
        self._ahead: dict[str, Job] = {}  # those that only wait for a slot, in their order
        self._look_again, self._newest = float("-inf"), datetime.fromtimestamp(0, UTC)
        self._stopping = threading.Event()
        self._running: dict[str, threading.Thread] = {}
        self._not_before: dict[str, float] = {}
        self._in_vain: dict[str, int] = {}
        self._once_good: dict[Path, Processor] = {}
        self._seldom = Seldom(note)
        self._outlived: list[Job] = []
        self._thread = threading.Thread(target=self._dispatch, name="process", daemon=True)

    def start(self) -> None:
        """Take up the runs that have outlived the box, each in a slot, and start to take READY jobs."""
        for job in self._outlived:
            self._take_up(job)
        self._thread.start()

    def rejoin(self, job: Job) -> None:
        """Wait for the run of a RUNNING job in a thread of its own; before ``start`` it is kept until then."""
        if self._thread.is_alive():
            self._take_up(job)
        else:
            self._outlived.append(job)

    def _take_up(self, job: Job) -> None:
        self._give(job, partial(self._runner.rejoin, job, self._stopping.is_set))

    def wake(self) -> None:
        """Something changed: a job was born or released, a processor appeared."""
        self._changed.set()
        self._wake.set()

    def stop(self, patience: float) -> None:
        """End what runs; its jobs are READY again. What is not over after ``patience`` seconds is left to a restart."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        deadline = time.monotonic() + patience
        while (running := dict(self._running)) and time.monotonic() < deadline:
            # A run that was only about to start when it was told to stop is told again.
            for job in running:
                with suppress(MagickboxError):  # the ledger does not say which run it is: asked again
                    self._runner.stop(job, "the box stops")
            for thread in running.values():
                thread.join(0.2)

    def _dispatch(self) -> None:
        """The worker boundary: whatever a round meets, there is another one; trouble is noted once a minute."""
        while not self._stopping.is_set():
            self._wake.wait(timeout=1.0)
            self._wake.clear()
            try:
                if time.monotonic() >= self._look_again:
                    self._look_round()
                else:
                    self._go_on()
            except Exception as exc:  # noqa: BLE001  # worker boundary: nothing may end the stage
                self._seldom.note(
                    "", "error", "waits", {"reason": exc if isinstance(exc, MagickboxError) else repr(exc)}
                )

    def _go_on(self) -> None:
        """Between two looks at all jobs: fill the slots with those that wait for one, and look at what is new."""
        dropins = self._dropins()
        while self._ahead and len(self._running) < self._slots and not self._stopping.is_set():
            job = self._ahead.pop(next(iter(self._ahead)))
            with self._ledger.reading() as tx:
                now_is = jobs.get(tx, job.id)
            if now_is.state is JobState.READY and self._is_due(now_is):
                self._take_safely(now_is, dropins)
        if self._changed.is_set():
            self._changed.clear()
            with self._ledger.reading() as tx:
                ready = jobs.in_state(tx, JobState.READY, since=to_text(self._newest - OVERLAP))
            self._look_at([job for job in ready if job.id not in self._ahead], dropins)

    def _look_round(self) -> None:
        """Look at all jobs: what they wait for may have come, unannounced."""
        began = time.monotonic()
        self._changed.clear()
        dropins = self._dropins()
        self._remember(dropins)
        with self._ledger.reading() as tx:
            ready = jobs.in_state(tx, JobState.READY)
        self._ahead.clear()
        self._look_at(ready, dropins)
        now = time.monotonic()
        self._look_again = now + max(LOOK_EVERY, SHARE * (now - began))

    def _look_at(self, ready: list[Job], dropins: Dropins) -> None:
        self._newest = max((job.since for job in ready), default=self._newest)
        for job in ready:
            if not self._stopping.is_set() and self._is_due(job):
                self._take_safely(job, dropins)

    def _is_due(self, job: Job) -> bool:
        return job.id not in self._running and self._not_before.get(job.id, 0.0) <= time.monotonic()

    def _remember(self, dropins: Dropins) -> None:
        """Keep what drop-ins were when they were good: one that is being edited still has its called AE."""
        self._once_good.update({_home(processor): processor for processor in dropins.good})

    def _take_safely(self, job: Job, dropins: Dropins) -> None:
        """The worker boundary: a job that cannot be taken waits, and stops no other."""
        try:
            self._take(job, dropins)
        except Exception as exc:  # noqa: BLE001  # worker boundary: one bad job must not end the stage
            self._not_before[job.id] = time.monotonic() + PAUSE
            self._note("error", "waits", {"job": job.id, "reason": repr(exc)})

    def _take(self, job: Job, dropins: Dropins) -> None:
        """Give a READY job to its processor, pass it on if it has none, or say why it waits."""
        processor = choose(dropins.good, job.called_ae)
        bad = next((b for b in dropins.bad if self._would_serve(b, job.called_ae)), None)
        if dropins.away:
            self._wait(job, "the folder of the processors is not there")
        elif processor is None and bad is not None:
            self._wait(job, f"processor {bad.name} is bad: {bad.problems[0]}")
        elif processor is None:
            self._pass(job)
        elif (refusal := self._runner.refusal(processor)) is not None:
            self._wait(job, refusal)
        elif not self._has_room():
            self._wait(job, "the disk is below its free-space mark (min_free)")
        elif len(self._running) < self._slots:
            self._give(job, partial(self._runner.run, job, processor, self._stopping.is_set))
        else:
            self._ahead[job.id] = job

    def _give(self, job: Job, run: Callable[[], bool]) -> None:
        """Start the thread of one run; raises RuntimeError, after which its slot is free again."""
        thread = threading.Thread(target=self._work, args=(job, run), name=f"run {job.id}", daemon=True)
        self._running[job.id] = thread
        try:
            thread.start()
        except BaseException:
            self._running.pop(job.id, None)
            raise

    def _would_serve(self, bad: BadDropin, called_ae: str) -> bool:
        """True if a bad drop-in has the name of the called AE, or served it when it was good."""
        was = self._once_good.get(bad.path)
        return same_title(bad.name, called_ae) or (was is not None and choose((was,), called_ae) is not None)

    def _put_off(self, job: str) -> None:
        """A run said nothing: what keeps it from starting for hours is not tried every few seconds."""
        times = self._in_vain[job] = self._in_vain.get(job, 0) + 1
        pause = min(PAUSE * 2.0 ** max(0, min(times, 99) - AT_ONCE), LONGEST_PAUSE)
        self._not_before[job] = time.monotonic() + pause

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

    def _work(self, job: Job, run: Callable[[], bool]) -> None:
        """One run, in its own thread. The worker boundary: what it could not write down, a restart finds."""
        try:
            if run():
                self._in_vain.pop(job.id, None)
            else:
                self._put_off(job.id)
        except Exception as exc:  # noqa: BLE001  # worker boundary: a run's thread does not die unheard
            self._not_before[job.id] = time.monotonic() + PAUSE
            self._note("error", "stumbled", {"job": job.id, "reason": repr(exc)})
        finally:
            self._running.pop(job.id, None)
            self._wake.set()


def _home(processor: Processor) -> Path:
    """Where a drop-in is, as a bad one names it: its folder, or its one file."""
    lone = Path(processor.command[0] if processor.command else "")
    return lone if lone.stem == processor.name and lone.parent == processor.folder else processor.folder
