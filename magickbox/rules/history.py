"""Every set of rules that was in force: when, and who gave it, so that two can be compared and an old one used again.

One file a version in ``state/``: a line of JSON that says when and who, then the text as it was. The window notes what
is saved there; the keeper notes what it finds in the file otherwise, which a person changed by hand.
"""

import difflib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from magickbox.clock import from_text, now, to_text
from magickbox.durable import make_folder, write_atomic
from magickbox.errors import MagickboxError, NotFound

MOST = 500  # versions that are kept
MOST_BYTES = 64 * 1024 * 1024  # of all of them together; the newest stays in any case
MOST_LINES = 20_000  # of two texts that are compared: the time for it grows faster than they do
FIRST_LINE = 2048
BY_HAND = "found in the file"

_ID = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{12}")


@dataclass(frozen=True)
class Version:
    """A set of rules that was in force; ``who`` is empty if it was found in the file, ``how`` says what was done."""

    id: str
    at: datetime
    who: str
    how: str
    digest: str
    size: int


@dataclass(frozen=True)
class Line:
    """A line of a comparison: ``kind`` is ``same``, ``gone``, ``new`` or ``gap`` (equal lines left out)."""

    kind: str
    text: str
    old: int | None = None
    new: int | None = None


def digest_of(text: str) -> str:
    """What tells one text of rules from another; decisions in the ledger name their rules by it."""
    return hashlib.sha256(text.encode()).hexdigest()


class RuleHistory:
    """The versions in one folder, which is made when the first is kept; several processes may write into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def versions(self) -> list[Version]:
        """All that are kept, the newest first; one that cannot be read is left out."""
        found = (self._read(name) for name in reversed(self._names()))
        return [version for version in found if version is not None]

    def get(self, version: str) -> Version:
        """One of them; raises NotFound."""
        found = self._read(version) if _ID.fullmatch(version) else None
        if found is None:
            raise NotFound(f"there is no version '{version[:64]}' of the rules; the oldest go when there are many")
        return found

    def text(self, version: str) -> str:
        """The text of a version; raises NotFound."""
        self.get(version)
        return self._path(version).read_bytes().partition(b"\n")[2].decode()

    def note(self, text: str, who: str, how: str) -> Version | None:
        """Keep a text, unless it is the newest that is kept: then None. Raises OSError."""
        with self.alone():
            return self.note_alone(text, who, how)

    def note_alone(self, text: str, who: str, how: str) -> Version | None:
        """The same for who is ``alone`` already."""
        names, digest = self._names(), digest_of(text)
        newest = self._read(names[-1]) if names else None
        if newest is not None and newest.digest == digest:
            return None
        at = now()
        name = f"{at:%Y%m%dT%H%M%S%f}Z-{digest[:12]}"
        first = json.dumps({"at": to_text(at), "who": who[:64], "how": how[:200], "digest": digest})
        write_atomic(self._path(name), first.encode() + b"\n" + text.encode(), 0o600)
        self._forget_oldest([*names, name])
        return self._read(name)

    def take_back(self, version: Version) -> None:
        """Forget a version that did not come into force after all; raises OSError."""
        self._path(version.id).unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process from writing meanwhile; raises OSError."""
        make_folder(self._folder)
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.rules"

    def _names(self) -> list[str]:
        """The oldest first."""
        with suppress(FileNotFoundError):
            names = (entry.removesuffix(".rules") for entry in os.listdir(self._folder) if entry.endswith(".rules"))
            return sorted(name for name in names if _ID.fullmatch(name))
        return []

    def _read(self, name: str) -> Version | None:
        try:
            with self._path(name).open("rb") as file:
                first = file.readline(FIRST_LINE)
                size = os.fstat(file.fileno()).st_size - len(first)
            said = json.loads(first)
            return Version(
                name, from_text(str(said["at"])), str(said["who"]), str(said["how"]), str(said["digest"]), size
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _forget_oldest(self, names: list[str]) -> None:
        total = 0
        for count, name in enumerate(reversed(names)):
            path = self._path(name)
            with suppress(FileNotFoundError):
                total += path.stat().st_size
                if count and (count >= MOST or total > MOST_BYTES):
                    path.unlink()


class TooLong(MagickboxError):
    """Two texts have too many lines to be compared."""


def compare(old: str, new: str, around: int = 3) -> list[Line]:
    """What became of ``old``, line by line, with some equal lines around; empty if nothing did. Raises TooLong."""
    was, is_now = old.splitlines(), new.splitlines()
    if len(was) + len(is_now) > MOST_LINES:
        raise TooLong(f"these texts have more than {MOST_LINES} lines together and are not compared")
    lines: list[Line] = []
    for group in difflib.SequenceMatcher(None, was, is_now, autojunk=True).get_grouped_opcodes(around):
        if group[0][1] > 0 or lines:
            lines.append(Line("gap", ""))
        for what, i1, i2, j1, j2 in group:
            if what == "equal":
                lines += [Line("same", was[i], i + 1, j1 + i - i1 + 1) for i in range(i1, i2)]
                continue
            lines += [Line("gone", was[i], i + 1) for i in range(i1, i2)]
            lines += [Line("new", is_now[j], None, j + 1) for j in range(j1, j2)]
    return lines
