"""What lies below a RouteDirectory of a job: the DICOM files that rules may select, with the values they ask for."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from magickbox.decision import Listing, Look
from magickbox.dicom.header import SOP_CLASS, SOP_INSTANCE, read_file_meta, scan, text_of
from magickbox.dicom.tagvalues import ABSENT, TagValues, values_in
from magickbox.errors import UnreadableHeader
from magickbox.tagpath import TagPath

_PREFIX_AT, _PREFIX = 128, b"DICM"
_OUR_TROUBLE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_BEYOND = 0xFFFFFFFF  # no tag comes after it: to the end of the dataset
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


def damage_below(job: Path) -> Callable[[str], str]:
    """How a decision finds out that a file of one job folder cannot be read to its end; empty if it can."""

    def damage(name: str) -> str:
        try:
            fd = os.open(job / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb", buffering=0) as stream:
                scan(stream, read_file_meta(stream).transfer_syntax, frozenset(), _BEYOND)
        except UnreadableHeader as exc:
            return str(exc)
        except OSError as exc:
            if exc.errno in _OUR_TROUBLE:
                raise
            return exc.strerror or "cannot be read"
        return ""

    return damage


def _list(job: Path, top: Path, wanted: frozenset[TagPath]) -> Listing:
    files: list[FoundFile] = []
    unreadable: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    other = 0
    for path in _walk(top, lambda folder, why: unreadable.append((_shown(folder[len(str(job)) + 1 :]), why))):
        name = path[len(str(job)) + 1 :]
        try:
            read = _look_at(path, job, name, wanted)
            if read is not None and _shown(name) != name:
                raise UnreadableHeader("its name is not UTF-8")
        except UnreadableHeader as exc:
            unreadable.append((_shown(name), str(exc)))
            continue
        except OSError as exc:
            if exc.errno in _OUR_TROUBLE:
                raise
            unreadable.append((_shown(name), exc.strerror or "cannot be read"))
            continue
        if read is None:
            other += 1
            continue
        files.append(read[0])
        notes.extend((name, text) for text in read[1])
    return Listing(tuple(files), other, tuple(unreadable), tuple(notes))


def _shown(name: str) -> str:
    """A name as text; bytes that are not UTF-8 are written as ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _walk(top: Path, left_out: Callable[[str, str], None]) -> Iterator[str]:
    """Every file at any depth, in a fixed order; links to folders count as files and are not followed."""
    ahead = [str(top)]
    while ahead:
        folder = ahead.pop()
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as exc:
            if exc.errno != errno.ENAMETOOLONG:
                raise
            left_out(f"{folder[:200]}…", "nested too deeply")
            continue
        ahead += [entry.path for entry in reversed(ordered) if entry.is_dir(follow_symlinks=False)]
        yield from (entry.path for entry in ordered if not entry.is_dir(follow_symlinks=False))


def _is_inside(path: Path, job: Path) -> bool:
    """True if a path leads to something in the job's folder; links in a circle lead nowhere."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(job))


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
