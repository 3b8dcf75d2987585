"""Brings a drop-in that somebody gave into the processors folder: looked at aside, then placed by one rename.

So the box sees either nothing or the whole; in place of another one, which is kept aside, it sees the old or the new.
"""

import ctypes
import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from magickbox.dropins.declaration import FILE
from magickbox.dropins.folder import MARK, SCRIPTS, Dropins, read_dropins
from magickbox.dropins.switch import disable
from magickbox.dropins.unpack import Bounds, unpack
from magickbox.durable import fsync_folder, fsync_tree
from magickbox.errors import ConfigError, NotFound
from magickbox.processor import Processor

LARGEST_SCRIPT = 16 << 20
ASIDE = ".given-"
REPLACED = ".replaced"
STALE = 3600.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RENAME_EXCHANGE = 2
_HERE = -100  # AT_FDCWD


@dataclass(frozen=True)
class Installed:
    """What was placed, and whether it took the place of another one, which ``kept`` has."""

    processor: Processor
    kept: Path | None = None


def install_zip(
    folder: Path, name: str, packed: IO[bytes], *, replace: bool = False, on: bool = True, bounds: Bounds | None = None
) -> Installed:
    """Place a folder that came as a zip; its name is ``name``, or that of the folder within if that is empty.

    With ``on`` false it is switched off. Raises ConfigError with everything that is wrong, or OSError; nothing has
    changed then.
    """
    with _aside(folder) as aside:
        around = unpack(packed, aside / "unpacked", bounds)
        name = name or around
        _check_name(name, "a folder")
        if not (aside / "unpacked" / FILE).is_file():
            raise ConfigError(f"there is no {FILE} in it, which says how it is run; see docs/processors.md")
        os.rename(aside / "unpacked", aside / name)
        return _place(folder, aside, name, replace, on)


def install_script(folder: Path, name: str, content: bytes, *, replace: bool = False, on: bool = True) -> Installed:
    """Place a lone script; ``name`` is its file's name, without its ending the AE title that it serves.

    With ``on`` false it is switched off. Raises ConfigError with everything that is wrong, or OSError; nothing has
    changed then.
    """
    stem, ending = os.path.splitext(name)
    _check_name(stem, "a script")
    if ending.lower() not in SCRIPTS:
        raise ConfigError(f"'{ending[:20]}' is no ending of a script; there are {', '.join(sorted(SCRIPTS - {''}))}")
    if len(content) > LARGEST_SCRIPT:
        raise ConfigError(f"a script has at most {LARGEST_SCRIPT >> 20} MB; give a folder as a zip")
    with _aside(folder) as aside:
        (aside / name).write_bytes(content)
        (aside / name).chmod(0o755)
        return _place(folder, aside, name, replace, on)


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"the name of {what} has 1 to 64 letters, digits, _ and -, and begins with a letter or digit;"
            f" '{name[:64]}' has not"
        )


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A hidden folder on the same filesystem, which the box does not look at; gone afterwards."""
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder} for processors")
    _sweep(folder)
    made = Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder))
    try:
        made.chmod(0o755)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what a killed window has left."""
    for left in folder.glob(f"{ASIDE}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left)


def _place(folder: Path, aside: Path, entry: str, replace: bool, on: bool) -> Installed:
    beside = read_dropins(folder).good
    one = _only_good(read_dropins(aside, beside))
    there = _same_name(folder, one.name)
    target = folder / entry
    if there is not None and there.absolute() != target.absolute():
        raise ConfigError(f"the name {one.name} belongs to {there.name}; switch that off and remove it first")
    if os.path.lexists(target) and not replace:
        raise ConfigError(f"{entry} is there already; say that it is to be replaced")
    if target.is_symlink() or (target.exists() and target.is_dir() != (aside / entry).is_dir()):
        raise ConfigError(f"{entry} is there as something else; remove it first")
    if not on:
        disable(aside, one.name, beside)
    fsync_tree(aside)
    mark = one.name + MARK
    if (aside / mark).exists():
        os.rename(aside / mark, folder / mark)  # before the script that it switches off
    if not os.path.lexists(target):
        os.rename(aside / entry, target)
        fsync_folder(folder)
        return Installed(_placed(folder, one.name))
    _exchange(aside / entry, target)
    kept = _keep(folder, aside / entry)
    fsync_folder(folder)
    return Installed(_placed(folder, one.name), kept)


def _only_good(found: Dropins) -> Processor:
    if found.bad:
        raise ConfigError("; ".join(problem for bad in found.bad for problem in bad.problems))
    if len(found.good) != 1:
        raise ConfigError("this is no drop-in: neither a script whose first line begins with #!, nor a folder")
    return found.good[0]


def _same_name(folder: Path, name: str) -> Path | None:
    """Where a drop-in of that name lies, good or bad; None if there is none."""
    found = read_dropins(folder)
    for one in found.good:
        if one.name.casefold() == name.casefold():
            return Path(one.command[0]) if one.folder == folder.absolute() else one.folder
    return next((each.path for each in found.bad if each.name.casefold() == name.casefold()), None)


def _placed(folder: Path, name: str) -> Processor:
    return next((one for one in read_dropins(folder).good if one.name == name), None) or _gone(name)


def _gone(name: str) -> Processor:
    raise ConfigError(f"{name} was placed, but somebody else has changed it since")


def _exchange(one: Path, other: Path) -> None:
    """Let two entries of a filesystem change places, in one step (renameat2); raises OSError."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, "this system cannot replace a processor in one step; remove the old one first")
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(other))


def _keep(folder: Path, old: Path) -> Path:
    """Keep what was replaced, until it is replaced again: a run that is under way may still read it."""
    kept = folder / REPLACED / old.name
    kept.parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
    os.rename(old, kept)
    return kept
