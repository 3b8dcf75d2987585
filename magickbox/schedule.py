"""At which times of day something may happen, and how much is sent: pure, with the time given."""

import re
from dataclasses import dataclass
from datetime import datetime

DAY = 24 * 60
_WINDOW = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)\s*-\s*([01]?\d|2[0-4]):([0-5]\d)")


@dataclass(frozen=True)
class Hours:
    """The times of day at which something is allowed, in minutes after midnight by the clock on the wall.

    A window whose end is not after its beginning goes over midnight.
    """

    windows: tuple[tuple[int, int], ...]

    def closed_for(self, local: datetime) -> float:
        """Seconds until it is allowed; 0 if it is now."""
        minute = local.hour * 60 + local.minute + local.second / 60 + local.microsecond / 60e6
        return min(_until(minute, *window) for window in self.windows) * 60

    def __str__(self) -> str:
        return ", ".join(f"{_clock(begin)}-{_clock(end or DAY)}" for begin, end in self.windows)


ALWAYS = Hours(((0, 0),))


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _until(minute: float, begin: int, end: int) -> float:
    length = (end - begin) % DAY or DAY
    since = (minute - begin) % DAY
    return 0.0 if since < length else DAY - since


def read_hours(text: str) -> Hours:
    """Read ``18:00-06:00``, several with a comma between them; raises ValueError."""
    windows = []
    for part in text.split(","):
        found = _WINDOW.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"'{part.strip()}' is not a time of day such as 18:00-06:00")
        begin, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
        if max(begin, end) > DAY:
            raise ValueError(f"'{part.strip()}': a day ends at 24:00")
        windows.append((begin % DAY, end % DAY))
    return Hours(tuple(windows))


@dataclass(frozen=True)
class Rate:
    """How much a destination takes on average; 0 is no limit."""

    instances_per_minute: float = 0.0
    megabytes_per_second: float = 0.0

    def cost(self, size: int) -> float:
        """Seconds for which an instance of that many bytes uses up what is allowed."""
        by_count = 60.0 / self.instances_per_minute if self.instances_per_minute else 0.0
        by_size = size / (self.megabytes_per_second * 1e6) if self.megabytes_per_second else 0.0
        return max(by_count, by_size)


@dataclass(frozen=True)
class Ration:
    """What has been used up: the next instance may begin at ``free``, in seconds on a clock that never goes back."""

    free: float = float("-inf")

    def left(self, moment: float) -> float:
        """Seconds until the next instance may begin."""
        return max(0.0, self.free - moment)

    def used(self, moment: float, cost: float) -> "Ration":
        """After an instance that begins now; what was not used in time is lost, so that nothing comes in a rush."""
        return Ration(max(moment, self.free) + cost)
