"""Result checks: what a rule wants to be true of the files that it would send, before any of them is sent. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from magickbox.instance import is_safe_uid
from magickbox.tagpath import TagPath, parse_tag_path

STUDY, SERIES = parse_tag_path("StudyInstanceUID"), parse_tag_path("SeriesInstanceUID")
MAX_SHOWN = 20

# Each check by its key in the routing JSON, and what is said of the files that do not pass.
CHECKS = {
    "loads": "cannot be read to the end",
    "uids": "lack a UID or have an invalid one",
    "same_study": "are of another study than the input",
    "new_series": "have a Series Instance UID of the input",
    "new_instances": "have a SOP Instance UID of the input",
    "unique": "have the SOP Instance UID of another file",
}


class File(Protocol):
    """A file that may be sent (see ``decision.Candidate``)."""

    @property
    def path(self) -> str: ...

    @property
    def sop_class(self) -> str: ...

    @property
    def sop_instance(self) -> str: ...

    def values(self, tag: TagPath) -> tuple[str, ...]: ...


Damage = Callable[[str], str]
"""Why a file of the job cannot be read to its end, given its path; empty if it can."""


@dataclass(frozen=True)
class Came:
    """The UIDs of a job's input."""

    studies: frozenset[str] = frozenset()
    series: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CheckFinding:
    """A check that not all files pass: how many do not, and the paths of some (they may name a patient)."""

    key: str
    failing: int
    of: int
    paths: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        """In words, without a path."""
        return f"{self.key}: {self.failing} of {self.of} files {CHECKS[self.key]}"


def tags_for(checks: Iterable[str]) -> frozenset[TagPath]:
    """The elements that these checks look at."""
    wanted = {"uids": {STUDY, SERIES}, "same_study": {STUDY}, "new_series": {SERIES}}
    return frozenset(tag for key in checks for tag in wanted.get(key, ()))


def examine(
    checks: Iterable[str], files: Iterable[File], repeats: int, unreadable: Iterable[str], came: Came, damage: Damage
) -> tuple[CheckFinding, ...]:
    """The checks that do not pass.

    ``files`` are those that would be sent, each once; ``repeats`` counts those left out because their UID is there
    already. ``unreadable`` are DICOM files whose header cannot be read, so that no rule could take them.
    """
    every = {file.path: file for file in files}
    left_out = tuple(unreadable)
    found: list[CheckFinding] = []
    failing: tuple[str, ...]
    for key in checks:
        if key == "unique":
            failing, count, of = (), repeats, len(every) + repeats
        elif key == "loads":
            failing = (*left_out, *(path for path in every if damage(path)))
            count, of = len(failing), len(every) + len(left_out)
        else:
            failing = tuple(path for path, file in every.items() if not _passes(key, file, came))
            count, of = len(failing), len(every)
        if count:
            found.append(CheckFinding(key, count, of, failing[:MAX_SHOWN]))
    return tuple(found)


def _passes(key: str, file: File, came: Came) -> bool:
    if key == "uids":
        return all(is_safe_uid(uid) for uid in _uids_of(file))
    if key == "same_study":
        return _one(file, STUDY) in came.studies
    if key == "new_series":
        return _one(file, SERIES) not in came.series
    return file.sop_instance not in came.instances


def _uids_of(file: File) -> Iterator[str]:
    yield from (file.sop_class, file.sop_instance, _one(file, STUDY), _one(file, SERIES))


def _one(file: File, tag: TagPath) -> str:
    return file.values(tag)[0]
