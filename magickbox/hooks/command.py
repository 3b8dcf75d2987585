"""A hook that is a program: its arguments as they are, never through a shell, and the facts on its standard input."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from magickbox import piped

LIMIT = 30.0
_TAKEN = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ")


class Command:
    """Runs a program; it gets ``limit`` seconds. Of the environment only what any program needs is handed on."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], limit: float = LIMIT) -> None:
        self._arguments = list(arguments)
        self._environment = {name: environment[name] for name in _TAKEN if name in environment}
        self._limit = limit
        self._process: subprocess.Popen[bytes] | None = None
        self.name = f"command {Path(self._arguments[0]).name}"

    def tell(self, facts: bytes) -> str | None:
        """Run it; exit code 0 means that the facts were taken."""
        try:
            process = self._process = piped.start(self._arguments, self._environment, answers=False)
        except OSError as exc:
            return f"it cannot be started: {exc.strerror}"
        try:
            process.communicate(facts, self._limit)
        except subprocess.TimeoutExpired:
            self.end()
            process.communicate()
            return f"it did not end within {self._limit:g} s"
        finally:
            self._process = None
        return None if process.returncode == 0 else f"it ended with {process.returncode}"

    def end(self) -> None:
        """Kill the program that runs now, with all that it started in its session."""
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
