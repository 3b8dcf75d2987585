"""The disk: how much is free, where the mark is below which nothing new is taken, and the ballast.

The ballast is a file that is given up when the disk is full, so that the ledger can still write; it is taken back
when there is room again.
"""

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from magickbox.errors import ConfigError

BALLAST = 16 * 1024 * 1024
_FEWEST = 1024
_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Mark:
    """The free-space mark: a share of the filesystem, or a number of bytes."""

    share: float = 0.0
    amount: int = 0

    def of(self, total: int) -> int:
        """The mark in bytes, for a filesystem of ``total`` bytes."""
        return max(self.amount, int(total * self.share))


def read_mark(text: str) -> Mark:
    """A mark from its text: ``5%``, ``2G``, ``500 MB``, ``0``; raises ConfigError."""
    plain = text.strip().upper()
    try:
        if plain.endswith("%"):
            share = float(plain[:-1]) / 100
            if not 0 <= share < 1:
                raise ValueError
            return Mark(share=share)
        number = plain.rstrip("BKMGTI ").strip()
        unit = plain[len(number) :].strip().removesuffix("B").removesuffix("I")
        amount = float(number) * _UNITS[unit]
        if not 0 <= amount < math.inf:
            raise ValueError
    except (ValueError, KeyError):
        raise ConfigError(f"min_free: '{text}' is neither a percentage such as '5%' nor a size such as '2G'") from None
    if 0 < amount < _FEWEST:
        meant = f"{amount * 100:g}%" if amount < 1 else f"{amount:g}%" if amount < 100 else f"{amount:g} MB"
        raise ConfigError(f"min_free: '{text}' is a number of bytes, too few to mean anything; did you mean '{meant}'?")
    return Mark(amount=int(amount))


def mark_problem(folder: Path, mark: Mark) -> str | None:
    """Why nothing could ever be taken with this mark on the filesystem of ``folder``; None if something could."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    status = os.statvfs(there)
    total = status.f_blocks * status.f_frsize
    if mark.of(total) < total:
        return None
    return (
        f"min_free is {mark.of(total)} bytes, but the filesystem of {folder} has only {total}: nothing would be taken"
    )


class Disk:
    """The filesystem of the data folder; safe from any thread."""

    def __init__(self, folder: Path, mark: Mark, ballast: Path) -> None:
        self._folder, self._mark, self._ballast = folder, mark, ballast

    def free(self) -> int:
        """Bytes that this user can still write."""
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize

    def mark(self) -> int:
        """Bytes below which nothing new is taken."""
        status = os.statvfs(self._folder)
        return self._mark.of(status.f_blocks * status.f_frsize)

    def has_room(self) -> bool:
        """True above the mark; below it no intake and no new processor runs."""
        return self.free() > self.mark()

    def take_ballast(self) -> None:
        """Write the ballast if it is not there and there is room for it and more."""
        if not self._ballast.exists() and self.has_room() and self.free() > self.mark() + 4 * BALLAST:
            with suppress(OSError):
                self._write_ballast()

    def _write_ballast(self) -> None:
        fd = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(fd, 0, BALLAST)
        except OSError:
            self._ballast.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    def drop_ballast(self) -> None:
        """Give the ballast up: the ledger needs its room."""
        with suppress(OSError):
            self._ballast.unlink(missing_ok=True)
