"""The local engine: a processor's run as processes of this machine, in a sandbox if there is one.

One thread, the caller's, does everything for a run: it waits for the process, its output, a stop and the clock with
one ``poll``, so that nothing is found out late and many runs do not disturb each other. The processor gets a session
(and so a process group) of its own, a small clean environment and a temporary folder of its own, limits, and what
``Protection`` has beside that. Linux 5.3 or newer (``pidfd_open``).
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from magickbox.engine import Ended, Run
from magickbox.engines import launch, leftovers, start_trouble
from magickbox.engines.attended import Why, out_of_time
from magickbox.engines.bells import Bell, Bells
from magickbox.engines.cgroups import Group
from magickbox.engines.child import Child
from magickbox.engines.gate import Gate
from magickbox.engines.leftovers import Kin
from magickbox.engines.limits import Events, Limits, Overrun, limits_of, met, restrain, verdict
from magickbox.engines.output_log import OutputLog
from magickbox.engines.protection import Protection
from magickbox.jobfolder import remove_tree
from magickbox.processor import Processor
from magickbox.run import Limit

INHERITED = ("TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"


def clean_environment(inherited: Mapping[str, str], interpreter: Path) -> dict[str, str]:
    """The environment every run starts from: little of the box's own, and ``python3`` is the box's interpreter.

    ``inherited`` is where time zone, GPU choice and PATH are taken from; the rest of it stays outside.
    """
    kept = {key: inherited[key] for key in INHERITED if key in inherited}
    path = f"{interpreter.parent}:{inherited.get('PATH') or USUAL_PATH}"
    return {**kept, "PATH": path, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


class LocalEngine:
    """Runs processors as child processes; implements ``engine.Engine``."""

    def __init__(self, environment: Mapping[str, str], box: Path, protection: Protection | None = None) -> None:
        """``environment`` is what every processor gets (see ``clean_environment``), beside what names its run.

        ``box`` is the data folder: it tells this box's runs from those of another one on the same machine. Without
        ``protection`` there are no sandbox, no control groups and no limits.
        """
        self._environment = dict(environment)
        self._box = str(box.absolute())
        self._protection = protection or Protection()
        self._bells = Bells()

    def refusal(self, processor: Processor) -> str | None:  # noqa: ARG002  # it is the same for all
        """Why a processor cannot be run now; see ``engine.Engine.refusal``."""
        return self._protection.refusal

    def run(self, run: Run, started: Callable[[dict[str, object]], None]) -> Ended:
        """Run to the end, with everything that it started ended too; see ``engine.Engine.run``."""
        try:
            bell = self._bells.hang(run.name)
        except OSError as exc:
            return Ended(None, interrupted=start_trouble.of_machine(exc), not_begun=True)
        try:
            with contextlib.closing(OutputLog(run.log, run.log_limit)) as log:
                return self._run(run, started, bell, log)
        finally:
            self._bells.take_down(run.name)

    def stop(self, name: str, reason: str) -> None:
        """End a run that another thread waits for; see ``engine.Engine.stop``."""
        self._bells.ring(name, reason)

    def leave(self, name: str) -> bool:  # noqa: ARG002  # it is the same for all
        """No: what this engine starts ends with the box."""
        return False

    def rejoin(self, run: Run) -> Ended | None:
        """Nothing: the exit code of a process goes to its parent, which is gone."""

    def sweep(self, spared: Collection[str] = ()) -> int:  # noqa: ARG002
        """Nothing: what a killed box had started is ended with its run's name, or has ended with the box."""
        return 0

    def end_leftovers(self, name: str) -> int:
        """End what a killed box had started under this name, at once; return how many processes there were."""
        groups = self._protection.groups
        group = groups.of(name) if groups is not None else None
        ended = leftovers.end_all(Kin(self._marks(name), members=group.members if group else set)).ended
        if group is not None:
            group.remove()
        return ended

    def _run(self, run: Run, started: Callable[[dict[str, object]], None], bell: Bell, log: OutputLog) -> Ended:
        limits, sandbox = limits_of(run.processor, self._protection.limits), self._protection.sandbox
        with contextlib.ExitStack() as afterwards:
            try:
                gate = _prepared(run, afterwards)
                group = self._group(run, limits, afterwards)
                child = self._start(run, log, limits, group, gate)
            except (OSError, ValueError) as exc:
                return _not_started(run, exc, log)
            kin = Kin(
                self._marks(run.name),
                child.pid,
                child.born,
                group.members if group else set,
                sandbox is not None and group is not None,
            )
            try:
                started(self._handle(child, limits))
                launch.let_go(run, gate, sandbox, self._environment_of(run))
                why = _attend(child, run, bell, log)
            finally:
                code, stuck = child.finish(kin)
            events = group.events() if group is not None else Events()
            end = _End(why, _signal_as_negative(code) if sandbox else code, stuck, bell.reason)
            never_began = launch.failure(run, gate.said(), sandbox, log.last_line) if why is Why.EXIT else None
            if never_began is not None and stuck is None:
                return _never_began(*never_began, verdict(limits, events, code, "", run.workdir), log)
            return _ended(run, end, log.last_line, limits, events)

    def _group(self, run: Run, limits: Limits, afterwards: contextlib.ExitStack) -> Group | None:
        if self._protection.groups is None:
            return None
        group = self._protection.groups.of(run.name)
        afterwards.callback(group.remove)
        group.make(limits)
        return group

    def _start(self, run: Run, log: OutputLog, limits: Limits, group: Group | None, gate: Gate) -> Child:
        sandbox = self._protection.sandbox
        process = launch.start(run, gate, sandbox, self._marks(run.name))
        try:
            if group is not None:
                group.add(process.pid)
            restrain(process.pid, limits, group is not None)
            return Child(process, log, sandbox is not None)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            leftovers.end_all(Kin(self._marks(run.name), process.pid))
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            raise

    def _handle(self, child: Child, limits: Limits) -> dict[str, object]:
        began = datetime.now(UTC).isoformat()
        return {"engine": "local", "pid": child.pid, "started": began, **self._protection.told(limits)}

    def _environment_of(self, run: Run) -> dict[str, str]:
        private = str(_private(run).absolute())
        return {
            **self._environment,
            "HOME": private,
            "TMPDIR": private,
            **dict(run.processor.environment),
            "MAGICKBOX_JOB": run.job,
            "MAGICKBOX_INPUT": str(run.input.absolute()),
            "MAGICKBOX_OUTPUT": str(run.output.absolute()),
            "MAGICKBOX_INFO": str(run.workdir.absolute() / "info.json"),
            "MAGICKBOX_PROC": str(run.workdir.absolute() / "proc.json"),
            "MAGICKBOX_PROCESSOR": str(run.processor.folder.absolute()),
            **self._marks(run.name),
        }

    def _marks(self, name: str) -> dict[str, str]:
        return {"MAGICKBOX_RUN": name, "MAGICKBOX_BOX": self._box}


