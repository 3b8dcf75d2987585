"""The second stage: a job that is READY meets its processor, waits with a reason, or is passed on without one."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from magickbox.allotment import Amount, asked_by
from magickbox.clock import to_text
from magickbox.dropins.folder import Dropins
from magickbox.errors import MagickboxError
from magickbox.job import Job, JobState, Move
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Ledger, jobs
from magickbox.logs import Note, Seldom
from magickbox.meeting import Meetings
from magickbox.processor import NO_PROCESSOR, Outcome, Processor
from magickbox.runs.runner import Runner
from magickbox.schedule import ALWAYS, Hours
from magickbox.slots import Slots
from magickbox.waiting import Head, Place, in_order, next_of, shortages
from magickbox.waitingroom import AT_A_TIME, WaitingRoom

PAUSE = 5.0  # seconds until a run that said nothing is made again
LONGEST_PAUSE, AT_ONCE = 300.0, 3  # it grows to this, from so many in a row on
LOOK_EVERY = 1.0  # seconds until it is looked again for what nobody announces: room on disk, an image, a sandbox
TELL_AFTER = 5.0  # seconds that a job waits for room before that is written down
TELL_EVERY = 60.0  # seconds until it is written down anew, if it waits for something else or for more


class Process:
    """Gives READY jobs to their processors, as many at once as there is ``room`` for, each in a thread of its own."""

    def __init__(
        self,
        ledger: Ledger,
        runner: Runner,
        folder_of: Callable[[str], Path],
        dropins: Callable[[], Dropins],
        room: Amount,
        has_room: Callable[[], bool],
        on_processed: Callable[[], None],
        note: Note,
        off_peak: Hours = ALWAYS,
    ) -> None:
        self._ledger, self._runner, self._folder_of, self._dropins = ledger, runner, folder_of, dropins
        self._on_processed, self._note, self._seldom = on_processed, note, Seldom(note)
        self._meetings = Meetings(runner.refusal, has_room, room, off_peak)
        self._slots, self._waiting = Slots(room), WaitingRoom(ledger, note)
        self._wake, self._changed, self._stopping = threading.Event(), threading.Event(), threading.Event()
        self._in_vain: dict[str, int] = {}
        self._cancelled: dict[str, str] = {}  # jobs whose runs are to end, and why
        self._outlived: list[Job] = []
        self._thread = threading.Thread(target=self._dispatch, name="process", daemon=True)

    def start(self) -> None:
        """Take up the runs that have outlived the box, each in a slot, and start to take READY jobs."""
        for job in self._outlived:
            self._take_up(job)
        self._wake.set()
        self._thread.start()

    def rejoin(self, job: Job) -> None:
        """Wait for the run of a RUNNING job in a thread of its own; before ``start`` it is kept until then."""
        if self._thread.is_alive():
            self._take_up(job)
        else:
            self._outlived.append(job)

    def _take_up(self, job: Job) -> None:
        known = next((one for one in self._dropins().good if one.name == job.processor), None)
        rejoin = partial(self._runner.rejoin, job, self._stopping.is_set)
        self._give(job.id, job.attempt, job.processor or "", asked_by(known), rejoin)

    def wake(self) -> None:
        """Something changed: a job was born or released, a processor appeared."""
        self._changed.set()
        self._wake.set()

    def touch(self, job: str) -> None:
        """A person said something of a job: it may stand in another place now."""
        self._waiting.comes_back(job)
        self._wake.set()

    def cancel(self, job: str, why: str) -> None:
        """End the run of a job; one that is only about to start is told again until it has heard it."""
        self._cancelled[job] = why
        self._wake.set()

    def _end_cancelled(self) -> None:
        running = self._slots.running()
        for job, why in list(self._cancelled.items()):
            if job not in running:
                self._cancelled.pop(job, None)
                continue
            with suppress(MagickboxError):  # the ledger does not say which run it is: asked again
                self._runner.stop(job, why)

    def stop(self, patience: float) -> None:
        """End what runs; its jobs are READY again. What is not over after ``patience`` seconds is left to a restart."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        deadline = time.monotonic() + patience
        while (running := self._slots.running()) and time.monotonic() < deadline:
            # A run that was only about to start when it was told to stop is told again.
            for job in running:
                with suppress(MagickboxError):  # the ledger does not say which run it is: asked again
                    self._runner.leave(job, "the box stops")
            for thread in running.values():
                thread.join(0.2)

    def _dispatch(self) -> None:
        """The worker boundary: whatever a round meets, there is another one; trouble is noted once a minute."""
        while not self._stopping.is_set():
            self._wake.wait(timeout=LOOK_EVERY)
            self._wake.clear()
            try:
                self._round()
            except Exception as exc:  # noqa: BLE001  # worker boundary: nothing may end the stage
                self._waiting.doubt()
                said = exc if isinstance(exc, MagickboxError) else repr(exc)
                self._seldom.note("", "error", "waits", {"reason": said})

    def _round(self) -> None:
        """Take in who is new, start what fits, and say why the others wait."""
        self._end_cancelled()
        announced = self._changed.is_set()
        self._changed.clear()
        self._waiting.take_in(announced, self._slots.running())
        self._meetings.look(self._dropins())
        able: dict[Place, Processor] = {}
        goes_on = False
        for line in self._waiting.list.lines():
            met = self._meetings.of(line, datetime.now().astimezone())
            if met.processor is not None:
                able[line] = met.processor
            elif met.outcome is not None:
                goes_on |= self._pass_on(line, met.outcome, met.name)
            else:
                goes_on |= self._waiting.tell(line, met.waits, is_usual=met.is_usual)
        goes_on |= self._fill(able)
        if goes_on:  # with what was left over because others were to have their turn
            self._wake.set()

    def _fill(self, able: dict[Place, Processor]) -> bool:
        """Start what fits, in order; mark and tell what does not. True if there is more to tell."""
        while not self._stopping.is_set():
            full, free, moment = self._full(able.values()), self._slots.free(), time.monotonic()
            heads = self._heads({line: one for line, one in able.items() if one.name not in full})
            found = next_of(heads, free, moment)
            if found is None:
                why = shortages(heads, free, self._slots.room, moment)
                why |= {line: full[one.name] for line, one in able.items() if one.name in full}
                return self._tell_first(why, moment, short={head.line for head in heads})
            self._start(found, able[found.line])
        return False

    def _full(self, processors: Iterable[Processor]) -> dict[str, str]:
        """Those of which there are as many runs as may be at once, with what is told of those that wait for that."""
        running = self._slots.by_processor()
        return {
            one.name: f"waits until another run of {one.name} is over: {one.concurrency} at once (concurrency)"
            for one in processors
            if one.concurrency is not None and running[one.name] >= one.concurrency
        }

    def _heads(self, able: dict[Place, Processor]) -> list[Head]:
        waitlist = self._waiting.list
        heads = (
            waitlist.head(line, asked_by(processor), line.priority or processor.priority)
            for line, processor in able.items()
        )
        return in_order(head for head in heads if head is not None)

    def _tell_first(self, why: dict[Place, str], moment: float, short: set[Place]) -> bool:
        """Say of the first of each line why it waits, as soon as it has done so for some seconds."""
        goes_on = False
        for line, said in why.items():
            first = self._waiting.list.first(line)
            if first is None:
                continue
            since = self._waiting.list.waits(line, moment, is_short=line in short)
            if moment - since >= TELL_AFTER:
                self._waiting.tell_one(first, said)
                self._waiting.list.rest(line, moment + TELL_EVERY - TELL_AFTER)
            else:
                goes_on |= self._waiting.tell_turn(line)
        return goes_on

    def _start(self, head: Head, processor: Processor) -> None:
        """The worker boundary: a job that cannot be taken waits, and stops no other."""
        job = head.waiting.job
        self._waiting.list.remove(job)
        try:
            with self._ledger.reading() as tx:
                now_is = jobs.get(tx, job)
            if now_is.state is JobState.READY:
                run = partial(self._runner.run, now_is, processor, self._stopping.is_set)
                self._give(job, now_is.attempt + 1, processor.name, head.needs, run)
        except Exception as exc:  # noqa: BLE001  # worker boundary: one bad job must not end the stage
            self._leave(job, exc)

    def _leave(self, job: str, exc: Exception) -> None:
        """A job could not be taken: it is looked at again after a pause."""
        self._waiting.put_off(job, PAUSE)
        self._waiting.comes_back(job)
        self._note("error", "waits", {"job": job, "reason": repr(exc)})

    def _pass_on(self, line: Place, outcome: Outcome, processor: str | None) -> bool:
        """The jobs of a line are over without a run: none serves them (the box is a router), or none ever can.

        True if there are more of them.
        """
        for _ in range(AT_A_TIME):
            waiting = self._waiting.list.first(line)
            if waiting is None or self._stopping.is_set():
                return False
            self._waiting.list.remove(waiting.job)
            try:
                self._pass(waiting.job, outcome, processor)
            except Exception as exc:  # noqa: BLE001  # worker boundary: one bad job must not end the stage
                self._leave(waiting.job, exc)
        return True

    def _pass(self, job: str, outcome: Outcome, processor: str | None) -> None:
        word, message = outcome.success, outcome.message
        with self._ledger.reading() as tx:
            if jobs.get(tx, job).state is not JobState.READY:
                return
        JobFolder(self._folder_of(job)).write_proc(outcome.as_proc_json())
        with self._ledger.transaction() as tx:
            jobs.move(tx, job, Move.PASS, message, outcome=word, message=message, processor=processor)
        level = "info" if word == NO_PROCESSOR else "warning"
        self._note(level, "passed", {"job": job, "outcome": word, "reason": message})
        self._on_processed()

    # The runs

    def _give(self, job: str, attempt: int, processor: str, amount: Amount, run: Callable[[], bool]) -> None:
        """Start the thread of one run; raises RuntimeError, after which all that it would hold is free again."""
        work, over = partial(self._work, job, run), partial(self._over, job)
        self._slots.give(job, attempt, processor, amount, work, over)

    def runs(self) -> list[dict[str, object]]:
        """What runs now, the oldest first, with how far each says it is; for ``status``."""
        found = sorted(self._slots.held().items(), key=lambda each: each[1].since)
        return [
            {
                "job": job, "processor": held.processor, "attempt": held.attempt, "since": to_text(held.since),
                "progress": JobFolder(self._folder_of(job)).how_far(held.attempt),
            }
            for job, held in found
        ]  # fmt: skip

    def _work(self, job: str, run: Callable[[], bool]) -> None:
        """One run, in its own thread. The worker boundary: what it could not write down, a restart finds."""
        try:
            if run():
                self._in_vain.pop(job, None)
            else:
                self._put_off(job)
        except Exception as exc:  # noqa: BLE001  # worker boundary: a run's thread does not die unheard
            self._waiting.put_off(job, PAUSE)
            self._note("error", "stumbled", {"job": job, "reason": repr(exc)})

    def _over(self, job: str) -> None:
        self._cancelled.pop(job, None)
        self._waiting.comes_back(job)
        self._wake.set()

    def _put_off(self, job: str) -> None:
        """A run said nothing: what keeps it from starting for hours is not tried every few seconds."""
        times = self._in_vain[job] = self._in_vain.get(job, 0) + 1
        self._waiting.put_off(job, min(PAUSE * 2.0 ** max(0, min(times, 99) - AT_ONCE), LONGEST_PAUSE))
