"""The end of the box's logs, and what comes after it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PIECE = 256 * 1024
MOST_READ = 32 * 1024 * 1024
_LINE = re.compile(r"(\S+) ([A-Z]+) (\S+) ?(.*)")


@dataclass(frozen=True)
class Place:
    """How far a log was read: which file, and how many bytes of it."""

    file: int
    offset: int


def last_lines(log: Path, wanted: str, limit: int) -> tuple[list[str], Place]:
    """The last lines that contain ``wanted``, oldest first, also from rotated files; and where the log ends."""
    found: list[str] = []
    left = MOST_READ
    end = _end_of(log)
    for path in (log, *(log.with_name(f"{log.name}.{n}") for n in range(1, 11))):
        for line in _backwards(path, min(left, MOST_READ)):
            if wanted in line:
                found.append(line)
            if len(found) >= limit:
                return found[::-1], end
            left -= len(line) + 1
            if left <= 0:
                return found[::-1], end
    return found[::-1], end


def lines_after(log: Path, place: Place, wanted: str) -> tuple[list[str], Place]:
    """What has come since a place, at most PIECE bytes; from the beginning of the new file if it was rotated."""
    try:
        with log.open("rb") as stream:
            here = os.fstat(stream.fileno())
            stream.seek(place.offset if here.st_ino == place.file and place.offset <= here.st_size else 0)
            start = stream.tell()
            whole = stream.read(PIECE).rpartition(b"\n")[0]
    except OSError:
        return [], place
    lines = whole.decode("utf-8", "replace").split("\n") if whole else []
    then = start + len(whole) + 1 if whole else start
    return [line for line in lines if wanted in line], Place(here.st_ino, then)


def _end_of(log: Path) -> Place:
    try:
        found = log.stat()
    except OSError:
        return Place(0, 0)
    return Place(found.st_ino, found.st_size)


def _backwards(path: Path, most: int) -> Iterator[str]:
    """The lines of a file from its end, reading no more than ``most`` bytes."""
    try:
        with path.open("rb") as stream:
            at = stream.seek(0, os.SEEK_END)
            until, rest = max(0, at - most), b""
            while at > until:
                size = min(PIECE, at - until)
                at -= size
                stream.seek(at)
                head, *lines = (stream.read(size) + rest).split(b"\n")
                rest = head
                yield from (line.decode("utf-8", "replace") for line in reversed(lines) if line)
            if rest and not at:
                yield rest.decode("utf-8", "replace")
    except OSError:
        return


def parts_of(line: str) -> tuple[str, str, str, str]:
    """Time, level, event and facts of a line of a log; all in the facts if it is none."""
    found = _LINE.fullmatch(line)
    return (found[1], found[2], found[3], found[4]) if found else ("", "", "", line)
