"""Open the ledger, migrate it, and give transactions."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from magickbox.errors import DiskFull, LedgerError
from magickbox.ledger.flusher import Flusher
from magickbox.ledger.schema import migrate, refuse_other_version

Transaction = sqlite3.Connection
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_OUR_FAULT = (sqlite3.IntegrityError, sqlite3.ProgrammingError)


class Reads(Protocol):
    """Whatever the ledger can be read by: the box's own ``Ledger``, or a ``Reader`` of another process."""

    def reading(self) -> AbstractContextManager[Transaction]:
        """One consistent view, for several reads."""
        ...


class Ledger:
    """One connection to the ledger, safe to use from any thread of the process that holds the box's lock.

    ``when_full`` is called when SQLite finds the disk full, before DiskFull is raised, so that ballast can be dropped.
    ``commits`` counts the transactions: while it stays, nothing has changed.
    """

    def __init__(self, path: Path, *, readonly: bool = False, when_full: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.RLock()
        self._when_full = when_full
        self._synced: bool | None = None
        self.commits = 0
        self._flusher = Flusher(path.with_name(path.name + "-wal"))
        self.path = path
        if readonly and not path.exists():
            raise LedgerError(f"{path}: no ledger there; has a box ever run on this data folder?")
        try:
            self._connection = self._open(readonly)
        except sqlite3.DatabaseError as exc:
            raise LedgerError(
                f"{path} cannot be read ({exc}); 'magickbox verify --repair' rebuilds its rows from the job folders"
            ) from exc

    def _open(self, readonly: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            if readonly:
                connection.execute("PRAGMA query_only = ON")
                refuse_other_version(connection, self.path)
            else:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                migrate(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def transaction(self, *, soon: bool = False) -> Iterator[Transaction]:
        """All or nothing, durable when the block is left; raises DiskFull, after which it may be tried again.

        With ``soon`` it is committed, so that it outlives this process, but durable only within a second: a power loss
        may take it back. What is committed after it never outlives it.
        """
        with self._lock:
            soon = soon and self._flusher.works
            try:
                self._sync_each_commit(not soon)
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
                self.commits += 1
            except _OUR_FAULT:
                self._undo()
                raise
            except sqlite3.DatabaseError as exc:
                self._undo()
                if (getattr(exc, "sqlite_errorcode", 0) & 0xFF) in _FULL:
                    self._when_full()
                    raise DiskFull(f"the ledger cannot write: {exc}") from exc
                raise LedgerError(f"the ledger cannot be written: {exc}") from exc
            except BaseException:
                self._undo()
                raise
            finally:
                if soon:
                    self._flusher.wake()

    def _sync_each_commit(self, wanted: bool) -> None:
        """Let SQLite fsync at each commit or not; many of one kind follow one another, and each change costs time."""
        if wanted is not self._synced:
            self._synced = None
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._synced = wanted

    def _undo(self) -> None:
        if self._connection.in_transaction:
            with suppress(sqlite3.DatabaseError):
                self._connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent view, for several reads."""
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            try:
                self._connection.execute("BEGIN")
                yield self._connection
            except _OUR_FAULT:
                raise
            except sqlite3.DatabaseError as exc:
                raise LedgerError(f"the ledger cannot be read: {exc}") from exc
            finally:
                self._undo()

    def damage(self) -> list[str]:
        """What SQLite's own check finds wrong with the file; empty if nothing is."""
        with self._lock:
            try:
                rows = [str(row[0]) for row in self._connection.execute("PRAGMA quick_check(20)")]
            except sqlite3.DatabaseError as exc:
                return [str(exc)]
        return [] if rows == ["ok"] else rows

    def close(self) -> None:
        """Close the connection; the write-ahead log is folded in."""
        self._flusher.close()
        with self._lock:
            self._connection.close()
