"""The file that a backup is: a tar archive whose last member, backup.json, says what it is and proves that it is whole.

It is written and read from front to back in bounded memory, however many files are in it. ``proof`` in backup.json is
the SHA-256 over a line for each member before it (kind, path, mode, time, size, and SHA-256 or link), in their order,
and over what else backup.json says.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any, Literal

from magickbox.errors import BackupError

LAST = "backup.json"
FORMAT = 1
_PIECE = 1024 * 1024
_LARGEST_LAST = 1024 * 1024

Visit = Callable[[tarfile.TarInfo, IO[bytes] | None], None]
"""``visit(member, content)``: content is None for what is no regular file; it need not be read."""


@dataclass(frozen=True)
class Told:
    """What backup.json says: when and by which version it was made, and what is in it."""

    made: str
    version: str
    schema: int
    jobs: bool
    running: bool
    incomplete: tuple[str, ...] = ()
    outside: Mapping[str, str] | None = None

    def as_json(self) -> dict[str, object]:
        """The values as JSON has them."""
        return {
            "made": self.made, "version": self.version, "schema": self.schema, "jobs": self.jobs,
            "running": self.running, "incomplete": list(self.incomplete), "outside": dict(self.outside or {}),
        }  # fmt: skip


def _line(member: tarfile.TarInfo, said: str) -> bytes:
    kind = "file" if member.isreg() else "link" if member.islnk() else "symlink" if member.issym() else "folder"
    facts = [kind, member.name, member.mode & 0o7777, member.mtime, member.size, said]
    return json.dumps(facts).encode() + b"\n"


def _proof_of(members: "hashlib._Hash", said: Mapping[str, object]) -> str:
    whole = members.copy()
    whole.update(json.dumps(said, sort_keys=True).encode())
    return whole.hexdigest()


class _Counted:
    """A stream that remembers the digest of what was read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._sum = stream, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._sum.update(data)
        return data

    def finish(self) -> str:
        """Read what is left, and say the digest."""
        while self.read(_PIECE):
            pass
        return self._sum.hexdigest()


class ArchiveWriter:
    """Writes one archive to an open file; a context manager, whole only after ``finish``."""

    def __init__(self, file: IO[bytes], *, compressed: bool) -> None:
        mode: Literal["w|gz", "w|"] = "w|gz" if compressed else "w|"
        self._tar = tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT)  # noqa: SIM115  # see finish
        self._proof, self._first = hashlib.sha256(), dict[tuple[int, int], str]()

    def add(self, name: str, path: Path) -> None:
        """Add a file, folder or link; other names of a file that is in it already become links to that one.

        Raises FileNotFoundError if it is gone, with nothing written, and OSError if it changes while it is read.
        """
        if path.is_symlink() or path.is_dir():
            self._put(self._tar.gettarinfo(str(path), name), None)
            return
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            member = self._tar.gettarinfo(arcname=name, fileobj=file)
            member.type, member.linkname, member.size = tarfile.REGTYPE, "", status.st_size
            if status.st_nlink > 1:
                first = self._first.setdefault((status.st_dev, status.st_ino), name)
                if first != name:
                    member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
            self._put(member, file if member.isreg() else None)

    def _put(self, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        counted = None if content is None else _Counted(content)
        self._tar.addfile(member, counted)
        self._tar.members.clear()  # type: ignore[attr-defined]  # these would grow with the number of files
        self._tar.inodes.clear()  # type: ignore[attr-defined]
        said = member.linkname if counted is None else counted.finish()
        self._proof.update(_line(member, said))

    def finish(self, told: Told) -> None:
        """Write backup.json and the end of the archive."""
        said = told.as_json()
        data = json.dumps({"format": FORMAT, **said, "proof": _proof_of(self._proof, said)}, indent=1).encode()
        member = tarfile.TarInfo(LAST)
        member.size, member.mode = len(data), 0o600
        self._tar.addfile(member, BytesIO(data))
        self._tar.close()

    def __enter__(self) -> "ArchiveWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        """Nothing: an archive that was not finished has no proof, and is removed by whoever opened its file."""


def read_archive(path: Path, visit: Visit = lambda _member, _content: None) -> Told:
    """Read an archive from front to back and say what it is; raises BackupError if it is damaged or not whole, OSError.

    ``visit`` is called for each member before it is known whether the archive is whole.
    """
    try:
        with tarfile.open(path, "r|*") as tar:
            return _read(path, tar, visit)
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, UnicodeError) as exc:
        raise BackupError(f"{path}: not a whole backup: {exc}") from exc
    except OSError as exc:
        if exc.errno is None:  # gzip's way to tell of damage
            raise BackupError(f"{path}: not a whole backup: {exc}") from exc
        raise


def _read(path: Path, tar: tarfile.TarFile, visit: Visit) -> Told:
    proof = hashlib.sha256()
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # its list would grow with the number of files
        content = tar.extractfile(member) if member.isreg() else None
        if member.name == LAST and content is not None:
            return _told(path, content.read(_LARGEST_LAST), proof)
        _refuse_strange(path, member)
        counted = None if content is None else _Counted(content)
        visit(member, counted)  # type: ignore[arg-type]  # only its read is used
        proof.update(_line(member, member.linkname if counted is None else counted.finish()))
    raise BackupError(f"{path}: not a whole backup: its end is missing")


def _refuse_strange(path: Path, member: tarfile.TarInfo) -> None:
    """No name leads out of the folder into which it is unpacked; there are files, folders and links only."""
    names = [member.name, member.linkname] if member.islnk() else [member.name]
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise BackupError(f"{path}: '{name}' is no name of a backup's file")
    if not (member.isreg() or member.isdir() or member.islnk() or member.issym()):
        raise BackupError(f"{path}: '{member.name}' is neither a file, a folder nor a link")


def _told(path: Path, data: bytes, members: "hashlib._Hash") -> Told:
    said: dict[str, Any] = json.loads(data)
    if said["format"] != FORMAT:
        raise BackupError(f"{path}: a backup of format {said['format']}; this magickbox reads format {FORMAT}")
    told = Told(
        str(said["made"]), str(said["version"]), int(said["schema"]), bool(said["jobs"]), bool(said["running"]),
        tuple(map(str, said["incomplete"])), {str(k): str(v) for k, v in said["outside"].items()},
    )  # fmt: skip
    if said["proof"] != _proof_of(members, told.as_json()):
        raise BackupError(f"{path}: damaged: its content is not what was written")
    return told
