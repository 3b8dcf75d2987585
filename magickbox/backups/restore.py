"""Puts a backup in place of nothing: into an empty data folder, whole or not at all.

It is unpacked into ``.restoring`` in that folder, and only what was proved to be whole is moved up, the ledger last.
"""

import os
import shutil
import tarfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from magickbox.backups.archive import Told, read_archive
from magickbox.backups.settling import Settled, settle
from magickbox.datafolder import BoxLock, DataFolder
from magickbox.durable import fsync_folder, fsync_tree
from magickbox.errors import BackupError
from magickbox.jobfolder import remove_tree
from magickbox.ledger.schema import newest_schema

_NOTHING = frozenset({"lost+found"})  # what a new filesystem has
_STATE = "state"


@dataclass(frozen=True)
class Restored:
    """What was restored: what the backup says of itself, and what became of its jobs."""

    told: Told
    settled: Settled


def refuse_unless_empty(data: DataFolder) -> None:
    """Raises BackupError if anything is in the data folder."""
    there = sorted(set(os.listdir(data.root)) - _NOTHING) if data.root.is_dir() else []
    if there:
        raise BackupError(f"{data.root} is not empty ({there[0]}); a restore overwrites nothing: name another folder")


def restore(archive: Path, data: DataFolder, *, go_on: bool) -> Restored:
    """Unpack a backup; raises BackupError, LedgerError or OSError, after which the folder is as it was.

    With ``go_on`` jobs that were under way when the backup was made go on at the next start; else they are HELD.
    """
    refuse_unless_empty(data)
    data.root.mkdir(parents=True, exist_ok=True)
    try:
        told = _unpack(archive, data.restoring)
        _refuse_newer(archive, told)
        owner = data.root.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            _give(data.restoring, owner.st_uid, owner.st_gid)
        fsync_tree(data.restoring)
    except BaseException:
        with suppress(FileNotFoundError):
            remove_tree(data.restoring)
        raise
    _move_up(data)
    data.prepare()
    with BoxLock(data):
        settled = settle(data, f"it was under way when the backup of {told.made[:19]} was made", go_on=go_on)
    if os.geteuid() == 0 and owner.st_uid != 0:
        _give(data.root, owner.st_uid, owner.st_gid)
    return Restored(told, settled)


def _refuse_newer(archive: Path, told: Told) -> None:
    if told.schema > newest_schema():
        raise BackupError(
            f"{archive}: its ledger has schema version {told.schema}, this magickbox knows {newest_schema()};"
            f" version {told.version} made it"
        )


def _unpack(archive: Path, top: Path) -> Told:
    top.mkdir(mode=0o700)
    unpacking = _Unpacking(top)
    told = read_archive(archive, unpacking.take)
    unpacking.finish()
    for job in told.incomplete:
        with suppress(FileNotFoundError):
            remove_tree(top / "jobs" / job)
    return told


@dataclass
class _Unpacking:
    """Makes files below ``top``. Symbolic links come last, so that nothing is written through one."""

    top: Path
    symlinks: list[tuple[str, str]] = field(default_factory=list)
    folders: list[tuple[Path, int]] = field(default_factory=list)

    def take(self, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        path = self.top / member.name
        if member.issym():
            self.symlinks.append((member.name, member.linkname))
        elif member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            self.folders.append((path, member.mode & 0o777))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make(path, member, content)

    def _make(self, path: Path, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        if content is None:
            os.link(self.top / member.linkname, path)
            return
        with open(path, "xb") as file:
            shutil.copyfileobj(content, file, 1024 * 1024)
        os.chmod(path, member.mode & 0o777)
        os.utime(path, (member.mtime, member.mtime))

    def finish(self) -> None:
        for name, target in self.symlinks:
            os.symlink(target, self.top / name)
        for path, mode in reversed(self.folders):
            os.chmod(path, mode | 0o700)


def _move_up(data: DataFolder) -> None:
    """Move all into the data folder, state/ with the ledger last: before that nothing takes it for a box's."""
    names = sorted(os.listdir(data.restoring), key=lambda name: (name == _STATE, name))
    for name in names:
        os.rename(data.restoring / name, data.root / name)
        fsync_folder(data.root)
    os.chmod(data.state, 0o700)
    data.restoring.rmdir()
    fsync_folder(data.root)


def _give(top: Path, user: int, group: int) -> None:
    """Make everything below ``top`` that user's: root restores for the box, which is not root."""
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), user, group, follow_symlinks=False)
    os.chown(top, user, group)
