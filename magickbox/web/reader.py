"""The ledger as the window sees it: read-only, on connections of its own, and no question takes for ever."""

import queue
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from magickbox.errors import LedgerError
from magickbox.ledger import Transaction

LONGEST = 5.0
_CONNECTIONS = 4
_STEPS = 20_000  # virtual machine instructions between two looks at the clock: well under a millisecond


def connect(path: Path) -> sqlite3.Connection:
    """A read-only connection to the ledger, for any thread, one at a time; raises sqlite3.DatabaseError."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    return connection


class Reader:
    """A few read-only connections; safe from any thread."""

    def __init__(self, path: Path, longest: float = LONGEST) -> None:
        self.path, self._longest = path, longest
        self._free: queue.LifoQueue[sqlite3.Connection | None] = queue.LifoQueue()
        for _ in range(_CONNECTIONS):
            self._free.put(None)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent view; raises LedgerError, also for a question that took too long."""
        try:
            connection = self._free.get(timeout=self._longest)
        except queue.Empty:
            raise LedgerError("too many questions to the ledger at once; ask again") from None
        try:
            connection = connection or connect(self.path)
            until = time.monotonic() + self._longest
            connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            connection.execute("BEGIN")
            yield connection
        except sqlite3.OperationalError as exc:
            why = "the question took too long" if "interrupted" in str(exc) else str(exc)
            raise LedgerError(f"the ledger cannot be read: {why}") from exc
        except sqlite3.DatabaseError as exc:
            raise LedgerError(f"the ledger cannot be read: {exc}") from exc
        finally:
            self._free.put(_rolled_back(connection))

    def close(self) -> None:
        """Close all connections; nobody reads any more."""
        for _ in range(_CONNECTIONS):
            with suppress(queue.Empty):
                if (connection := self._free.get_nowait()) is not None:
                    connection.close()


def _rolled_back(connection: sqlite3.Connection | None) -> sqlite3.Connection | None:
    """The connection for the next one; None if it is of no more use."""
    if connection is None:
        return None
    try:
        connection.set_progress_handler(None, 0)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.DatabaseError:
        connection.close()
        return None
    return connection
