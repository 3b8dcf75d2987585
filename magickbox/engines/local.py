"""The local engine: a processor's run as processes of this machine.

One thread, the caller's, does everything for a run: it waits for the process, its output, a stop and the clock with
one ``poll``, so that nothing is found out late and many runs do not disturb each other. The processor gets a session
(and so a process group) of its own, a small clean environment and a temporary folder of its own. It is not shut in:
that is the sandbox's work. Linux 5.3 or newer (``pidfd_open``).
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path

from magickbox.engine import Ended, Run
from magickbox.engines import leftovers, start_trouble
from magickbox.engines.output_log import OutputLog
from magickbox.jobfolder import remove_tree

INHERITED = ("TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"
CHUNK = 64 * 1024
DRAIN = 32  # chunks read after the end: a pipe holds at most 16, more comes from a process that got away
LONGEST_POLL = 3600.0
KILLED = 5.0  # seconds for a killed process to be gone; longer only if it hangs in the kernel


def clean_environment(inherited: Mapping[str, str], interpreter: Path) -> dict[str, str]:
    """The environment every run starts from: little of the box's own, and ``python3`` is the box's interpreter.

    ``inherited`` is where time zone, GPU choice and PATH are taken from; the rest of it stays outside.
    """
    kept = {key: inherited[key] for key in INHERITED if key in inherited}
    path = f"{interpreter.parent}:{inherited.get('PATH') or USUAL_PATH}"
    return {**kept, "PATH": path, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


class LocalEngine:
    """Runs processors as child processes; implements ``engine.Engine``."""

    def __init__(self, environment: Mapping[str, str], box: Path) -> None:
        """``environment`` is what every processor gets (see ``clean_environment``), beside what names its run.

        ``box`` is the data folder: it tells this box's runs from those of another one on the same machine.
        """
        self._environment = dict(environment)
        self._box = str(box.absolute())
        self._lock = threading.Lock()
        self._bells: dict[str, _Bell] = {}

    def run(self, run: Run, started: Callable[[dict[str, object]], None]) -> Ended:
        """Run to the end, with everything that it started ended too; see ``engine.Engine.run``."""
        try:
            bell = self._listed(run.name)
        except OSError as exc:
            return Ended(None, interrupted=start_trouble.of_machine(exc))
        try:
            with contextlib.closing(OutputLog(run.log, run.log_limit)) as log:
                return self._run(run, started, bell, log)
        finally:
            self._unlist(run.name, bell)

    def stop(self, name: str, reason: str) -> None:
        """End a run that another thread waits for; see ``engine.Engine.stop``."""
        with self._lock:
            if name in self._bells:
                self._bells[name].ring(reason)

    def end_leftovers(self, name: str) -> int:
        """End what a killed box had started under this name, at once; return how many processes there were."""
        return leftovers.end_all(self._marks(name)).ended

    def _listed(self, name: str) -> "_Bell":
        with self._lock:
            if name in self._bells:
                raise ValueError(f"run {name} is running already")
            self._bells[name] = _Bell()
            return self._bells[name]

    def _unlist(self, name: str, bell: "_Bell") -> None:
        with self._lock:
            del self._bells[name]
            bell.close()

    def _run(self, run: Run, started: Callable[[dict[str, object]], None], bell: "_Bell", log: OutputLog) -> Ended:
        try:
            child = self._start(run, log)
        except (OSError, ValueError) as exc:
            return _not_started(run, exc, log)
        try:
            started({"engine": "local", "pid": child.pid, "started": datetime.now(UTC).isoformat()})
            why = _attend(child, run, bell, log)
        finally:
            code, stuck = child.finish(self._marks(run.name))
            with contextlib.suppress(OSError):
                remove_tree(_private(run))
        return _ended(run, why, code, stuck, bell.reason, log.last_line)

    def _start(self, run: Run, log: OutputLog) -> "_Child":
        _private(run).mkdir(exist_ok=True)
        process = subprocess.Popen(  # noqa: S603  running what was dropped in is the point
            [*run.processor.command, str(run.input.absolute()), str(run.output.absolute())],
            cwd=run.workdir,
            env=self._environment_of(run),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )
        try:
            return _Child(process, log)
        except OSError:
            os.killpg(process.pid, signal.SIGKILL)
            leftovers.end_all(self._marks(run.name), process.pid)
            process.wait()
            raise

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


class _Why(Enum):
    """What a wait for a child ended with."""

    EXIT = auto()
    STOP = auto()
    CLOCK = auto()


class _Bell:
    """Wakes the thread that waits for a run, with the reason to stop it."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.reason: str | None = None

    def ring(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
            os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        os.close(self.fd)


class _Child:
    """A started processor: its process, what it prints, and how it is ended."""

    def __init__(self, process: subprocess.Popen[bytes], log: OutputLog) -> None:
        assert process.stdout is not None
        self.pid = process.pid
        self._process, self._log = process, log
        seen = leftovers.look_at(process.pid)
        self._born = seen.born if seen is not None else 0
        self._output = process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._handle = os.pidfd_open(process.pid)
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(self._handle, select.POLLIN)

    def wait(self, until: float, bell: _Bell | None = None) -> _Why:
        """Pass its output on until it ends, the bell rings or the clock (monotonic) says ``until``."""
        if bell is not None:
            self._poll.register(bell.fd, select.POLLIN)
        try:
            while (remaining := until - time.monotonic()) > 0:
                ready = {fd for fd, _ in self._poll.poll(min(remaining, LONGEST_POLL) * 1000)}
                if self._output in ready:
                    self._pump()
                if self._handle in ready:
                    return _Why.EXIT
                if bell is not None and bell.fd in ready:
                    return _Why.STOP
            return _Why.CLOCK
        finally:
            if bell is not None:
                self._poll.unregister(bell.fd)

    def terminate(self) -> None:
        """Ask the whole process group to end."""
        self._signal(signal.SIGTERM)

    def finish(self, marks: Mapping[str, str]) -> tuple[int | None, str | None]:
        """End all that is left, take the last output and the exit code; the second says what could not be ended.

        The group is killed before the process is reaped: until then nobody else can have its number.
        """
        self._signal(signal.SIGKILL)
        gone = self.wait(time.monotonic() + KILLED) is _Why.EXIT
        stuck = self._end_strays(marks) if gone else f"process {self.pid} cannot be ended"
        for _ in range(DRAIN):
            if not self._pump():
                break
        os.close(self._handle)
        code = self._process.wait() if gone else None
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code, stuck

    def _end_strays(self, marks: Mapping[str, str]) -> str | None:
        try:
            alive = leftovers.end_all(marks, self.pid, self._born).alive
        except OSError as exc:
            return f"what it left running cannot be looked for: {exc.strerror}"
        return f"process {alive[0]} cannot be ended" if alive else None

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _pump(self) -> bool:
        """Pass on one chunk; False if there is none now. A closed output is not an end: it may run on."""
        try:
            chunk = os.read(self._output, CHUNK)
        except BlockingIOError:
            return False
        if chunk:
            self._log.write(chunk)
            return True
        with contextlib.suppress(KeyError):
            self._poll.unregister(self._output)
        return False


def _attend(child: _Child, run: Run, bell: _Bell, log: OutputLog) -> _Why:
    why = child.wait(time.monotonic() + run.timeout, bell)
    if why is not _Why.EXIT:
        log.say(_out_of_time(run) if why is _Why.CLOCK else f"stopped: {bell.reason}")
        child.terminate()
        child.wait(time.monotonic() + run.stop_grace)
    return why


def _ended(run: Run, why: _Why, code: int | None, stuck: str | None, reason: str | None, last_line: str) -> Ended:
    if stuck is not None:
        return Ended(code, last_line, interrupted=stuck)
    if why is _Why.STOP:
        return Ended(code, last_line, interrupted=reason)
    return Ended(code, last_line, trouble=_out_of_time(run) if why is _Why.CLOCK else None)


def _private(run: Run) -> Path:
    return run.workdir / "tmp"


def _out_of_time(run: Run) -> str:
    return f"out of time after {round(run.timeout, 1):.10g} s"


def _not_started(run: Run, exc: OSError | ValueError, log: OutputLog) -> Ended:
    """What a failed start means: the processor's fault if its command is, else the machine's."""
    problem = start_trouble.of_processor(run.processor.command[0], exc)
    if problem is not None:
        log.say(problem)
        return Ended(None, trouble=problem)
    log.say(start_trouble.of_machine(exc))
    return Ended(None, interrupted=start_trouble.of_machine(exc))
