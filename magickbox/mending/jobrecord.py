"""Reads back what a job folder tells of itself: info.json, its instances' files, what its processor said.

For a folder whose row is gone, and to compare folders with rows. A damaged file is never a reason to give up: what
cannot be read is told as unknown.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from magickbox.association import Association, End
from magickbox.clock import from_text
from magickbox.errors import UnreadableHeader
from magickbox.incoming.record import read_instance
from magickbox.instance import Instance
from magickbox.jobfolder import INPUT, SUPERSEDED, JobFolder
from magickbox.ledger.jobs import Share
from magickbox.processor import Outcome, read_proc_json

UNKNOWN = "?"


@dataclass(frozen=True)
class Told:
    """What info.json tells; ``readable`` is False if there is none, or it is not a JSON object."""

    readable: bool = False
    job: str | None = None
    calling_ae: str = UNKNOWN
    called_ae: str = UNKNOWN
    peer: str = UNKNOWN
    received: datetime | None = None
    study: str | None = None
    follows: str | None = None
    rerun_of: str | None = None
    parent: str | None = None
    aborted: bool = False
    instances: int | None = None
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True)
class FoundFile:
    """A file in INPUT or superseded; ``instance`` is None if it cannot be read as one, and ``why`` says why."""

    place: str
    file: str
    instance: Instance | None
    why: str = ""


def read_told(folder: JobFolder) -> Told:
    """What info.json tells; fields that are missing or of a wrong type are unknown."""
    try:
        value = json.loads(folder.info.read_bytes())
    except (OSError, ValueError, RecursionError):
        return Told()
    return _told(value) if isinstance(value, dict) else Told()


def _told(value: dict[str, Any]) -> Told:
    studies = value.get("studies")
    told = Told(
        readable=True,
        job=_text(value.get("job")),
        calling_ae=_text(value.get("AETitleCaller")) or UNKNOWN,
        called_ae=_text(value.get("AETitleCalled")) or UNKNOWN,
        peer=_text(value.get("CallerIP")) or UNKNOWN,
        received=_moment(value.get("received")),
        study=_text(studies[0]) if isinstance(studies, list) and studies else None,
        follows=_text(value.get("follows")),
        rerun_of=_text(value.get("rerun_of")),
        parent=_text(value.get("parent")),
        aborted=value.get("aborted") is True,
        instances=count if type(count := value.get("instances")) is int else None,
    )
    shares = value.get("associations")
    found = [_share(told, s) for s in shares] if isinstance(shares, list) else []
    return Told(**{**vars(told), "shares": tuple(s for s in found if s is not None)})


def _share(told: Told, value: object) -> Share | None:
    if not isinstance(value, dict):
        return None
    name, began, count = _text(value.get("id")), _moment(value.get("began")), value.get("instances")
    if name is None or began is None or type(count) is not int:
        return None
    how = value.get("how")
    known_end = End(how) if how in list(End) else None
    association = Association(
        id=name,
        calling_ae=told.calling_ae,
        called_ae=told.called_ae,
        peer=told.peer,
        began=began,
        ended=_moment(value.get("ended")),
        how=known_end,
    )
    return Share(association, count)


def _text(value: object) -> str | None:
    """A text that SQLite takes, or None; JSON allows halves of surrogate pairs."""
    if not isinstance(value, str) or not value:
        return None
    return value.encode("utf-8", "replace").decode("utf-8")


def _moment(value: object) -> datetime | None:
    try:
        moment = from_text(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def names_in(folder: JobFolder, place: str) -> list[str]:
    """The names in INPUT or superseded, sorted; none if the folder is not there."""
    try:
        return sorted(os.listdir(folder.place(place, "")))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_files(folder: JobFolder) -> Iterator[FoundFile]:
    """Each file in INPUT, then in superseded, read to its end one after the other."""
    for place in (INPUT, SUPERSEDED):
        for name in names_in(folder, place):
            yield _read_file(folder, place, name)


def _read_file(folder: JobFolder, place: str, name: str) -> FoundFile:
    path = folder.place(place, name)
    if path.is_symlink() or not path.is_file():
        return FoundFile(place, name, None, "it is not a regular file")
    try:
        return FoundFile(place, name, read_instance(path))
    except (OSError, UnreadableHeader) as exc:
        return FoundFile(place, name, None, str(exc))


def read_outcome(folder: JobFolder) -> Outcome | None:
    """The outcome that proc.json tells, or None if there is no valid one."""
    try:
        entries = read_proc_json(folder.proc.read_bytes())
    except OSError:
        return None
    if isinstance(entries, str):
        return None
    return Outcome(str(_text(entries[0]["success"]) or ""), str(entries[0].get("message", "")), entries)


def last_attempt(folder: JobFolder) -> int:
    """The number of the newest attempt's folder, 0 if there is none."""
    try:
        names = os.listdir(folder.attempts)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)
