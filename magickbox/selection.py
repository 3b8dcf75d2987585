"""What lies below a RouteDirectory of a job: the DICOM files that rules may select, with the values they ask for."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from magickbox.decision import Listing, Look
from magickbox.dicomheader import SOP_CLASS, SOP_INSTANCE, FileMeta, read_file_meta, scan, text_of
from magickbox.errors import UnreadableHeader
from magickbox.tagpath import TagPath
from magickbox.tagvalues import ABSENT, read_values

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
        name = str(path.relative_to(job))
        if not _is_regular(path, job) or not _has_prefix(path):
            other += 1
            continue
        try:
            found, said = _read(path, name, wanted)
        except UnreadableHeader as exc:
            unreadable.append((name, str(exc)))
            continue
        except OSError as exc:
            unreadable.append((name, exc.strerror or "cannot be read"))
            continue
        files.append(found)
        notes.extend((name, text) for text in said)
    return Listing(tuple(files), other, tuple(unreadable), tuple(notes))


def _walk(top: Path) -> Iterator[Path]:
    """Every file at any depth, in a fixed order; links to folders count as files and are not followed."""
    for folder, folders, files in os.walk(top):
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in sorted(files + links))


def _is_inside(path: Path, job: Path) -> bool:
    return path.resolve().is_relative_to(job.resolve())


def _is_regular(path: Path, job: Path) -> bool:
    """True for a file, or a link to a file within the job; not for folders, devices, sockets, and links out."""
    try:
        return stat.S_ISREG(path.stat().st_mode) and (not path.is_symlink() or _is_inside(path, job))
    except OSError:
        return False


def _has_prefix(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            stream.seek(_PREFIX_AT)
            return stream.read(len(_PREFIX)) == _PREFIX
    except OSError:
        return False


def _read(path: Path, name: str, wanted: frozenset[TagPath]) -> tuple[FoundFile, tuple[str, ...]]:
    with path.open("rb") as stream:
        meta = read_file_meta(stream)
        header = scan(stream, meta.transfer_syntax, _UIDS, SOP_INSTANCE)
    # The dataset's word counts: scripts that change UIDs often leave the file meta as it was.
    sop_class = text_of(header.get(SOP_CLASS)) or meta.sop_class
    sop_instance = text_of(header.get(SOP_INSTANCE)) or meta.sop_instance
    if not sop_class or not sop_instance:
        raise UnreadableHeader("neither file meta nor dataset say which SOP class and instance it is")
    if not meta.transfer_syntax:
        raise UnreadableHeader("its file meta does not say in which transfer syntax it is")
    tags, said = _values(path, meta, wanted)
    return FoundFile(name, sop_class, sop_instance, meta.transfer_syntax, tags), said


def _values(
    path: Path, meta: FileMeta, wanted: frozenset[TagPath]
) -> tuple[Mapping[TagPath, tuple[str, ...]], tuple[str, ...]]:
    if not wanted:
        return {}, ()
    read = read_values(path, meta, wanted)
    return read.values, read.notes
