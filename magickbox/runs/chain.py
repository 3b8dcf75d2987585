"""Chains: the steps of a processor one after another, each a run of its own, as one run to everybody else.

Each step has its folder, its run.json and its result.json, durable as those of an attempt. So a step that has ended is
not run again: not when the box is killed, nor when a later step is interrupted; the next attempt takes it over.
"""

import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from magickbox.clock import now, to_text
from magickbox.engine import Ended, Engine, Run
from magickbox.jobfolder import AttemptFolder, JobFolder
from magickbox.processor import FAILED, Outcome, Processor, in_chain, judge_run
from magickbox.run import Limit
from magickbox.runs import attempt as attempts
from magickbox.runs import steps
from magickbox.steps import Reached, Step, unwatched

LEAST_LOG = 64 * 1024  # bytes that the log of each step may have, however long the earlier ones are
NOTHING_LEFT = "it left no file for the next step"
Started = Callable[[dict[str, object]], None]


@dataclass
class _UnderWay:
    """A chain that runs: the name of its present step's run, and why it is to end, if it is."""

    step: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _At:
    """A step of a chain: ``run`` is the chain's own, ``labels`` are those of all steps, ``number`` is from 1."""

    run: Run
    labels: tuple[str, ...]
    number: int

    @property
    def top(self) -> AttemptFolder:
        return AttemptFolder(self.run.workdir)

    @property
    def folder(self) -> AttemptFolder:
        return self.top.step(self.number)

    @property
    def words(self) -> str:
        return in_chain(self.labels, self.number)

    @property
    def is_last(self) -> bool:
        return self.number == len(self.labels)


