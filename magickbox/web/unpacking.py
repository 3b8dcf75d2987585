"""DICOM files out of a zip: one after another into a folder, under names of our own, within limits.

The names in a zip are told and never used as paths. A zip inside a zip stays closed.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 20_000
_DIRECTORY = 400 * MOST_FILES  # bytes of the zip's own listing, which is read whole
_RATIO = 100
_FREELY = 1 << 30  # bytes that any zip may unpack to
_PIECE = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_STUMBLES = (  # what zipfile raises over files that are no zips
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, LookupError,
    ArithmeticError,
)  # fmt: skip
_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"


class NotUnpacked(Exception):
    """Why a zip, or what is left of it, is not unpacked."""


@dataclass(frozen=True)
class Member:
    """One file of a zip: what the zip calls it, and where it is now, or why it is not."""

    name: str
    path: Path | None
    why: str = ""


def is_zip(path: Path) -> bool:
    """True if it begins as a zip does."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\3\4", _END)


def members(path: Path, folder: Path, most: int, check: Callable[[int], None]) -> Iterator[Member]:
    """Unpack file after file into ``folder``, at most ``most`` bytes in all; raises NotUnpacked.

    ``check`` is told before each piece how many bytes come; what it raises ends the unpacking.
    """
    size = path.stat().st_size
    _check_directory(path, size)
    try:
        archive = zipfile.ZipFile(path)
    except _STUMBLES as exc:
        raise NotUnpacked(f"the zip is damaged: {exc}") from None
    with archive:
        files = [info for info in archive.infolist() if not info.filename.endswith("/")]
        if len(files) > MOST_FILES:
            raise NotUnpacked(f"the zip has more than {MOST_FILES} files")
        left = min(most, max(_FREELY, size * _RATIO))
        for number, info in enumerate(files):
            target = folder / f"{path.stem}-{number}.part"
            member = _unpack(archive, info, target, left, check)
            left -= target.stat().st_size if member.path else 0
            yield member


def _unpack(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, left: int, check: Callable[[int], None]
) -> Member:
    if info.compress_type not in _METHODS:
        return Member(info.filename, None, "packed in a way that is not read here")
    if info.flag_bits & _ENCRYPTED:
        return Member(info.filename, None, "it has a password")
    try:
        with target.open("xb") as out:
            for piece in _pieces(archive, info):
                left -= len(piece)
                if left < 0:
                    raise NotUnpacked("the zip unpacks to more than is taken")
                check(len(piece))
                out.write(piece)
    except _Damaged as exc:
        target.unlink(missing_ok=True)
        return Member(info.filename, None, f"it cannot be unpacked: {exc}")
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Member(info.filename, target)


class _Damaged(Exception):
    """Why one file of a zip cannot be read."""


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """What is packed; raises _Damaged, whatever zipfile stumbles over."""
    try:
        with archive.open(info) as packed:
            while piece := packed.read(_PIECE):
                yield piece
    except _STUMBLES as exc:
        raise _Damaged(str(exc) or type(exc).__name__) from None


def _check_directory(path: Path, size: int) -> None:
    """Raise NotUnpacked for a zip whose listing is long, before anything reads it into memory."""
    with path.open("rb") as file:
        start = max(0, size - 65536 - 22)
        file.seek(start)
        tail = file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) < at + 22:
            raise NotUnpacked("the zip has no end: it is cut off")
        (length,) = struct.unpack_from("<I", tail, at + 12)
        locator = tail.rfind(_LOCATOR, 0, at)
        if locator >= 0 and len(tail) >= locator + 16:
            (there,) = struct.unpack_from("<Q", tail, locator + 8)
            file.seek(min(there, size))
            record = file.read(56)
            if record.startswith(_END64) and len(record) == 56:
                length = max(struct.unpack_from("<Q", record, 40)[0], 0 if length == 0xFFFFFFFF else length)
    if length > _DIRECTORY:
        raise NotUnpacked(f"the zip has more than {MOST_FILES} files, or names that are too long")


def shown(name: str) -> str:
    """A name as it may be told: short, one line, nothing that is not printable."""
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return plain if len(plain) <= 200 else f"…{plain[-199:]}"
