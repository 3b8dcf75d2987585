"""How the values of settings are read: what people write, checked, as what the box works with."""

import math
import re
from collections.abc import Callable
from pathlib import Path

from magickbox.access import Caller, read_caller
from magickbox.association import title_problem
from magickbox.clock import seconds
from magickbox.disk import Mark, read_mark
from magickbox.errors import ConfigError
from magickbox.schedule import Hours, read_hours

FOR_EVER = math.inf
Value = str | int | float | bool | list[str]


def text(value: Value) -> str:
    """A text that is not empty, without blanks around it; raises ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text")
    return value.strip()


def title(value: Value) -> str:
    """An AE title; raises ValueError."""
    given = text(value)
    problem = title_problem(given)
    if problem:
        raise ValueError(problem)
    return given


def whole(low: int, high: int) -> Callable[[Value], int]:
    """A reader of whole numbers from ``low`` to ``high``."""

    def read(value: Value) -> int:
        try:
            number = int(value) if not isinstance(value, bool | list | float) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return number

    return read


def number(low: float, high: float) -> Callable[[Value], float]:
    """A reader of numbers from ``low`` to ``high``, parts allowed."""

    def read(value: Value) -> float:
        try:
            found = float(value) if not isinstance(value, bool | list) else math.nan
        except ValueError:
            found = math.nan
        if not low <= found <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return found

    return read


def hours(value: Value) -> Hours:
    """Times of day, such as ``19:00-06:00``; raises ValueError."""
    return read_hours(text(value))


def duration(value: Value) -> float:
    """Seconds, also as text such as ``15 min`` or ``for ever``; raises ValueError."""
    if isinstance(value, bool | list):
        raise ValueError("must be a number of seconds, or a text such as '15 min'")
    if isinstance(value, str) and value.strip().casefold() in ("for ever", "forever"):
        return FOR_EVER
    number = seconds(str(value))
    if number < 0:
        raise ValueError("must not be negative")
    return number


def limited(value: Value) -> float:
    """Seconds, not for ever; raises ValueError."""
    number = duration(value)
    if number == FOR_EVER:
        raise ValueError("cannot be for ever")
    return number


def flag(value: Value) -> bool:
    """True or false, as people write it; raises ValueError."""
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return words[str(value).strip().casefold()]
    except KeyError:
        raise ValueError("must be true or false") from None


def one_of(*words: str) -> Callable[[Value], str]:
    """A reader of one of these words."""

    def read(value: Value) -> str:
        if str(value).strip().casefold() not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return str(value).strip().casefold()

    return read


def callers(value: Value) -> tuple[Caller, ...] | None:
    """Who may call: None is anyone; raises ValueError or ConfigError."""
    entries = value if isinstance(value, list) else [part for part in str(value).split(",") if part.strip()]
    if [str(e).strip().casefold() for e in entries] == ["any"]:
        return None
    if not entries:
        raise ValueError('must be \'any\' or a list of AE titles such as "PACS" or "PACS@10.0.0.0/24"')
    return tuple(read_caller(str(entry)) for entry in entries)


def folders(value: Value) -> tuple[Path, ...]:
    """Absolute paths of folders; raises ValueError."""
    entries = value if isinstance(value, list) else [part for part in str(value).split(",") if part.strip()]
    found = tuple(Path(str(entry).strip()) for entry in entries if str(entry).strip().casefold() != "none")
    if any(not path.is_absolute() or path == Path("/") for path in found):
        raise ValueError("must be a list of absolute paths of folders, such as /srv/models, and never all of /")
    return found


def names(value: Value) -> tuple[str, ...]:
    """Host names; raises ValueError."""
    entries = value if isinstance(value, list) else str(value).split(",")
    found = tuple(str(entry).strip() for entry in entries if str(entry).strip().casefold() not in ("", "none"))
    if any(not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", name) for name in found):
        raise ValueError("must be a list of host names, such as magickbox.example.org, without a port")
    return found


def cluster_name(value: Value) -> str:
    """The name of a partition or an account of Slurm's; raises ValueError."""
    given = text(value)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}", given):
        raise ValueError("must be a name as Slurm has it: letters, digits, and any of _.+-")
    return given


def size(value: Value) -> Mark:
    """A share or a size; raises ValueError."""
    try:
        return read_mark(str(value))
    except ConfigError:
        raise ValueError("must be a share such as '80%' or a size such as '16G'; 0 is no limit") from None
