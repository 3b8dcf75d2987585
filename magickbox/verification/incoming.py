"""Looks at incoming/ and quarantine/: what is damaged there, and what a kill left behind. Reads only."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from magickbox.datafolder import DataFolder
from magickbox.dicom.header import identify, read_file_meta
from magickbox.errors import UnreadableHeader
from magickbox.incoming.record import MEMBER, PART, read_association, read_instance
from magickbox.jobfolder import NEW, TRASH, JobFolder
from magickbox.verification.finding import Finding, error, warning

_TEMPORARY = ".tmp"
_IN_HAND = 60.0  # seconds that a running box may take between the two files of a quarantined instance


def check_incoming(data: DataFolder, *, quick: bool, running: bool) -> Iterator[Finding]:
    """What is wrong below incoming/. Association folders that wait to become jobs are normal."""
    for name in sorted(os.listdir(data.incoming)):
        entry = data.incoming / name
        if entry.is_dir() and name.startswith((NEW, TRASH)):
            if not running:
                yield _interrupted(entry)
        elif entry.is_dir() and not name.startswith("."):
            yield from _association(entry, quick, running)
        elif entry.exists():
            yield _stray(f"incoming/{name}")


def _interrupted(entry: Path) -> Finding:
    where = f"incoming/{entry.name}"
    if entry.name.startswith(TRASH):
        return warning(where, "a job's removal was interrupted; the next start carries it on")
    if JobFolder(entry).plan.exists():
        return warning(where, "a job's birth was interrupted; the next start carries it on")
    return warning(where, "a job's birth was interrupted before anything had moved; the next start removes this")


def _stray(where: str) -> Finding:
    return warning(where, "this is not the box's; it is left alone")


def _association(folder: Path, quick: bool, running: bool) -> Iterator[Finding]:
    where = f"incoming/{folder.name}"
    with suppress(FileNotFoundError):  # of a running box it may become a job at any moment
        names = sorted(os.listdir(folder))
        instances = [name for name in names if name.endswith(".dcm") and not name.startswith(".")]
        if instances:
            yield from _record(folder, where, running)
        for name in instances:
            yield from _instance(folder / name, f"{where}/{name}", quick)
        for name in sorted(set(names) - set(instances) - {MEMBER}):
            yield from _beside(name, f"{where}/{name}", running)


def _record(folder: Path, where: str, running: bool) -> Iterator[Finding]:
    try:
        read_association(folder)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        if running and not folder.exists():
            return
        what = f"who sent these instances cannot be read ({exc}); the next start puts them into quarantine"
        yield error(f"{where}/{MEMBER}", what)


def _instance(path: Path, where: str, quick: bool) -> Iterator[Finding]:
    try:
        if quick:
            _read_header(path)
        else:
            read_instance(path)
    except FileNotFoundError:
        return
    except (OSError, UnreadableHeader) as exc:
        yield error(where, f"an instance that was acknowledged cannot be read: {exc}")


def _read_header(path: Path) -> None:
    with path.open("rb") as stream:
        meta = read_file_meta(stream)
        stream.seek(meta.offset)
        identify(stream, meta.transfer_syntax)


def _beside(name: str, where: str, running: bool) -> Iterator[Finding]:
    """A file in an association folder that is no instance."""
    if not name.startswith(PART) and not name.endswith(_TEMPORARY):
        yield _stray(where)
    elif not running:
        yield warning(where, "it was being received when the box ended, not acknowledged; the next start removes it")


def check_quarantine(data: DataFolder, *, running: bool) -> Iterator[Finding]:
    """Each instance in quarantine/ has its reason, and each reason its instance."""
    names = set(os.listdir(data.quarantine))
    for name in sorted(names):
        stem, suffix = os.path.splitext(name)
        other = {".dcm": f"{stem}.reason", ".reason": f"{stem}.dcm"}.get(suffix)
        if running and _is_young(data.quarantine / name):
            continue
        if other is None:
            yield _stray(f"quarantine/{name}")
        elif other not in names:
            what = "it has no .reason file" if suffix == ".dcm" else "the instance that it tells of is not there"
            yield warning(f"quarantine/{name}", what)


def _is_young(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < _IN_HAND
    except FileNotFoundError:
        return True
