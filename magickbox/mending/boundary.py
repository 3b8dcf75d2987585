"""Does one thing at a time at start, so that a bad one is told of and left, and the box starts all the same."""

import errno
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from magickbox.errors import DiskFull, LedgerError
from magickbox.logs import Note

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_full(exc: BaseException) -> bool:
    """True if the disk, or this user's share of it, has no room left."""
    return isinstance(exc, DiskFull) or (isinstance(exc, OSError) and exc.errno in _FULL)


@dataclass(frozen=True)
class Boundary:
    """``when_full`` is to make some room; what met a full disk is then tried once more."""

    note: Note
    when_full: Callable[[], None]

    def alone(self, name: str, work: Callable[[], object], on_bad: Callable[[str], None] | None = None) -> bool:
        """Do something for the thing of that name; True if it was done.

        ``on_bad`` is told why if it was not, and not for want of room: that is as it was at the next start. Raises
        LedgerError only, if the ledger cannot be used: without it a box cannot run.
        """
        try:
            self._twice_if_full(work)
        except LedgerError:
            raise
        except Exception as exc:  # noqa: BLE001  # one bad thing must not keep the whole box from starting
            self._refuse_damage(exc)
            why = reason(exc)
            self.note("error", "left", {"name": name, "reason": why})
            if on_bad is not None and not is_full(exc):
                self.alone(name, lambda: on_bad(why))
            return False
        return True

    def _twice_if_full(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (DiskFull, OSError) as exc:
            if not is_full(exc):
                raise
            self.when_full()
            work()

    def _refuse_damage(self, exc: Exception) -> None:
        if isinstance(exc, sqlite3.DatabaseError) and getattr(exc, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise LedgerError(f"the ledger cannot be read: {exc}") from exc


def reason(exc: BaseException) -> str:
    """An error in one line that the ledger and the logs can keep."""
    text = f"{exc.strerror} ({exc.filename})" if isinstance(exc, OSError) and exc.strerror else str(exc)
    text = " ".join(text.split()) or type(exc).__name__
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