class ChainEngine:
    """An engine for processors with steps, made of one for those without; implements ``engine.Engine``."""

    def __init__(
        self,
        engine: Engine,
        timeout: float,
        folder_of: Callable[[str], Path],
        has_room: Callable[[], bool],
        reached: Reached = unwatched,
    ) -> None:
        """``timeout`` is that of steps which name none; ``folder_of`` has the folder of a job, by its id."""
        self._engine, self._timeout, self._folder_of = engine, timeout, folder_of
        self._has_room, self._reached = has_room, reached
        self._running: dict[str, _UnderWay] = {}
        self._lock = threading.Lock()

    def refusal(self, processor: Processor) -> str | None:
        """Why a processor, or one of its steps, cannot be run now."""
        if not processor.steps:
            return self._engine.refusal(processor)
        names = tuple(step.label for step in processor.steps)
        whys = ((n, self._engine.refusal(step.processor)) for n, step in enumerate(processor.steps, 1))
        return next((f"{in_chain(names, n)}: {why}" for n, why in whys if why is not None), None)

    def run(self, run: Run, started: Started) -> Ended:
        """Run a processor, or one step after another; see ``engine.Engine.run``."""
        if not run.processor.steps:
            return self._engine.run(run, started)
        labels = tuple(step.label for step in run.processor.steps)
        with self._lock:
            mine = self._running.setdefault(run.name, _UnderWay())
        try:
            started({"engine": "chain", "steps": list(labels)})
            steps.take_over(AttemptFolder(run.workdir), run.processor.digest, len(labels))
            return self._run(run, labels, mine)
        finally:
            with self._lock:
                self._running.pop(run.name, None)

    def stop(self, name: str, reason: str) -> None:
        """End a run; no further step begins."""
        with self._lock:
            mine = self._running.get(name)
            if mine is not None:
                mine.reason = reason
        if mine is None or mine.step is not None:
            self._engine.stop(mine.step if mine is not None and mine.step is not None else name, reason)

    def leave(self, name: str) -> bool:
        """True if the run goes on when the box stops; between two steps of a chain there is nothing that could."""
        with self._lock:
            mine = self._running.get(name)
        if mine is not None and mine.step is None:
            return False
        return self._engine.leave(name if mine is None or mine.step is None else mine.step)

    def rejoin(self, run: Run) -> Ended | None:
        """Take up a run that a killed box had started; of a chain the step that was under way.

        What comes after it is for the next attempt, which takes over all steps that have ended.
        """
        if not run.processor.steps:
            return self._engine.rejoin(run)
        labels = tuple(step.label for step in run.processor.steps)
        k = steps.under_way(AttemptFolder(run.workdir))
        if k is None or k > len(labels):
            return None
        at = _At(run, labels, k)
        processor = attempts.read_lasting_run(at.folder)
        if processor is None:
            return None
        with self._lock:
            mine = self._running.setdefault(run.name, _UnderWay())
            mine.step = steps.step_name(run.name, k)
        try:
            one = self._as_run(at, processor, processor.timeout or self._timeout, steps.log_begins(at.folder))
            ended = self._engine.rejoin(one)
            if ended is None:
                return None
            end = self._collect(at, ended, steps.seconds_since(at.folder, now()))
            if end is None:
                said = f"{at.words} ended after a restart of the box; the chain goes on"
                return Ended(None, interrupted=said, not_begun=True)
            return end
        finally:
            with self._lock:
                self._running.pop(run.name, None)

    def end_leftovers(self, name: str) -> int:
        """End what a killed box had started, of a chain its present step."""
        return sum(self._engine.end_leftovers(each) for each in (name, *self._of_steps(name)))

    def sweep(self, spared: Collection[str] = ()) -> int:
        """End what belongs to no run; return how many there were."""
        return self._engine.sweep({*spared, *(step for name in spared for step in self._of_steps(name))})

    def _of_steps(self, name: str) -> list[str]:
        """The names under which steps of a run may still be there."""
        found = steps.of_name(name)
        if found is None:
            return []
        return list(steps.marks(JobFolder(self._folder_of(found[0])).attempt(found[1]), name))

    def _run(self, run: Run, labels: tuple[str, ...], mine: _UnderWay) -> Ended:
        for number, step in enumerate(run.processor.steps, 1):
            at = _At(run, labels, number)
            done = attempts.read_result(at.folder)
            if done is not None:
                _say(run, f"{at.words}: done in an earlier run")
                end = self._final(at, done, Ended(done.exit_code))
            else:
                end = self._step(at, step.processor, mine)
            if end is not None:
                return end
        raise AssertionError("the last step of a chain is its end")

    def _step(self, at: _At, processor: Processor, mine: _UnderWay) -> Ended | None:
        """Run one step; None if the next one is to begin."""
        whole = at.run.processor.timeout
        spent = sum(_seconds(at.top.step(k)) for k in range(1, at.number))
        limit = processor.timeout or self._timeout
        left = limit if whole is None else min(limit, whole - spent)
        if mine.reason is not None:
            return Ended(None, interrupted=mine.reason)
        if left <= 0:
            return self._given_up(at, f"the whole chain is out of time after {whole:g} s")
        _say(at.run, at.words)
        one = self._as_run(at, processor, left, _size(at.run.log))
        steps.prepare(at.top, at.number)
        self._reached(Step.STEP_PREPARED)
        mine.step = one.name
        began = time.monotonic()
        try:
            ended = self._engine.run(one, self._started(at, one, mine))
        finally:
            mine.step = None
        if left < limit and (ended.trouble or "").startswith("out of time"):
            ended = replace(ended, trouble=f"the whole chain is out of time after {whole:g} s")
        self._reached(Step.STEP_ENDED)
        return self._collect(at, ended, time.monotonic() - began)

    def _started(self, at: _At, one: Run, mine: _UnderWay) -> Started:
        began = to_text(now())

        def note_it(handle: dict[str, object]) -> None:
            attempts.write_run(at.folder, one.processor, began, {**handle, "log_begins": one.log_begins})
            self._reached(Step.STEP_STARTED)
            if mine.reason is not None:  # told to stop before there was anything to stop
                self._engine.stop(one.name, mine.reason)

        return note_it

    def _as_run(self, at: _At, processor: Processor, timeout: float, log_begins: int) -> Run:
        return replace(
            at.run,
            name=steps.step_name(at.run.name, at.number),
            processor=processor,
            workdir=at.folder.path,
            timeout=timeout,
            log_limit=max(LEAST_LOG, at.run.log_limit - log_begins),
            log_begins=log_begins,
        )

    def _collect(self, at: _At, ended: Ended, seconds: float) -> Ended | None:
        """What a step came to, durable; None if the next one is to begin."""
        if ended.interrupted is not None:
            steps.clear(at.folder)
            return replace(ended, interrupted=f"{at.words}: {ended.interrupted}")
        if ended.exit_code != 0 and ended.trouble is None and not self._has_room():
            attempts.clear(at.folder, keep_output=False)  # else the ledger may have no room to say so
            return Ended(None, interrupted=f"{at.words}: the disk ran full (exit code {ended.exit_code})")
        said = attempts.read_said(at.folder)
        sealed = attempts.seal(at.folder, ended.met)
        outcome = judge_run(ended.exit_code, said, ended.last_line, ended.trouble or sealed.trouble)
        result = attempts.RunResult(ended.exit_code, attempts.with_remark(outcome, sealed), seconds)
        if not at.is_last and steps.is_good(result) and steps.is_empty(at.folder.output):
            result = replace(result, outcome=replace(result.outcome, success=FAILED, message=_nothing(result.outcome)))
        attempts.write_result(at.folder, result)
        steps.clear(at.folder)
        self._reached(Step.STEP_RESULT)
        return self._final(at, result, ended)

    def _final(self, at: _At, result: attempts.RunResult, ended: Ended) -> Ended | None:
        """The end of the chain: what its last step came to, or the first that failed. None if it is not over."""
        outcome = result.outcome
        if steps.is_good(result) and not at.is_last:
            return None
        if at.is_last:
            steps.link_tree(at.folder.output, at.top.output)
        if not steps.is_good(result):
            outcome = replace(outcome, message=f"{at.words}: {outcome.message}" if outcome.message else at.words)
        attempts.write_said(at.top, outcome)
        return replace(ended, exit_code=result.exit_code, trouble=None, met="")

    def _given_up(self, at: _At, why: str) -> Ended:
        attempts.write_said(at.top, Outcome(FAILED, f"{at.words}: {why}"))
        return Ended(None, limit=Limit.TIME)


def _nothing(outcome: Outcome) -> str:
    return f"{outcome.message}. {NOTHING_LEFT}" if outcome.message else NOTHING_LEFT


def _seconds(folder: AttemptFolder) -> float:
    result = attempts.read_result(folder)
    return result.seconds if result is not None else 0.0


def _say(run: Run, text: str) -> None:
    """A headline in the log, on a line of its own."""
    with suppress(OSError), run.log.open("r+b") as log:
        end = log.seek(0, os.SEEK_END)
        if end and os.pread(log.fileno(), 1, end - 1) != b"\n":
            log.write(b"\n")
        log.write(f"[magickbox: {text}]\n".encode())


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
