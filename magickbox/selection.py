"""What lies below a RouteDirectory of a job: the DICOM files that rules may select, with the values they ask for."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from magickbox.decision import Listing, Look
from magickbox.dicom.header import SOP_CLASS, SOP_INSTANCE, read_file_meta, scan, text_of
from magickbox.dicom.tagvalues import ABSENT, TagValues, values_in
from magickbox.errors import UnreadableHeader
from magickbox.tagpath import TagPath

_PREFIX_AT, _PREFIX = 128, b"DICM"
_UIDS = frozenset({SOP_CLASS, SOP_INSTANCE})


@dataclass(frozen=True)
class FoundFile:
    """A DICOM file of a job (see ``decision.Candidate``)."""

    path: str
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    tags: Mapping[TagPath, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def values(self, tag: TagPath) -> tuple[str, ...]:
        """The text of the element; the empty text if it is absent."""
        return self.tags.get(tag, ABSENT)


def look_below(job: Path) -> Look:
    """How a decision looks at the files of one job folder."""

    def look(directory: str, wanted: frozenset[TagPath]) -> Listing:
        top = job / directory
        if not top.is_dir() or not _is_inside(top, job):
            return Listing(missing=True)
        return _list(job, top, wanted)

    return look


def _list(job: Path, top: Path, wanted: frozenset[TagPath]) -> Listing:
    files: list[FoundFile] = []
    unreadable: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    other = 0
    for path in _walk(top):
        name = path[len(str(job)) + 1 :]
        try:
            read = _look_at(path, job, name, wanted)
        except UnreadableHeader as exc:
            unreadable.append((name, str(exc)))
            continue
        except OSError as exc:
            unreadable.append((name, exc.strerror or "cannot be read"))
            continue
        if read is None:
            other += 1
            continue
        files.append(read[0])
        notes.extend((name, text) for text in read[1])
    return Listing(tuple(files), other, tuple(unreadable), tuple(notes))


def _walk(top: Path) -> Iterator[str]:
    """Every file at any depth, in a fixed order; links to folders count as files and are not followed."""
    ahead = [str(top)]
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        ahead += [entry.path for entry in reversed(ordered) if entry.is_dir(follow_symlinks=False)]
        yield from (entry.path for entry in ordered if not entry.is_dir(follow_symlinks=False))


def _is_inside(path: Path, job: Path) -> bool:
    return path.resolve().is_relative_to(job.resolve())


def _look_at(path: str, job: Path, name: str, wanted: frozenset[TagPath]) -> tuple[FoundFile, tuple[str, ...]] | None:
    """A file and what could not be looked at in it; None for what is no DICOM file, and for links out of the job.

    Raises UnreadableHeader, or OSError.
    """
    if os.path.islink(path) and not _is_inside(Path(path), job):
        return None
    # Without waiting: a processor may leave a named pipe.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or os.pread(fd, len(_PREFIX), _PREFIX_AT) != _PREFIX:
            return None
        return _read(stream, name, wanted)


def _read(stream: BinaryIO, name: str, wanted: frozenset[TagPath]) -> tuple[FoundFile, tuple[str, ...]]:
    meta = read_file_meta(stream)
    header = scan(stream, meta.transfer_syntax, _UIDS, SOP_INSTANCE)
    # The dataset's word counts: scripts that change UIDs often leave the file meta as it was.
    sop_class = text_of(header.get(SOP_CLASS)) or meta.sop_class
    sop_instance = text_of(header.get(SOP_INSTANCE)) or meta.sop_instance
    if not sop_class or not sop_instance:
        raise UnreadableHeader("neither file meta nor dataset say which SOP class and instance it is")
    if not meta.transfer_syntax:
        raise UnreadableHeader("its file meta does not say in which transfer syntax it is")
    values = values_in(stream, wanted) if wanted else TagValues({})
    return FoundFile(name, sop_class, sop_instance, meta.transfer_syntax, values.values), values.notes
