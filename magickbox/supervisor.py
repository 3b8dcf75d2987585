"""What a service manager is told: the datagrams of systemd's sd_notify protocol. Without one nothing is sent."""

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress

from magickbox.errors import MagickboxError

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_STATUS_EVERY = 15.0


class Supervisor:
    """Tells systemd that the box is ready, alive, stopping. What cannot be told is let go."""

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        """``address`` is a path, or ``@name`` for an abstract one; ``watchdog`` seconds without a word end the box."""
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._every = min(_STATUS_EVERY, watchdog / 4) if watchdog else _STATUS_EVERY
        self._next = 0.0

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> "Supervisor":
        """The one that the environment names; its variables are taken out, so that no child speaks for the box."""
        address, interval, pid = (environment.pop(name, "") for name in _VARIABLES)
        ours = interval.isdigit() and pid in ("", str(os.getpid()))
        return cls(address or None, int(interval) / 1e6 if ours and int(interval) else None)

    def ready(self, status: str) -> None:
        """The box has started."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The box has begun to stop."""
        self._tell("STOPPING=1\nSTATUS=stopping: what is open goes on at the next start")

    def alive(self, trouble: Callable[[], str | None], status: Callable[[], str]) -> None:
        """Look, when it is time to, whether anything is dead, and say that the box is alive only if nothing is."""
        if self._address is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        try:
            dead = trouble()
        except MagickboxError as exc:
            dead = str(exc)
        self._tell(f"STATUS={dead}" if dead else f"WATCHDOG=1\nSTATUS={status()}")

    def _tell(self, text: str) -> None:
        if self._address is not None:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.sendto(text.encode(), self._address)
