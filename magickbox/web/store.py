"""``state/window.db``: what the window itself keeps. The ledger is not in it, and the box never opens it.

Each part brings its tables as a file in ``migrations``, applied once, in the order of their names.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

from magickbox.errors import MagickboxError

_PATIENCE = 3.0


class StoreTrouble(MagickboxError):
    """The window's own database cannot be read or written just now; the box is not concerned."""


class Store:
    """One connection, safe from any thread."""

    def __init__(self, path: Path, patience: float = _PATIENCE) -> None:
        """Open it, and bring its tables up to date; raises StoreTrouble."""
        self.path, self._lock = path, threading.RLock()
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
            self._connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._migrate()
        except (OSError, sqlite3.DatabaseError) as exc:
            raise StoreTrouble(f"{path} cannot be used: {exc}") from exc

    def _migrate(self) -> None:
        folder = resources.files("magickbox.web") / "migrations"
        files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
        self._connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY) STRICT")
        applied = {row["name"] for row in self._connection.execute("SELECT name FROM migrations")}
        for file in files:
            if file.name not in applied:
                script = file.read_text("utf-8")
                note = f"INSERT INTO migrations VALUES ('{file.name}')"  # noqa: S608  # the name is our own file's
                self._connection.executescript(f"BEGIN IMMEDIATE;\n{script}\n{note};\nCOMMIT;")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; raises StoreTrouble."""
        with self._lock, self._guard():
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view; raises StoreTrouble."""
        with self._lock, self._guard():
            self._connection.execute("BEGIN")
            yield self._connection

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as exc:
            raise StoreTrouble(f"{self.path.name} cannot be used just now: {exc}") from exc
        finally:
            if self._connection.in_transaction:
                with suppress(sqlite3.DatabaseError):
                    self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
