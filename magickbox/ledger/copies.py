"""Copies of SQLite files: consistent while somebody writes, checked, durable; and those that an update keeps.

A copy is made by SQLite's online backup in one step, so that nobody who writes meanwhile makes it begin again.
"""

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from magickbox.durable import fsync_file, fsync_folder
from magickbox.errors import LedgerError

KEPT = 3
"""How many copies from before updates stay."""


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite file that somebody may be writing, whole or not at all; raises LedgerError or OSError."""
    if not source.exists():
        raise LedgerError(f"{source}: there is no such file")
    try:
        with closing(sqlite3.connect(source, timeout=10)) as connection:
            connection.execute("PRAGMA query_only = ON")
            _copy(connection, target)
    except sqlite3.DatabaseError as exc:
        raise LedgerError(f"{source} cannot be copied: {exc}") from exc


def schema_of(path: Path) -> int:
    """The schema version of a ledger; raises LedgerError if it cannot be read."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as exc:
        raise LedgerError(f"{path} cannot be read: {exc}") from exc


def keep_copy(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Keep the ledger as it is before an update, as ``<name>.version-<version>``, and let the oldest ones go.

    Raises LedgerError or OSError; then there is no copy, and the update must not go on.
    """
    _copy(connection, _name(path, version))
    for _, old in kept(path)[:-KEPT]:
        old.unlink()


def kept(path: Path) -> list[tuple[int, Path]]:
    """The copies beside a ledger with their schema versions, the oldest schema first."""
    pattern = re.compile(re.escape(path.name) + r"\.version-(\d+)")
    names = (pattern.fullmatch(name) for name in os.listdir(path.parent))
    return sorted((int(found[1]), path.with_name(found[0])) for found in names if found)


def _name(path: Path, version: int) -> Path:
    return path.with_name(f"{path.name}.version-{version}")


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(part)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            _check(copy)
        os.chmod(part, 0o600)
        fsync_file(part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    fsync_folder(target.parent)


def _check(copy: sqlite3.Connection) -> None:
    """Read the copy whole; raises LedgerError with the first thing that SQLite finds wrong."""
    found = str(copy.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if found != "ok":
        raise LedgerError(f"the copy is damaged: {found}; look at the original with 'magickbox verify'")
