"""Bells of the runs of an engine: whoever wants to stop a run rings the one of its name."""

import os
import threading


class Bell:
    """Wakes the thread that waits for a run, with the reason to stop it."""

    def __init__(self) -> None:
        """Take a file handle; raises OSError."""
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.reason: str | None = None

    def ring(self, reason: str) -> None:
        """Stop the run; only the first reason counts."""
        if self.reason is None:
            self.reason = reason
            os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        """Give the handle back."""
        os.close(self.fd)


class Bells:
    """The bells of the runs that go on now, by the runs' names; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: dict[str, Bell] = {}

    def hang(self, name: str) -> Bell:
        """A bell for a run that begins; raises ValueError if it has one, OSError without a file handle."""
        with self._lock:
            if name in self._bells:
                raise ValueError(f"run {name} is running already")
            self._bells[name] = Bell()
            return self._bells[name]

    def take_down(self, name: str) -> None:
        """The run is over."""
        with self._lock:
            self._bells.pop(name).close()

    def ring(self, name: str, reason: str) -> None:
        """Stop a run; one that is not there is no error."""
        with self._lock:
            if name in self._bells:
                self._bells[name].ring(reason)

    def without(self, lines: list[str], spared: set[str]) -> list[str]:
        """Of lines that end with a run's name those whose run neither goes on nor is spared."""
        with self._lock:
            return [line for line in lines if line.split()[-1] not in spared | set(self._bells)]
