"""The files of a drop-in: which ones count, a digest that tells versions apart, a signature that tells of a change."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

WHOLE = 1024 * 1024  # bytes; larger files count by name, size and time, so that a model of 2 GB is not read
MOST = 5000  # files of one drop-in that are looked at; a drop-in may carry an environment of its own
FIRST_LINE = 256  # bytes in which the first line of a script ends
SKIPPED = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True)
class DropinFile:
    """A file of a drop-in, named relative to it."""

    name: str
    path: str
    stat: os.stat_result


def digest(dropin: Path) -> str:
    """Tells one version of a drop-in from another; raises OSError if a file of it cannot be read."""
    total = xxhash.xxh3_128()
    for file in _files(dropin):
        total.update(os.fsencode(file.name) + b"\0")
        total.update(_content(file))
    return total.hexdigest()


def signature(folder: Path) -> str:
    """Changes whenever a drop-in in ``folder`` may have changed; reads no file, and what is missing is no error."""
    total = xxhash.xxh3_128()
    with contextlib.suppress(OSError):
        total.update(repr(os.stat(folder).st_mode).encode())
    for entry in _listing(str(folder)):
        total.update(os.fsencode(entry.name) + b"\0")
        for file in _files(Path(entry.path)):
            told = file.stat
            numbers = (told.st_ino, told.st_size, told.st_mode, told.st_mtime_ns, told.st_ctime_ns)
            total.update(os.fsencode(file.name) + repr(numbers).encode())
    return total.hexdigest()


def first_bytes(path: Path) -> bytes:
    """The beginning of a file, with the first line if it is a script; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(FIRST_LINE)
    except OSError:
        return b""


def line_end_problem(start: bytes) -> str | None:
    """Why a script that begins with these bytes cannot be started: Linux takes a carriage return as part of a name."""
    first, newline, _ = start.partition(b"\n")
    if newline and first.startswith(b"#!") and first.endswith(b"\r"):
        return "its first line ends with a carriage return; save it with Unix line ends"
    return None


def _content(file: DropinFile) -> bytes:
    if file.stat.st_size > WHOLE:
        return f"{file.stat.st_size} {file.stat.st_mtime_ns}".encode()
    with open(file.path, "rb") as opened:
        return xxhash.xxh3_128(opened.read(WHOLE)).digest()


def _files(dropin: Path) -> Iterator[DropinFile]:
    """The files that count, in a fixed order: a lone file itself, or all below a folder but caches and hidden ones."""
    left = MOST
    waiting = [("", str(dropin))]
    while waiting and left:
        name, path = waiting.pop()
        try:
            told = os.stat(path)
        except OSError:
            continue
        if os.path.isfile(path):
            left -= 1
            yield DropinFile(name or dropin.name, path, told)
        elif os.path.isdir(path) and not (name and os.path.islink(path)):
            waiting += [(os.path.join(name, entry.name), entry.path) for entry in reversed(_listing(path))]


def _listing(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            counting = (e for e in entries if e.name not in SKIPPED and not e.name.startswith("."))
            return sorted(counting, key=lambda entry: entry.name)
    except OSError:
        return []
