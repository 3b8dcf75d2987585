"""What the window works on for longer than an answer takes, a little of it at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from magickbox.dropins.files import signature
from magickbox.dropins.folder import Dropins, read_dropins
from magickbox.dropins.pins import adorn, read_pins
from magickbox.web.problems import Problem

PATIENCE = 3.0


class Turns:
    """Lets so many at once do something that costs much; the others wait a little, and are then sent away."""

    def __init__(self, what: str, most: int = 1, patience: float = PATIENCE) -> None:
        self._what, self._patience = what, patience
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Be one of them; raises Problem 429."""
        if not self._free.acquire(timeout=self._patience):
            said = f"others are {self._what} just now; try again in a moment"
            raise Problem(429, "Too Many Requests", said, {"Retry-After": "5"})
        try:
            yield
        finally:
            self._free.release()


class DropinLook:
    """The drop-ins, read again only when something of them may have changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: tuple[str, object] | None = None
        self._found = Dropins()

    def of(self, folder: Path, images: Path) -> Dropins:
        """Those in ``folder``, with what their images, known from the file ``images``, say of themselves."""
        seen = (signature(folder), images.stat().st_mtime_ns if images.exists() else None)
        with self._lock:
            if seen != self._seen:
                self._found, self._seen = adorn(read_dropins(folder), read_pins(images)), seen
            return self._found


@dataclass(frozen=True)
class Workbench:
    """All of it."""

    checks: Turns = field(default_factory=lambda: Turns("checking rules", 2))
    rehearsals: Turns = field(default_factory=lambda: Turns("trying rules"))
    installs: Turns = field(default_factory=lambda: Turns("bringing a processor"))
    echoes: Turns = field(default_factory=lambda: Turns("asking destinations", 4))
    dropins: DropinLook = field(default_factory=DropinLook)
