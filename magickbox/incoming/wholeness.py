"""A mark in a part that tells whether all of its dataset is there, whatever its name is after a power cut.

It stands in the preamble, which PS3.10 7.1 leaves to the application: the dataset's length and the XXH3-128 of its
bytes. So a file that was fsynced proves itself, and its new name needs no fsync of its own (contracts, section 8).
"""

import struct
from collections.abc import Callable
from pathlib import Path

import xxhash

from magickbox.dicom.header import read_file_meta
from magickbox.errors import UnreadableHeader

_MARK = struct.Struct("<8sQ16s")
_MAGIC = b"MAGICKBX"
_CHUNK = 1 << 20


def mark(length: int, digest: bytes) -> bytes:
    """What stands at the file's start when its dataset of ``length`` bytes is complete."""
    return _MARK.pack(_MAGIC, length, digest)


def said(head: bytes) -> tuple[int, str] | None:
    """What the mark in a file's first bytes says: the dataset's length and checksum (hex); None if there is none."""
    if len(head) < _MARK.size or not head.startswith(_MAGIC):
        return None
    _, length, digest = _MARK.unpack(head[: _MARK.size])
    return length, digest.hex()


def is_whole(part: Path) -> bool:
    """True if the part's mark is there and true; raises OSError."""
    with part.open("rb") as stream:
        told = said(stream.read(_MARK.size))
        if told is None:
            return False
        try:
            offset = read_file_meta(stream).offset
        except UnreadableHeader:
            return False
        length, digest = told
        if part.stat().st_size != offset + length:
            return False
        stream.seek(offset)
        return checksum(stream.read) == digest


def checksum(read: Callable[[int], bytes]) -> str:
    """The XXH3-128 (hex) of all that is still to be read."""
    digest = xxhash.xxh3_128()
    while chunk := read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
