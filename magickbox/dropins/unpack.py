"""Unpacks a zip that somebody gave, into a new folder: bounded in all it claims, plain files in plain folders only."""

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from magickbox.dropins.folder import PROGRAM_STARTS
from magickbox.errors import ConfigError

CHUNK = 1 << 20
_NAME = re.compile(r"[^\x00-\x1f\x7f\\:*?\"<>|]{1,200}")
_LEFT_OUT = ("__MACOSX", ".DS_Store", "Thumbs.db", "__pycache__")
_HOSTILE = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError, OverflowError)


@dataclass(frozen=True)
class Bounds:
    """How much a zip may hold, whatever it says of itself."""

    files: int = 5000
    whole: int = 2 << 30
    depth: int = 20


@dataclass(frozen=True)
class _Entry:
    info: zipfile.ZipInfo
    parts: tuple[str, ...]


def unpack(packed: IO[bytes], target: Path, bounds: Bounds | None = None) -> str:
    """Make ``target`` of the files of a zip; one folder around all of them is left out, and its name returned.

    What begins as a program does, or was one, becomes executable. Raises ConfigError with what is wrong, or OSError;
    what is in ``target`` then is of no use.
    """
    bounds = bounds or Bounds()
    try:
        with zipfile.ZipFile(packed) as archive:
            around, entries = _without_top(list(_entries(archive, bounds)))
            target.mkdir()
            left = bounds.whole
            for entry in entries:
                left -= _write(archive, entry, target, left)
    except (FileExistsError, NotADirectoryError) as exc:
        raise ConfigError("it has a file and a folder of one name") from exc
    except _HOSTILE as exc:
        raise ConfigError(f"this is no zip that can be read: {exc}") from exc
    return around


def _entries(archive: zipfile.ZipFile, bounds: Bounds) -> Iterator[_Entry]:
    infos = archive.infolist()
    if len(infos) > bounds.files:
        raise ConfigError(f"it holds {len(infos)} files, at most {bounds.files} are taken")
    if sum(info.file_size for info in infos) > bounds.whole:
        raise ConfigError(f"it would unpack to more than {bounds.whole >> 20} MB")
    seen: set[tuple[str, ...]] = set()
    for info in infos:
        parts = _parts(info, bounds.depth)
        if info.is_dir() or any(part in _LEFT_OUT for part in parts):
            continue
        folded = tuple(part.casefold() for part in parts)
        if folded in seen:
            raise ConfigError(f"'{_shown(info.filename)}' is in it twice")
        seen.add(folded)
        yield _Entry(info, parts)


def _parts(info: zipfile.ZipInfo, deepest: int) -> tuple[str, ...]:
    """The name of an entry as folders and file; raises ConfigError for what is not a plain file below the zip."""
    name = info.filename.removesuffix("/")
    parts = tuple(name.split("/"))
    if len(parts) > deepest or len(name) > 1000:
        raise ConfigError(f"'{_shown(name)}' is nested too deeply")
    if not all(_NAME.fullmatch(part) and part not in (".", "..") and _is_text(part) for part in parts):
        raise ConfigError(f"'{_shown(name)}' is not a name that a file below the zip may have")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ConfigError(f"'{_shown(name)}' is a link or a device; a zip may hold files and folders only")
    if info.flag_bits & 1:
        raise ConfigError(f"'{_shown(name)}' is encrypted")
    return parts


def _is_text(part: str) -> bool:
    try:
        part.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_top(entries: list[_Entry]) -> tuple[str, list[_Entry]]:
    tops = {entry.parts[0] for entry in entries if len(entry.parts) > 1}
    if len(tops) != 1 or any(len(entry.parts) == 1 for entry in entries):
        return "", entries
    return tops.pop(), [_Entry(entry.info, entry.parts[1:]) for entry in entries]


def _write(archive: zipfile.ZipFile, entry: _Entry, target: Path, left: int) -> int:
    """Write one file; its true size, which is what counts."""
    path = target.joinpath(*entry.parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    size, first = 0, b""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with open(fd, "wb") as file, archive.open(entry.info) as source:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > left:
                raise ConfigError("it unpacks to more than it says, or than is taken")
            first = first or chunk[:4]
            file.write(chunk)
    if first.startswith(PROGRAM_STARTS) or entry.info.external_attr >> 16 & 0o111:
        path.chmod(0o755)
    return size


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:100])
