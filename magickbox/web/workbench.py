"""What the window works on for longer than an answer takes, a little of it at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Workbench:
    """All of it."""

    checks: Turns = field(default_factory=lambda: Turns("checking rules", 2))
    rehearsals: Turns = field(default_factory=lambda: Turns("trying rules"))
    installs: Turns = field(default_factory=lambda: Turns("bringing a processor"))
    echoes: Turns = field(default_factory=lambda: Turns("asking destinations", 4))
