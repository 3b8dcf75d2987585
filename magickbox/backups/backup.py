"""Makes a backup, while the box runs or not: one file, whole or not at all, read back before it gets its name."""

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from magickbox import __version__
from magickbox.backups.archive import ArchiveWriter, Told, read_archive
from magickbox.backups.contents import (
    Entry,
    Sources,
    databases,
    job_files,
    outside,
    papers,
    processor_files,
    state_files,
    with_folder,
)
from magickbox.clock import now, to_text
from magickbox.durable import fsync_file, fsync_folder
from magickbox.errors import BackupError, LedgerError
from magickbox.job import Job
from magickbox.ledger import Ledger, jobs
from magickbox.ledger.copies import copy_database, schema_of

PREFIX = "magickbox-"
_KINDS = (".tar.gz", ".tgz", ".tar")


@dataclass(frozen=True)
class Wanted:
    """What is to be in it beside ledger, rules and settings."""

    processors: bool = False
    jobs: bool = False


@dataclass(frozen=True)
class Made:
    """A backup that was made: where, its bytes, its files, and the jobs that went away while they were copied.

    ``damaged`` says of databases other than the ledger why they could not be copied.
    """

    path: Path
    size: int
    files: int
    incomplete: tuple[str, ...]
    damaged: tuple[str, ...] = ()


def target_for(asked: Path, wanted: Wanted) -> Path:
    """The file for what was asked: in a folder it is named by the time; raises BackupError if it cannot be used."""
    if asked.is_dir():
        asked = asked / f"{PREFIX}{now():%Y%m%dT%H%M%SZ}{'.tar' if wanted.jobs else '.tar.gz'}"
    if not asked.name.endswith(_KINDS):
        raise BackupError(f"{asked}: neither a folder that is there nor a name that ends in .tar or .tar.gz")
    if not asked.parent.is_dir():
        raise BackupError(f"{asked.parent}: there is no such folder")
    if os.path.lexists(asked):
        raise BackupError(f"{asked} is there already; a backup overwrites nothing")
    return asked


def make(sources: Sources, target: Path, wanted: Wanted, *, running: bool) -> Made:
    """Write the backup, read it back, and give it its name; raises BackupError, LedgerError or OSError."""
    part = target.with_name(f".{target.name}.part")
    try:
        with tempfile.TemporaryDirectory(prefix=".magickbox-backup-", dir=target.parent) as aside:
            told, copied = _write(sources, part, wanted, Path(aside), running)
        if read_archive(part) != told:
            raise BackupError(f"{target}: what was read back is not what was written")
        os.link(part, target)  # unlike a rename it never takes the place of another file
    except FileExistsError as exc:
        raise BackupError(f"{target} is there already; a backup overwrites nothing") from exc
    finally:
        part.unlink(missing_ok=True)
    fsync_folder(target.parent)
    return Made(target, target.stat().st_size, copied.files, told.incomplete, tuple(copied.damaged))


def _write(sources: Sources, part: Path, wanted: Wanted, aside: Path, running: bool) -> "tuple[Told, _Copying]":
    part.unlink(missing_ok=True)
    with (
        open(part, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file,
        ArchiveWriter(file, compressed=not part.name.endswith(".tar.part")) as archive,
    ):
        copying = _Copying(archive)
        copies = _copy_databases(sources, aside, copying.damaged)
        copying.each(copies)
        schema = schema_of(copies[0][1])
        copying.each(papers(sources))
        copying.each(state_files(sources.data))
        if wanted.processors:
            copying.each(processor_files(sources))
        if wanted.jobs:
            _copy_jobs(sources, copying, aside / sources.data.ledger.name)
        told = Told(to_text(now()), __version__, schema, wanted.jobs, running, tuple(copying.gone), outside(sources))
        archive.finish(told)
    fsync_file(part)
    return told, copying


def _copy_databases(sources: Sources, aside: Path, damaged: list[str]) -> list[Entry]:
    """Consistent copies of the databases, as entries of the archive; only the ledger's damage is the end of it."""
    found = databases(sources.data)
    if not found or found[0][1] != sources.data.ledger:
        raise BackupError(f"{sources.data.ledger}: no ledger there; has a box ever run on this data folder?")
    copied = []
    for name, path in found:
        try:
            copy_database(path, aside / path.name)
            copied.append((name, aside / path.name))
        except LedgerError as exc:
            if path == sources.data.ledger:
                raise
            damaged.append(str(exc))
    return copied


def _copy_jobs(sources: Sources, copying: "_Copying", ledger: Path) -> None:
    """The folders of the jobs that the copied ledger knows."""
    copy = Ledger(ledger)
    try:
        with copy.reading() as tx:
            rows = with_folder(jobs.newest(tx, -1))
    finally:
        copy.close()
    copying.add("jobs", sources.data.jobs)
    for job in reversed(rows):
        copying.job(sources, job)


class _Copying:
    """Adds to the archive, counts, and remembers the jobs that are gone before they are whole in it."""

    def __init__(self, archive: ArchiveWriter) -> None:
        self._archive, self.files = archive, 0
        self.gone: list[str] = []
        self.damaged: list[str] = []

    def add(self, name: str, path: Path) -> None:
        self._archive.add(name, path)
        self.files += 1

    def each(self, entries: Iterable[Entry]) -> None:
        """Add what is still there: a temporary file may go while the box runs."""
        for name, path in entries:
            with suppress(FileNotFoundError):
                self.add(name, path)

    def job(self, sources: Sources, job: Job) -> None:
        try:
            for name, path in job_files(sources.data, job):
                self.add(name, path)
        except (FileNotFoundError, NotADirectoryError):
            self.gone.append(job.id)


def forget_older(folder: Path, keep: int, log: Callable[[str], None]) -> None:
    """Remove the oldest backups that were named by their time in this folder, so that ``keep`` stay."""
    names = sorted(name for name in os.listdir(folder) if name.startswith(PREFIX) and name.endswith(_KINDS))
    for name in names[: max(0, len(names) - keep)]:
        (folder / name).unlink()
        log(f"removed {folder / name}")
