"""The only module that knows the file names of a job folder (contracts, sections 1 and 3)."""

import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from magickbox import progress
from magickbox.association import Association
from magickbox.clock import to_text
from magickbox.durable import make_folder, write_atomic
from magickbox.instance import Instance, file_stem

INPUT, OUTPUT, SUPERSEDED = "INPUT", "OUTPUT", "superseded"
NEW, TRASH = ".new-", ".trash-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def job_id(called_ae: str, moment: datetime) -> str:
    """A new job id: sorts by time, reads well, safe as a folder name: ``20260312T171200Z-ProcRSI-7f3a``."""
    title = re.sub(r"[^A-Za-z0-9_-]", "_", called_ae.strip())[:16] or "_"
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{title}-{secrets.token_hex(2)}"


def is_job_id(text: str) -> bool:
    """True if a text looks like a job id; only such a text is ever joined to a path."""
    return re.fullmatch(r"\d{8}T\d{6}Z-[A-Za-z0-9_-]{1,16}-[0-9a-f]{4}", text) is not None


@dataclass(frozen=True)
class AttemptFolder:
    """One run of the processor: its working directory, and what is kept of it."""

    path: Path

    @property
    def input(self) -> Path:
        """Hard links to the job's INPUT, gone when the run is over."""
        return self.path / INPUT

    @property
    def output(self) -> Path:
        """What the processor writes, published by rename."""
        return self.path / OUTPUT

    @property
    def info(self) -> Path:
        """A copy of info.json."""
        return self.path / "info.json"

    @property
    def proc(self) -> Path:
        """Where the processor may write its proc.json."""
        return self.path / "proc.json"

    @property
    def run(self) -> Path:
        """When, which engine, version and digest, which process."""
        return self.path / "run.json"

    @property
    def result(self) -> Path:
        """Exit, outcome and proc.json; only this ends an attempt."""
        return self.path / "result.json"

    @property
    def token(self) -> Path:
        """What tells a result.json of the box from one of the processor's; beside the folder that is its own."""
        return self.path.with_name(f"{self.path.name}.token")

    @property
    def steps(self) -> Path:
        """The runs of a chain's steps, each in a folder like this one; beside it are their tokens."""
        return self.path / progress.STEPS

    def step(self, k: int) -> "AttemptFolder":
        """The run of step ``k`` of a chain, from 1."""
        return AttemptFolder(self.steps / str(k))

    @property
    def tmp(self) -> Path:
        """The run's private folder for temporary files."""
        return self.path / "tmp"

    @property
    def log(self) -> Path:
        """The log of a run that another run came after."""
        return self.path / "processing.log"


