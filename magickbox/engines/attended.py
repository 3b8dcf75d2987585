"""A program that one thread waits for: its end, its output, a stop, the clock and a regular look, with one ``poll``."""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import IO

from magickbox.engines.bells import Bell
from magickbox.engines.output_log import OutputLog
from magickbox.run import Run

CHUNK = 64 * 1024
DRAIN = 64  # chunks read after the end
LONGEST_POLL = 3600.0
LOOK_EVERY = 0.5


class Why(Enum):
    """What a wait ended with."""

    EXIT = auto()
    STOP = auto()
    CLOCK = auto()
    LOOK = auto()


class Attended:
    """A started program, and the log that gets what it prints."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: OutputLog, output: IO[bytes] | None = None) -> None:
        """Take it over; raises OSError, with the program killed, if it cannot be waited for.

        ``output`` is where its output comes from if that is not its own.
        """
        pipe = output or process.stdout
        assert pipe is not None
        self.pid, self.is_silent = process.pid, False
        self._process, self._log, self._pipe = process, log, pipe
        self._output = pipe.fileno()
        os.set_blocking(self._output, False)
        try:
            self._handle = os.pidfd_open(process.pid)
        except OSError:
            process.kill()
            process.wait()
            pipe.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(self._handle, select.POLLIN)

    def wait(self, until: float, bell: Bell | None = None, look: Callable[[], bool] | None = None) -> Why:
        """Pass its output on until it ends, the bell rings, the clock says ``until`` or ``look`` says true.

        A look is taken twice a second, more seldom if it costs much.
        """
        if bell is not None:
            self._poll.register(bell.fd, select.POLLIN)
        try:
            return self._wait(until, bell, look)
        finally:
            if bell is not None:
                self._poll.unregister(bell.fd)

    def _wait(self, until: float, bell: Bell | None, look: Callable[[], bool] | None) -> Why:
        next_look = time.monotonic() + LOOK_EVERY if look is not None else float("inf")
        while (remaining := until - time.monotonic()) > 0:
            pause = max(0.0, min(remaining, next_look - time.monotonic(), LONGEST_POLL))
            ready = {fd for fd, _ in self._poll.poll(pause * 1000)}
            if self._output in ready:
                self._pump()
            if self._handle in ready:
                return Why.EXIT
            if bell is not None and bell.fd in ready:
                return Why.STOP
            if look is not None and (began := time.monotonic()) >= next_look:
                if look():
                    return Why.LOOK
                next_look = time.monotonic() + max(LOOK_EVERY, 20 * (time.monotonic() - began))
        return Why.CLOCK

    def kill(self) -> None:
        """End the program itself."""
        self._process.kill()

    def finish(self) -> int:
        """Wait for its end, take the last output and the exit code, close everything."""
        code = self._process.wait()
        for _ in range(DRAIN):
            if not self._pump():
                break
        os.close(self._handle)
        self._pipe.close()
        return code

    def _pump(self) -> bool:
        """Pass on one chunk; False if there is none now."""
        try:
            chunk = os.read(self._output, CHUNK)
        except BlockingIOError:
            return False
        if chunk:
            self._log.write(chunk)
            return True
        self.is_silent = True
        with contextlib.suppress(KeyError):
            self._poll.unregister(self._output)
        return False


def out_of_time(run: Run) -> str:
    """The sentence for a run that took too long."""
    return f"out of time after {round(run.timeout, 1):.10g} s"
