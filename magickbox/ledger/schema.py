"""The ledger's schema: its version, and the migrations that bring an older ledger up to date."""

import sqlite3
from importlib import resources
from pathlib import Path

from magickbox.errors import LedgerError
from magickbox.ledger.copies import keep_copy, kept


def migrations() -> list[tuple[int, str]]:
    """The migrations that ship with this version, in order."""
    folder = resources.files("magickbox.ledger") / "migrations"
    files = (entry for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return sorted((int(entry.name.removesuffix(".sql")), entry.read_text("utf-8")) for entry in files)


def newest_schema() -> int:
    """The schema version that this program writes."""
    return migrations()[-1][0]


def refuse_newer(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a ledger; raises LedgerError, with the way back, if this program does not know it."""
    version, newest = int(connection.execute("PRAGMA user_version").fetchone()[0]), newest_schema()
    if version > newest:
        raise LedgerError(
            f"{path} has schema version {version}, this program knows {newest}; a newer magickbox wrote it."
            f" {_way_back(path, newest)}"
        )
    return version


def _way_back(path: Path, newest: int) -> str:
    """What a person who went back to an older version can do."""
    usable = [copy for version, copy in kept(path) if version <= newest]
    if not usable:
        return "Install that version again; no copy from before its update is left"
    return (
        f"Install that version again, or put back the copy from before its update ({usable[-1].name}) with"
        " 'magickbox restore --before-update'"
    )


def refuse_other_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raises LedgerError for a schema of another version: a reader migrates nothing, the box does at its start."""
    version = refuse_newer(connection, path)
    if version < newest_schema():
        raise LedgerError(
            f"{path} has schema version {version}, of an older magickbox; it is brought up to date when the box starts"
        )


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date in one transaction, with a copy of what was there before; raises LedgerError."""
    version = refuse_newer(connection, path)
    steps = [(number, script) for number, script in migrations() if number > version]
    if not steps:
        return
    if version:
        _keep_copy(connection, path, version)
    scripts = "\n".join(script for _, script in steps)
    connection.executescript(f"BEGIN IMMEDIATE;\n{scripts}\nPRAGMA user_version = {steps[-1][0]};\nCOMMIT;")


def _keep_copy(connection: sqlite3.Connection, path: Path, version: int) -> None:
    try:
        keep_copy(connection, path, version)
    except (OSError, sqlite3.OperationalError) as exc:
        raise LedgerError(f"{path} is to be brought up to date, but no copy of it can be kept before: {exc}") from exc
