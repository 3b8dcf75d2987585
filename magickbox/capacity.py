"""How much the box can take just now: room on the disk, and jobs that wait.

When jobs pile up, receiving slows before it refuses: each C-STORE is answered later and later, which every sender
understands, and only at twice the mark are new associations put off.
"""

from collections.abc import Callable, Mapping

from magickbox.logs import Note

LONGEST_PAUSE = 1.0
LOOK_EVERY = 1.0


def _nobody(_level: str, _event: str, _facts: Mapping[str, object]) -> None:
    pass


class Capacity:
    """Asked from any thread. ``waiting`` counts the jobs that wait for a processor, ``mark`` is ``max_waiting``."""

    def __init__(
        self, has_room: Callable[[], bool], waiting: Callable[[], int] = int, mark: int = 10_000, note: Note = _nobody
    ) -> None:
        self.has_room = has_room
        self._count, self._mark, self._note = waiting, mark, note
        self.waiting = 0

    def look(self) -> None:
        """Count the jobs that wait; to be called every LOOK_EVERY seconds."""
        slowed = self.pause() > 0
        self.waiting = self._count()
        slows = self.pause() > 0
        if slows != slowed:
            event = "receiving-slows" if slows else "receiving-goes-on"
            self._note("warning" if slows else "info", event, {"waiting": self.waiting, "max_waiting": self._mark})

    def pause(self) -> float:
        """Seconds to wait before a C-STORE is answered: 0 up to the mark, then growing to LONGEST_PAUSE at twice it."""
        excess = (self.waiting - self._mark) / self._mark
        return LONGEST_PAUSE * min(1.0, max(0.0, excess))

    def obstacle(self) -> str | None:
        """Why no association can be taken just now, or None."""
        if not self.has_room():
            return "the disk is below its free-space mark (min_free)"
        if self.waiting >= 2 * self._mark:
            return f"{self.waiting} jobs wait for a processor (max_waiting is {self._mark})"
        return None
