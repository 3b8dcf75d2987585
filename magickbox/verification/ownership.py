"""Says where an instance is: the places that own it (contracts, section 8, the promise). Reads only."""

import os
from collections.abc import Iterator
from pathlib import Path

from magickbox.datafolder import DataFolder
from magickbox.dicom.header import read_file_meta
from magickbox.errors import UnreadableHeader
from magickbox.instance import file_stem
from magickbox.job import JobState
from magickbox.jobfolder import INPUT, NEW, SUPERSEDED
from magickbox.ledger import Ledger, places

_GONE = frozenset({JobState.DELETED, JobState.DELETING})


def where_is(data: DataFolder, ledger: Ledger, sop_instance: str) -> list[str]:
    """Every visible place that owns an instance of that SOP Instance UID.

    A file is told as its path below the data folder, a deleted job as ``deleted: <job>``. Hard links of one file are
    one place. A row without its file is none.
    """
    with ledger.reading() as tx:
        owners, rows = places.owners(tx, sop_instance), frozenset(places.job_ids(tx))
    deleted = dict.fromkeys(f"deleted: {owner.job}" for owner in owners if owner.state in _GONE)
    recorded = (data.jobs / owner.job / owner.place / owner.file for owner in owners if owner.state not in _GONE)
    files = _each_once((*recorded, *_unrecorded(data, rows, sop_instance)))
    return [*deleted, *(str(path.relative_to(data.root)) for path in files)]


def _each_once(paths: tuple[Path, ...]) -> Iterator[Path]:
    """The files that are there, each once however many links it has."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield path


def _unrecorded(data: DataFolder, rows: frozenset[str], sop_instance: str) -> Iterator[Path]:
    """Files that no row has yet: in association folders, in jobs being born, in job folders without a row."""
    folders = [data.jobs / name for name in sorted(os.listdir(data.jobs)) if name not in rows]
    for entry in sorted(data.incoming.iterdir()):
        if entry.name.startswith(NEW):
            folders.append(entry)
        elif not entry.name.startswith("."):
            yield from _named(entry, sop_instance)
    for folder in folders:
        for place in (INPUT, SUPERSEDED):
            yield from _named(folder / place, sop_instance)


def _named(folder: Path, sop_instance: str) -> Iterator[Path]:
    """The files in a folder that are the instance; ``<UID>.<n>.dcm`` may be it, or one with a longer UID."""
    stem = file_stem(sop_instance)
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name.startswith(f"{stem}.") and name.endswith(".dcm") and _is(folder / name, sop_instance):
            yield folder / name


def _is(path: Path, sop_instance: str) -> bool:
    try:
        with path.open("rb") as stream:
            return read_file_meta(stream).sop_instance == sop_instance
    except (OSError, UnreadableHeader):
        return False
