"""What a backup has in it: everything of a box that a person or the box has written down, and the jobs if asked for.

Of a job that has not been processed only what never changes is taken, so that its folder goes with its row even if its
processor begins meanwhile.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from magickbox.datafolder import DataFolder
from magickbox.job import HAS_FOLDER, Job, JobState
from magickbox.jobfolder import INPUT, SUPERSEDED

Entry = tuple[str, Path]
"""The name in the archive, and where it is now."""

RULES, SETTINGS, PROCESSORS = "routing.json", "magickbox.toml", "processors"
_PASSING = frozenset({"lock", "control.sock", "ballast", "converted", "etc", "memory", "pictures", "uploads"})
_COPIES = (".version-", ".broken-", ".newer-", "-wal", "-shm", "-journal", ".tmp", ".part")
_SQLITE = b"SQLite format 3\0"
_UNCHANGING = frozenset({INPUT, SUPERSEDED, "info.json"})
_BEFORE_OUTCOME = frozenset({JobState.READY, JobState.RUNNING})


@dataclass(frozen=True)
class Sources:
    """Where a box finds what is backed up. ``others`` are more files below the data folder that its settings name."""

    data: DataFolder
    routing: Path
    settings: Path
    processors: Path
    others: tuple[Path, ...] = ()


def papers(sources: Sources) -> Iterator[Entry]:
    """Rules, settings, and the files that the settings name, as far as they are there and in the data folder."""
    for name, path in ((RULES, sources.routing), (SETTINGS, sources.settings)):
        if path.is_file():
            yield name, path
    root = sources.data.root
    for path in sources.others:
        if path.is_file() and path.is_relative_to(root):
            yield str(path.relative_to(root)), path


def outside(sources: Sources) -> dict[str, str]:
    """What stood elsewhere, by its name in the archive."""
    places = {RULES: sources.routing, SETTINGS: sources.settings, PROCESSORS: sources.processors}
    return {name: str(path) for name, path in places.items() if path != sources.data.root / name and path.exists()}


def state_files(data: DataFolder) -> Iterator[Entry]:
    """What is in state/ to stay, beside databases."""
    yield from ((name, path) for name, path in _staying(data) if not is_database(path))


def databases(data: DataFolder) -> list[Entry]:
    """The SQLite files in state/: the ledger first, then the window's."""
    found = [(name, path) for name, path in _staying(data) if is_database(path)]
    return sorted(found, key=lambda entry: (entry[1] != data.ledger, entry[0]))


def _staying(data: DataFolder) -> Iterator[Entry]:
    for name in sorted(os.listdir(data.state)):
        path = data.state / name
        if name in _PASSING or name.startswith(".") or any(mark in name for mark in _COPIES):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from tree(f"state/{name}", path)
        elif _is_regular(path):
            yield f"state/{name}", path


def is_database(path: Path) -> bool:
    """True of a SQLite file, by its first bytes."""
    if not _is_regular(path):
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def processor_files(sources: Sources) -> Iterator[Entry]:
    """The drop-ins, and what containers have kept."""
    if sources.processors.is_dir():
        yield from tree(PROCESSORS, sources.processors)
    memory = sources.data.state / "memory"
    if memory.is_dir():
        yield from tree("state/memory", memory)


def job_files(data: DataFolder, job: Job) -> Iterator[Entry]:
    """A job's folder as it goes with its row; raises FileNotFoundError if it is gone."""
    folder = data.jobs / job.id
    whole = job.state not in _BEFORE_OUTCOME and job.resume is not JobState.READY
    yield f"jobs/{job.id}", folder
    for name in sorted(os.listdir(folder)):
        if (whole or name in _UNCHANGING) and not name.startswith("."):
            yield from tree(f"jobs/{job.id}/{name}", folder / name, links=False)


def with_folder(rows: Iterable[Job]) -> list[Job]:
    """Those whose folder should be there."""
    return [job for job in rows if job.state in HAS_FOLDER]


def tree(name: str, top: Path, *, links: bool = True) -> Iterator[Entry]:
    """A file, or a folder with all below it: files, folders and, if wanted, links; other things are passed over."""
    if top.is_symlink():
        if links:
            yield name, top
    elif top.is_dir():
        yield name, top
        for each in sorted(os.listdir(top)):
            yield from tree(f"{name}/{each}", top / each, links=links)
    elif _is_regular(top):
        yield name, top


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