@dataclass(frozen=True)
class JobFolder:
    """The names below ``jobs/<job>/``, or below ``incoming/.new-<job>/`` before its birth."""

    path: Path

    @property
    def input(self) -> Path:
        """The instances as received."""
        return self.path / INPUT

    @property
    def output(self) -> Path:
        """What the processor wrote; there only when a run was published."""
        return self.path / OUTPUT

    @property
    def superseded(self) -> Path:
        """Earlier contents of SOP Instance UIDs that came again with other bytes."""
        return self.path / SUPERSEDED

    @property
    def info(self) -> Path:
        """Who sent what."""
        return self.path / "info.json"

    @property
    def proc(self) -> Path:
        """What the processor said."""
        return self.path / "proc.json"

    @property
    def log(self) -> Path:
        """The processor's stdout and stderr, live."""
        return self.path / "processing.log"

    @property
    def progress(self) -> Path:
        """How far the processor says it is on its stdout, while it runs."""
        return self.path / progress.FILE

    def how_far(self, attempt: int) -> float | None:
        """How far the present run says it is, from 0 to 1; None if it says nothing."""
        return progress.of_attempt(self.progress, self.attempt(attempt).path)

    @property
    def plan(self) -> Path:
        """What is to be moved here, and the row to be written; gone when both are done."""
        return self.path / ".plan.json"

    @property
    def attempts(self) -> Path:
        """The runs."""
        return self.path / "attempts"

    def attempt(self, n: int) -> AttemptFolder:
        """The folder of run ``n``, from 1."""
        return AttemptFolder(self.attempts / str(n))

    def place(self, place: str, file: str) -> Path:
        """Where an instance lies that the ledger has as (place, file); a view lies in INPUT."""
        return (self.superseded if place == SUPERSEDED else self.input) / file

    def make(self) -> None:
        """Make the folder with its INPUT, durable."""
        make_folder(self.path)
        make_folder(self.input)

    def write_proc(self, entries: list[dict[str, Any]]) -> None:
        """Write proc.json, durable."""
        write_atomic(self.proc, json.dumps(entries, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n")

    def write_delivery(self, receipt: dict[str, Any]) -> bytes:
        """Write delivery.json, durable, and return what was written."""
        text = json.dumps(receipt, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        write_atomic(self.path / "delivery.json", text)
        return text

    def write_info(self, info: "Info") -> None:
        """Write info.json, durable; once, by the box."""
        write_atomic(self.info, json.dumps(info.as_json(), indent=1, ensure_ascii=False).encode() + b"\n")


@dataclass(frozen=True)
class Info:
    """The content of info.json: the four fields of the original box, and more beside them."""

    job: str
    received: datetime
    associations: tuple[tuple[Association, int], ...]
    instances: tuple[Instance, ...]
    follows: str | None = None
    rerun_of: str | None = None
    parent: str | None = None
    aborted: bool = False

    def as_json(self) -> dict[str, Any]:
        """The JSON object, in the order of the contracts."""
        first = self.associations[0][0]
        return {
            "CallerIP": first.peer,
            "AETitleCalled": first.called_ae,
            "AETitleCaller": first.calling_ae,
            "received": to_text(self.received),
            "job": self.job,
            "follows": self.follows,
            "rerun_of": self.rerun_of,
            "parent": self.parent,
            "aborted": self.aborted,
            "associations": [_association_json(a, n) for a, n in self.associations],
            "studies": list(dict.fromkeys(i.study for i in self.instances)),
            "series": _series_json(self.instances),
            "instances": len(self.instances),
            "bytes": sum(i.size for i in self.instances),
            "files": {i.file: i.sop_instance for i in self.instances if i.file != f"{i.sop_instance}.dcm"},
        }


def _association_json(association: Association, instances: int) -> dict[str, Any]:
    return {
        "id": association.id,
        "began": to_text(association.began),
        "ended": to_text(association.ended) if association.ended else None,
        "how": association.how,
        "instances": instances,
    }


def _series_json(instances: Iterable[Instance]) -> list[dict[str, Any]]:
    series: dict[str, dict[str, Any]] = {}
    for i in instances:
        entry = series.setdefault(i.series, {"uid": i.series, "modality": i.modality, "instances": 0})
        entry["instances"] += 1
    return list(series.values())


def input_name(sop_instance: str) -> str:
    """The file name in INPUT for a SOP Instance UID."""
    return f"{file_stem(sop_instance)}.dcm"


def superseded_name(sop_instance: str, n: int) -> str:
    """The file name in superseded/ for the n-th earlier content of a SOP Instance UID, from 1."""
    return f"{file_stem(sop_instance)}.{n}.dcm"


def remove_tree(path: Path) -> None:
    """Remove a folder that is in nobody's way any more, however deep it is; raises OSError.

    A processor may have left folders that refuse. Links are removed, never followed. Every folder below is moved up
    beside its siblings and emptied there, so that no path becomes too long and nothing recurses.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    _open_up(path, None)
    top = os.open(path, _FOLDER)
    try:
        moved = (f".going-{secrets.token_hex(8)}" for _ in count())
        while names := os.listdir(top):
            for name in names:
                _take_out(top, name, moved)
    finally:
        os.close(top)
    try:
        path.rmdir()
    except PermissionError:
        _open_up(path.parent, None)
        path.rmdir()


def _take_out(top: int, name: str, moved: Iterator[str]) -> None:
    """Remove an entry of the folder ``top``; what folders a folder has are moved up into ``top``."""
    if _unlinked(top, name):
        return
    _open_up(name, top)
    folder = os.open(name, _FOLDER, dir_fd=top)
    try:
        for inner in os.listdir(folder):
            if not _unlinked(folder, inner):
                _open_up(inner, folder)
                os.rename(inner, next(moved), src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _unlinked(folder: int, name: str) -> bool:
    """Remove what is no folder; False if it is one."""
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=folder)
    return True


def _open_up(folder: Path | str, within: int | None) -> None:
    """Let the owner of a folder do with it what is needed to empty it."""
    mode = stat.S_IMODE(os.stat(folder, dir_fd=within, follow_symlinks=False).st_mode)
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(folder, mode | stat.S_IRWXU, dir_fd=within)
