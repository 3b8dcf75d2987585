"""A started processor as one thread watches it: its process, its output, the bell that stops it, and the clock."""

import contextlib
import os
import select
import signal
import subprocess
import time

from magickbox.engines import leftovers
from magickbox.engines.attended import CHUNK, LONGEST_POLL, Why
from magickbox.engines.bells import Bell
from magickbox.engines.leftovers import Kin
from magickbox.engines.output_log import OutputLog

DRAIN = 32  # chunks read after the end: a pipe holds at most 16, more comes from a process that got away
KILLED = 5.0  # seconds for a killed process to be gone; longer only if it hangs in the kernel


class Child:
    """A started processor: its process, what it prints, and how it is ended."""

    def __init__(self, process: subprocess.Popen[bytes], log: OutputLog, sandboxed: bool) -> None:
        assert process.stdout is not None
        self.pid = process.pid
        self._process, self._log, self._sandboxed = process, log, sandboxed
        seen = leftovers.look_at(process.pid)
        self.born = seen.born if seen is not None else 0
        self._output = process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._handle = os.pidfd_open(process.pid)
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(self._handle, select.POLLIN)

    def wait(self, until: float, bell: Bell | None = None) -> Why:
        """Pass its output on until it ends, the bell rings or the clock (monotonic) says ``until``."""
        if bell is not None:
            self._poll.register(bell.fd, select.POLLIN)
        try:
            while (remaining := until - time.monotonic()) > 0:
                ready = {fd for fd, _ in self._poll.poll(min(remaining, LONGEST_POLL) * 1000)}
                if self._output in ready:
                    self._pump()
                if self._handle in ready:
                    return Why.EXIT
                if bell is not None and bell.fd in ready:
                    return Why.STOP
            return Why.CLOCK
        finally:
            if bell is not None:
                self._poll.unregister(bell.fd)

    def terminate(self) -> None:
        """Ask it to end: the whole process group, or everything in its sandbox."""
        if self._sandboxed:
            leftovers.tell_inside(self.pid, signal.SIGTERM)
        else:
            self._signal(signal.SIGTERM)

    def finish(self, kin: Kin) -> tuple[int | None, str | None]:
        """End all that is left, take the last output and the exit code; the second says what could not be ended.

        The group is killed before the process is reaped: until then nobody else can have its number.
        """
        self._signal(signal.SIGKILL)
        gone = self.wait(time.monotonic() + KILLED) is Why.EXIT
        stuck = _end_strays(kin) if gone else f"process {self.pid} cannot be ended"
        for _ in range(DRAIN):
            if not self._pump():
                break
        os.close(self._handle)
        code = self._process.wait() if gone else None
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code, stuck

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


def _end_strays(kin: Kin) -> str | None:
    try:
        alive = leftovers.end_all(kin).alive
    except OSError as exc:
        return f"what it left running cannot be looked for: {exc.strerror}"
    return f"process {alive[0]} cannot be ended" if alive else None
