"""What a command prints: a table for people, or JSON for programs; and an error as one line."""

import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from magickbox.clock import to_text


def never_fail_to_print() -> None:
    """What the terminal's character set does not have is printed as ``\\xe4``, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def as_json(value: object) -> Any:
    """A value of the domain as JSON has it: dataclasses as objects, times and paths as texts."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence | frozenset | set):
        return [as_json(each) for each in value]
    return str(value)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(as_json(value), indent=1, ensure_ascii=False))


def shown(text: object) -> str:
    """A text that a terminal can show: control characters, which a peer may have sent, are replaced."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print rows under a head; the last column takes what is left of the terminal's width."""
    if not rows:
        print(empty)
        return
    texts = [[shown("-" if cell in (None, "") else cell) for cell in row] for row in rows]
    widths = [max(len(head[i]), *(len(row[i]) for row in texts)) for i in range(len(head) - 1)]
    room = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else None
    for row in [list(head), *texts]:
        start = "  ".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True))
        line = f"{start}  {row[-1]}" if start else row[-1]
        print(line if room is None or len(line) <= room else f"{line[: room - 1]}…")


def complain(problem: object) -> int:
    """Say what is wrong on stderr and return the exit code for that."""
    for line in str(problem).splitlines() or ["something is wrong"]:
        print(f"magickbox: {line}", file=sys.stderr)
    return 1


def moment(value: datetime | None) -> str:
    """A time for people, in their own time zone, to the second."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if value else "-"


def size(count: int) -> str:
    """A number of bytes for people."""
    number = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
