"""Mends what can be mended while the box is stopped (``magickbox verify --repair``): rebuilds an unreadable ledger.

The old ledger is kept beside the new one. Every job is HELD afterwards and nothing is sent: what had been delivered
is not known any more, so that a person decides.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from magickbox.clock import now
from magickbox.datafolder import DataFolder
from magickbox.durable import rename_durable
from magickbox.errors import LedgerError
from magickbox.job import JobState
from magickbox.jobfolder import TRASH, JobFolder, is_job_id
from magickbox.ledger import Ledger, jobs, places
from magickbox.mending.adopt import adopt, read_row
from magickbox.mending.jobrecord import read_told

_BROKEN = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


def repair(data: DataFolder) -> list[str]:
    """Rebuild the ledger if it cannot be read, adopt every job folder without a row, and tell each thing done.

    The caller holds the box's lock. Raises OSError, DiskFull, or LedgerError if the ledger is not damaged but cannot
    be opened either; after any of them it may be called again.
    """
    done = [_told_of_aside(aside)] if (aside := _put_broken_aside(data)) is not None else []
    ledger = Ledger(data.ledger)
    try:
        done += _adopt_all(data, ledger)
        done += _keep_deleting(data, ledger)
    finally:
        ledger.close()
    return done


def _told_of_aside(aside: Path) -> str:
    return (
        f"the ledger could not be read and is kept as {aside}; a new one was made. Jobs that had been deleted, and"
        " what had been delivered, are not known to it"
    )


def _put_broken_aside(data: DataFolder) -> Path | None:
    """Move an unreadable ledger out of the way and return where it is now; None if it can be read.

    The write-ahead log goes first: beside a new ledger it would be taken for the new one's.
    """
    if not _is_broken(data.ledger):
        return None
    aside = data.ledger.with_name(f"{data.ledger.name}.broken-{now():%Y%m%dT%H%M%SZ}")
    for suffix in ("-wal", "-shm", ""):
        source = data.ledger.with_name(data.ledger.name + suffix)
        if source.exists():
            rename_durable(source, aside.with_name(aside.name + suffix))
    return aside


def _is_broken(path: Path) -> bool:
    """True if SQLite says that the file is damaged or no ledger; raises LedgerError for any other trouble."""
    try:
        ledger = Ledger(path)
    except LedgerError as exc:
        if not isinstance(exc.__cause__, sqlite3.DatabaseError):
            raise
        if exc.__cause__.sqlite_errorcode & 0xFF not in _BROKEN:
            raise
        return True
    try:
        return bool(ledger.damage()) or not _can_be_read(ledger)
    finally:
        ledger.close()


def _can_be_read(ledger: Ledger) -> bool:
    try:
        with ledger.reading() as tx:
            jobs.newest(tx, 1)
            places.owners(tx, "")
    except (sqlite3.DatabaseError, ValueError):
        return False
    return True


def _adopt_all(data: DataFolder, ledger: Ledger) -> Iterator[str]:
    """Adopt in the order of their birth, so that what is linked belongs to the earliest."""
    with ledger.reading() as tx:
        lost = {job.id for job in jobs.in_state(tx, JobState.LOST)}
        rows = frozenset(places.job_ids(tx))
    for name in sorted((entry.name for entry in data.jobs.iterdir()), key=lambda name: _age(data, name)):
        if not is_job_id(name) or not (data.jobs / name).is_dir():
            yield f"jobs/{name}: its name is not a job's; left alone"
        elif name in lost or name not in rows:
            yield f"jobs/{name}: {_adopted(data, ledger, name)}"


def _age(data: DataFolder, name: str) -> tuple[str, bool, str]:
    """Sorts by the second of birth; within one, what came from another job comes after what did not."""
    folder = JobFolder(data.jobs / name)
    told = read_told(folder)
    return name[:16], bool(told.follows or told.rerun_of), name


def _adopted(data: DataFolder, ledger: Ledger, name: str) -> str:
    """Adopt one; a folder that cannot be read must not stand in the way of the others."""
    try:
        return adopt(data, ledger, name).reason
    except OSError as exc:
        return f"it could not be adopted: {exc.strerror or exc}"


def _keep_deleting(data: DataFolder, ledger: Ledger) -> Iterator[str]:
    """A job that was being removed gets its row back as DELETING, so that what it had still has an owner."""
    for folder in sorted(data.incoming.glob(f"{TRASH}*")):
        name = folder.name.removeprefix(TRASH)
        with ledger.reading() as tx:
            known = jobs.find(tx, name) is not None
        if known or not is_job_id(name):
            continue
        read = read_row(data, ledger, JobFolder(folder), name, None)
        why = "it was being deleted when the ledger was rebuilt"
        row = replace(read.job, state=JobState.DELETING, resume=None, reason=why)
        with ledger.transaction() as tx:
            jobs.add(tx, row, read.shares, read.held)
        yield f"incoming/{folder.name}: {why}; the next start carries that on"
