"""The contract of a transcoder: an instance's file in another transfer syntax, without losing anything.

Trouble is a value, not an exception. ``FakeTranscoder`` is the fake that ships beside the contract;
``tests/test_transcoders.py`` holds every implementation to it.
"""

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from magickbox.transfersyntax import EXPLICIT_LITTLE


@dataclass(frozen=True)
class Transcoded:
    """A new Part 10 file, the caller's to remove, and the transfer syntax that it is in."""

    path: Path
    transfer_syntax: str


@dataclass(frozen=True)
class CannotTranscode:
    """Why there is no such file; ``passing`` if it may work at another time (a full disk, the box stops)."""

    reason: str
    passing: bool = False


class Transcoder(Protocol):
    """Makes files in other transfer syntaxes; many threads may ask at once."""

    def targets(self, stored: str) -> Collection[str]:
        """The transfer syntaxes into which what is stored so can be brought, as far as can be said without the file."""
        ...

    def transcode(self, source: Path, stored: str, targets: Sequence[str]) -> Transcoded | CannotTranscode:
        """Bring the file into the first of the targets that is possible; ``source`` is never changed."""
        ...


@dataclass
class FakeTranscoder:
    """A transcoder that makes Explicit VR Little Endian only, and of every file the same ``dataset``.

    ``refusal``, if set, is its answer to everything; ``asked`` tells what it was asked for.
    """

    folder: Path
    dataset: bytes = b""
    refusal: CannotTranscode | None = None
    asked: list[tuple[Path, str, tuple[str, ...]]] = field(default_factory=list)

    def targets(self, stored: str) -> Collection[str]:
        """Explicit VR Little Endian, of everything that has a name in the DICOM registry."""
        return (EXPLICIT_LITTLE,) if stored.startswith("1.2.840.10008.") else ()

    def transcode(self, source: Path, stored: str, targets: Sequence[str]) -> Transcoded | CannotTranscode:
        """A file with the fake's dataset."""
        self.asked.append((source, stored, tuple(targets)))
        if self.refusal or EXPLICIT_LITTLE not in targets:
            return self.refusal or CannotTranscode("a fake can only make Explicit VR Little Endian")
        if not source.is_file():
            return CannotTranscode("the file cannot be read: No such file or directory")
        path = self.folder / f"{uuid4().hex}.dcm"
        syntax = EXPLICIT_LITTLE.encode() + b"\0"
        meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
        path.write_bytes(bytes(128) + b"DICM" + meta + self.dataset)
        return Transcoded(path, EXPLICIT_LITTLE)
