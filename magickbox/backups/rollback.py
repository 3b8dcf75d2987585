"""Puts back the ledger as it was before an update, for a box on which the older version was installed again."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from magickbox.backups.settling import Settled, settle
from magickbox.clock import now
from magickbox.datafolder import BoxLock, DataFolder
from magickbox.durable import fsync_file, rename_durable
from magickbox.errors import BackupError
from magickbox.ledger.copies import kept, schema_of
from magickbox.ledger.schema import newest_schema


@dataclass(frozen=True)
class RolledBack:
    """The copy that is in force now, where the newer ledger is kept, and what became of the jobs."""

    copy: Path
    aside: Path
    settled: Settled


def roll_back(data: DataFolder) -> RolledBack:
    """Do it, with the box stopped; raises BackupError if there is nothing to put back, AlreadyRunning or OSError."""
    with BoxLock(data):
        copy = _usable(data)
        part = data.ledger.with_name(f".{data.ledger.name}.part")
        shutil.copyfile(copy, part)
        fsync_file(part)
        aside = _set_aside(data)
        rename_durable(part, data.ledger)
        settled = settle(data, "the ledger was put back to before an update")
    return RolledBack(copy, aside, settled)


def _usable(data: DataFolder) -> Path:
    """The newest copy that this version can read, if the ledger itself cannot be."""
    newest = newest_schema()
    if data.ledger.exists() and schema_of(data.ledger) <= newest:
        raise BackupError(f"{data.ledger} is not newer than this magickbox; there is nothing to put back")
    usable = [copy for version, copy in kept(data.ledger) if version <= newest]
    if not usable:
        raise BackupError(f"{data.state}: no copy from before an update that this magickbox can read")
    return usable[-1]


def _set_aside(data: DataFolder) -> Path:
    """Keep the newer ledger; its write-ahead log goes first, or it would be taken for the older one's."""
    aside = data.ledger.with_name(f"{data.ledger.name}.newer-{now():%Y%m%dT%H%M%SZ}")
    for suffix in ("-wal", "-shm", ""):
        source = data.ledger.with_name(data.ledger.name + suffix)
        if source.exists():
            rename_durable(source, aside.with_name(aside.name + suffix))
    return aside
