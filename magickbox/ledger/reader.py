"""Reads the ledger from another process than the box's: several threads at once, each question with a time limit."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from magickbox.errors import LedgerError
from magickbox.ledger.schema import refuse_other_version
from magickbox.ledger.store import Transaction

LIMIT = 10.0
CONNECTIONS = 8
_PATIENCE = 5.0
_STEPS = 10_000  # of SQLite's machine between two looks at the clock: about a millisecond


class Reader:
    """Read-only connections to a ledger that its box may be writing; safe from any thread, as ``Ledger.reading`` is.

    ``attached`` are further SQLite files by the name under which statements find their tables. A question that takes
    longer than ``limit`` seconds in all, and one that finds no free connection for so long, is a LedgerError.
    """

    def __init__(
        self, path: Path, attached: Mapping[str, Path] | None = None, limit: float = LIMIT, most: int = CONNECTIONS
    ) -> None:
        self.path = path
        self._attached = dict(attached or {})
        self._limit = limit
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent view, for several reads; raises LedgerError."""
        if not self._free.acquire(timeout=self._limit):
            raise LedgerError(f"{self.path} is being read by too many at once; try again")
        try:
            connection = self._take()
            try:
                with self._limited(connection):
                    connection.execute("BEGIN")
                    yield connection
            finally:
                self._give_back(connection)
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as exc:
            raise LedgerError(f"the ledger cannot be read: {exc}") from exc
        finally:
            self._free.release()

    @contextmanager
    def _limited(self, connection: sqlite3.Connection) -> Iterator[None]:
        ends = time.monotonic() + self._limit
        connection.set_progress_handler(lambda: int(time.monotonic() > ends), _STEPS)
        try:
            yield
        except sqlite3.OperationalError as exc:
            if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise LedgerError(f"the answer was not found within {self._limit:g} s; ask for less") from exc
            raise
        finally:
            connection.set_progress_handler(None, _STEPS)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise LedgerError(f"{self.path} was closed")
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.DatabaseError):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            raise LedgerError(f"{self.path}: no ledger there; has a box ever run on this data folder?")
        connection = connect(self.path)
        try:
            refuse_other_version(connection, self.path)
            for name, path in self._attached.items():
                connection.execute(f'ATTACH ? AS "{name}"', (_address(path),))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close all connections; one that is in use is closed when its question ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """A read-only connection, of use to any thread, but to one at a time; raises sqlite3.DatabaseError."""
    connection = sqlite3.connect(
        _address(path), uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
    )  # fmt: skip
    connection.row_factory = sqlite3.Row
    return connection


def _address(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro"