def _attend(child: Child, run: Run, bell: Bell, log: OutputLog) -> Why:
    why = child.wait(time.monotonic() + run.timeout, bell)
    if why is not Why.EXIT:
        log.say(out_of_time(run) if why is Why.CLOCK else f"stopped: {bell.reason}")
        child.terminate()
        child.wait(time.monotonic() + run.stop_grace)
    return why


@dataclass(frozen=True)
class _End:
    """How the wait for a child ended, its exit code, what could not be ended, and why it was stopped."""

    why: Why
    code: int | None
    stuck: str | None
    reason: str | None


def _ended(run: Run, end: _End, last_line: str, limits: Limits, events: Events) -> Ended:
    ended = Ended(end.code, last_line, peak_memory=events.peak_memory)
    if end.stuck is not None or end.why is Why.STOP:
        return replace(ended, interrupted=end.stuck or end.reason)
    if end.why is Why.CLOCK:
        return replace(ended, trouble=out_of_time(run), limit=Limit.TIME)
    over = verdict(limits, events, end.code, last_line, run.workdir)
    if over is not None:
        return replace(ended, trouble=over.said, limit=over.limit)
    return replace(ended, met=met(limits, events, end.code, run.workdir))


def _never_began(problem: str | None, machine: str | None, over: Overrun | None, log: OutputLog) -> Ended:
    """The command was not run: a limit too low to begin with, the processor's fault, or the machine's."""
    log.say(over.said if over else problem or machine or "")
    if over is not None:
        return Ended(None, trouble=over.said, not_begun=True, limit=over.limit)
    return Ended(None, trouble=problem, interrupted=machine, not_begun=True)


def _signal_as_negative(code: int | None) -> int | None:
    """A sandbox ends with 128 and the signal that ended its command, as a shell does."""
    return 128 - code if code is not None and code - 128 in set(signal.Signals) else code


def _prepared(run: Run, afterwards: contextlib.ExitStack) -> Gate:
    """The run's temporary folder and its gate, both gone when the run is over."""
    _private(run).mkdir(exist_ok=True)
    afterwards.callback(_remove_private, run)
    gate = Gate()
    afterwards.callback(gate.close)
    return gate


def _remove_private(run: Run) -> None:
    with contextlib.suppress(OSError):
        remove_tree(_private(run))


def _private(run: Run) -> Path:
    return run.workdir / "tmp"


def _not_started(run: Run, exc: OSError | ValueError, log: OutputLog) -> Ended:
    """What a failed start means: the processor's fault if its command is, else the machine's."""
    problem = start_trouble.of_processor(run.processor.command[0], exc)
    if problem is not None:
        log.say(problem)
        return Ended(None, trouble=problem)
    log.say(start_trouble.of_machine(exc))
    return Ended(None, interrupted=start_trouble.of_machine(exc), not_begun=True)
