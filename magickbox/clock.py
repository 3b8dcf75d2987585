"""Time as the box writes it: UTC, always with microseconds, so that texts sort as the times do."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WORDS = {"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d", "week": "w"}


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def to_text(moment: datetime) -> str:
    """A moment as text: ``2026-03-12T17:12:00.123456+00:00``."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def from_text(text: str) -> datetime:
    """A moment from text; the inverse of ``to_text``."""
    return datetime.fromisoformat(text)


def seconds(text: str) -> float:
    """A duration in seconds from ``90``, ``90 s``, ``15 min``, ``1 h``, ``7 days``; raises ValueError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.casefold())
    if found is None:
        raise ValueError(f"'{text}' is not a duration such as 90, '15 min' or '7 days'")
    number, unit = float(found[1]), found[2]
    unit = _WORDS.get(unit.removesuffix("s") or unit, unit) or "s"
    if unit not in _UNITS:
        raise ValueError(f"'{text}': '{found[2]}' is not a unit of time (s, min, h, days, weeks)")
    return number * _UNITS[unit]
