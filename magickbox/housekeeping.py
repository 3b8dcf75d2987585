"""Small things that are done every now and then beside the flow: one thread, each task with its own interval."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from magickbox.errors import MagickboxError
from magickbox.logs import Note


@dataclass(frozen=True)
class Chore:
    """Something to do every ``interval`` seconds; what it raises is noted, and it is done again the next time."""

    name: str
    interval: float
    do: Callable[[], object]


class Housekeeping:
    """Does the chores until it is stopped."""

    def __init__(self, chores: Sequence[Chore], note: Note) -> None:
        self._chores, self._note = chores, note
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin; each chore is done for the first time after its interval."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the chore in hand."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due = {chore: time.monotonic() + chore.interval for chore in self._chores}
        while due and not self._stopping.wait(max(0.0, min(due.values()) - time.monotonic())):
            for chore in [chore for chore, at in due.items() if at <= time.monotonic()]:
                self._do(chore)
                due[chore] = time.monotonic() + chore.interval

    def _do(self, chore: Chore) -> None:
        """The worker boundary: one chore's trouble ends neither the others nor itself for good."""
        try:
            chore.do()
        except Exception as exc:  # noqa: BLE001  # worker boundary: whatever a chore meets is noted
            known = isinstance(exc, OSError | MagickboxError)
            self._note("error", "chore-failed", {"chore": chore.name, "reason": exc if known else repr(exc)})
