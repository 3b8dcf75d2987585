"""How pages write times, sizes and states."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from markupsafe import Markup, escape
from pydicom.datadict import dictionary_description

from magickbox.clock import from_text, now

_JOB = re.compile(r"\b(job=)(\d{8}T\d{6}Z-[A-Za-z0-9_-]{1,16}-[0-9a-f]{4})\b")
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def _at(value: datetime | str | None) -> datetime | None:
    return from_text(value) if isinstance(value, str) and value else value if isinstance(value, datetime) else None


def moment(value: datetime | str | None) -> str:
    """A time in the box's own time zone, to the second; ``-`` for none."""
    at = _at(value)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def clock(value: datetime | str | None) -> str:
    """The same, without the day if it is today."""
    at = _at(value)
    if at is None:
        return "-"
    here = at.astimezone()
    return here.strftime("%H:%M:%S" if here.date() == now().astimezone().date() else "%Y-%m-%d %H:%M")


def duration(seconds: float | None) -> str:
    """A duration: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 4 min``."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in _UNITS:
        if seconds >= size:
            below, name = (size / 60, "min") if unit == "h" else (1.0, "s") if unit == "min" else (3600.0, "h")
            rest = int(seconds % size // below)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{seconds:.0f} s"


def size(count: float | None) -> str:
    """A number of bytes."""
    if count is None:
        return "-"
    number = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def number(count: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{count:,.0f}".replace(",", "\u202f")


def counted(count: int, thing: str, things: str = "") -> str:
    """``1 instance``, ``2 instances``."""
    return f"{number(count)} {thing if count == 1 else things or thing + 's'}"


def day(text: str) -> str:
    """A date as DICOM writes it (DA), as people write it; what is none as it is."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdecimal() else text


def person(name: str) -> str:
    """A name as DICOM writes it (PN), family name first: ``Müller^Jörg`` is ``Müller, Jörg``."""
    family, *others = name.partition("=")[0].split("^")
    return ", ".join(part for part in (family.strip(), " ".join(" ".join(others).split())) if part) or name


def joblinks(facts: str) -> Markup:
    """The facts of a log's line, with jobs as links."""
    return Markup(  # noqa: S704  # escaped before
        _JOB.sub(lambda found: f'{found[1]}<a href="/jobs/{found[2]}">{found[2]}</a>', str(escape(facts)))
    )


def element(path: str) -> str:
    """A path of tags with the names of the elements that the standard knows: ``Modality (0008,0060)``."""
    return " / ".join(_named(step) for step in path.split("/"))


def _named(step: str) -> str:
    try:
        return f"{dictionary_description(int(step.replace(',', ''), 16))} ({step})"
    except (KeyError, ValueError):
        return step


def logtime(text: str) -> str:
    """The time of a log's line, to the second; empty for a line without one."""
    try:
        return clock(text) if text else ""
    except ValueError:
        return text


FILTERS: Mapping[str, Callable[..., str]] = {
    "moment": moment,
    "clock": clock,
    "duration": duration,
    "size": size,
    "number": number,
    "counted": counted,
    "day": day,
    "person": person,
    "joblinks": joblinks,
    "element": element,
    "logtime": logtime,
}
