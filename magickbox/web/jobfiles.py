"""The files of a job, as they may be asked for: what a look into its folder finds, never a path somebody gives."""

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from magickbox.errors import NotFound
from magickbox.job import HAS_FOLDER, Job
from magickbox.jobfolder import INPUT, OUTPUT, JobFolder
from magickbox.ledger import jobs
from magickbox.web.context import Context

CHUNK = 256 * 1024
MOST_FILES, DEEPEST = 200_000, 32
PLACES = (INPUT, OUTPUT)


@dataclass(frozen=True)
class JobFile:
    """A regular file below a job's INPUT or OUTPUT; ``path`` is relative to the job's folder, with slashes."""

    path: str
    bytes: int


def folder_of(box: Context, id_: str) -> tuple[Job, JobFolder]:
    """A job that still has its folder; raises NotFound."""
    with box.ledger.reading() as tx:
        job = jobs.get(tx, id_)
    if job.state not in HAS_FOLDER:
        raise NotFound(f"{id_} is {job.state}: its files are not there any more")
    return job, JobFolder(box.data.jobs / job.id)


def files_below(folder: Path, places: tuple[str, ...] = PLACES) -> Iterator[JobFile]:
    """The regular files of these places, in a fixed order; links are neither followed nor told."""
    left = MOST_FILES
    for place in places:
        for found in _walk(folder / place, place, 0):
            left -= 1
            if left < 0:
                return
            yield found


def _walk(top: Path, name: str, depth: int) -> Iterator[JobFile]:
    try:
        with os.scandir(top) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return  # it was never there, or went while it was looked at
    for entry in found:
        if entry.is_dir(follow_symlinks=False) and depth < DEEPEST:
            yield from _walk(top / entry.name, f"{name}/{entry.name}", depth + 1)
        elif entry.is_file(follow_symlinks=False):
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue
            yield JobFile(f"{name}/{entry.name}", size)


def find(folder: Path, wanted: str) -> JobFile:
    """The file of that name among those that are there; raises NotFound."""
    place = wanted.partition("/")[0]
    found = (
        next((each for each in files_below(folder, (place,)) if each.path == wanted), None) if place in PLACES else None
    )
    if found is None:
        raise NotFound("the job has no such file")
    return found


def open_file(folder: Path, file: JobFile) -> io.BufferedReader:
    """Open it without following a link; raises NotFound if it is gone."""
    try:
        fd = os.open(folder / file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise NotFound("the file is gone") from None
    stream = os.fdopen(fd, "rb")
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        stream.close()
        raise NotFound("the job has no such file")
    return stream


def chunks(stream: io.BufferedReader) -> Iterator[bytes]:
    """A file piece by piece; closes it."""
    with stream:
        while piece := stream.read(CHUNK):
            yield piece


def zipped(folder: Path, files: Iterator[JobFile], top: str) -> Iterator[bytes]:
    """A zip of these files, made as it is taken: neither in memory nor on disk.

    Stored, not packed: images hardly shrink. What is in it is settled at its beginning: a file that goes meanwhile ends
    the stream with an error, so that half a job is never taken for a whole one.
    """
    out, there = _Outgoing(), list(files)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for file in there:
            entry = zipfile.ZipInfo(f"{top}/{file.path}".encode("utf-8", "replace").decode(), (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o600 << 16
            with archive.open(entry, "w", force_zip64=True) as into:
                for piece in chunks(open_file(folder, file)):
                    into.write(piece)
                    yield out.take()
            yield out.take()
    yield out.take()


class _Outgoing(io.RawIOBase):
    """Keeps what was written until it is taken; nobody can seek in it."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # zipfile gives bytes
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What came since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
