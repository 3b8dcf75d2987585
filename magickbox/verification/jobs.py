"""Compares one job's row with its folder. Reads only."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from magickbox.datafolder import DataFolder
from magickbox.delivery import UNDECIDED, Delivery, DeliveryItem, ItemState
from magickbox.errors import UnreadableHeader
from magickbox.incoming.record import read_instance
from magickbox.job import HAS_FOLDER, RESUMABLE, Job, JobState
from magickbox.jobfolder import INPUT, SUPERSEDED, JobFolder
from magickbox.ledger import Ledger, deliveries, jobs
from magickbox.ledger.jobs import Attempt, Held
from magickbox.mending.jobrecord import names_in, read_outcome, read_told
from magickbox.verification.finding import Finding, error, warning

_LOOKS = 3
_NEEDS_OUTCOME = frozenset({JobState.PROCESSED, JobState.DELIVERING, JobState.ATTENTION})
_OVER = frozenset({JobState.DONE, JobState.ATTENTION})
_UNSENT = (ItemState.PENDING, ItemState.REFUSED)


@dataclass(frozen=True)
class _Row:
    """All that the ledger has of a job, in one consistent view."""

    job: Job
    held: tuple[Held, ...]
    attempts: tuple[Attempt, ...]
    undecided: tuple[tuple[Delivery, tuple[DeliveryItem, ...]], ...]


@dataclass(frozen=True)
class JobCheck:
    """Looks at jobs one after the other; ``quick`` reads no instance, ``running`` says that things move meanwhile."""

    data: DataFolder
    ledger: Ledger
    quick: bool
    running: bool

    def findings(self, job: str) -> list[Finding]:
        """What is wrong with a job. Of a running box only what is so while the row stays as it is."""
        for _ in range(_LOOKS):
            row = self._read(job)
            found = list(self._compare(row))
            if not found or not self.running or self._read(job) == row:
                return found
        return []

    def _read(self, job: str) -> _Row:
        with self.ledger.reading() as tx:
            undecided = deliveries.listing(tx, job, tuple(UNDECIDED))
            return _Row(
                jobs.get(tx, job),
                tuple(jobs.held_by(tx, job)),
                tuple(jobs.attempts(tx, job)),
                tuple((d, tuple(deliveries.instances_of(tx, d.id, _UNSENT))) for d in undecided),
            )

    def _compare(self, row: _Row) -> Iterator[Finding]:
        job, folder = row.job, JobFolder(self.data.jobs / row.job.id)
        if job.state not in HAS_FOLDER:
            yield from self._compare_gone(job, folder.path.exists())
        elif not folder.path.is_dir():
            yield error(_where(job), f"its row says {job.state}, but its folder is gone; the next start says LOST")
        else:
            yield from self._instances(row, folder)
            yield from _strangers(row, folder)
            yield from _papers(row, folder)
            yield from _unsent(row, folder)
            yield from self._state(row, folder)

    def _compare_gone(self, job: Job, there: bool) -> Iterator[Finding]:
        if job.state is JobState.LOST and not there:
            yield error(_where(job), f"LOST: its folder with {job.instances} instances is gone; nobody asked for that")
        elif job.state is JobState.LOST:
            yield warning(_where(job), "it was LOST and its folder is back; the next start holds it for a person")
        elif job.state is JobState.DELETED and there:
            yield error(_where(job), "it was deleted, but its folder is still there")
        elif job.state is JobState.DELETING and not self.running:
            yield warning(_where(job), "its removal was interrupted; the next start carries it on")

    def _instances(self, row: _Row, folder: JobFolder) -> Iterator[Finding]:
        """Each instance of the row: its file there, of its size, with the bytes that were received."""
        for held in row.held:
            problem = self._instance_problem(held, folder)
            if problem is not None:
                where = f"{_where(row.job)}/{_place(held)}/{held.instance.file}"
                yield error(where, f"instance {held.instance.sop_instance}: {problem}")

    def _instance_problem(self, held: Held, folder: JobFolder) -> str | None:
        path, expected = folder.place(held.place, held.instance.file), held.instance
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                return "what is there is not a regular file"
            if status.st_size != expected.size:
                return f"the file has {status.st_size} bytes, {expected.size} were received"
            found = None if self.quick else read_instance(path)
        except FileNotFoundError:
            linked = " (linked from an earlier job)" if held.place not in (INPUT, SUPERSEDED) else ""
            return f"its file is missing{linked}"
        except (OSError, UnreadableHeader) as exc:
            return f"its file cannot be read: {exc}"
        if found is not None and found.sop_instance != expected.sop_instance:
            return f"the file is of another instance, {found.sop_instance}"
        if found is not None and found.checksum != expected.checksum:
            return "the file's bytes are not those that were received"
        return None

    def _state(self, row: _Row, folder: JobFolder) -> Iterator[Finding]:
        """A state that its job cannot be in, or that only a kill leaves."""
        job, where = row.job, _where(row.job)
        if job.state in _NEEDS_OUTCOME and job.outcome is None:
            yield error(where, f"it is {job.state} without an outcome")
        if job.state in _OVER and row.undecided:
            yield error(where, f"it is {job.state}, but delivery {row.undecided[0][0].id} is still open")
        if job.state is JobState.HELD and job.resume not in RESUMABLE:
            yield warning(where, "it is HELD and cannot be released, because where it goes on is not known")
        if self.running:
            return
        if job.state is JobState.RUNNING:
            yield warning(where, "the box ended while its processor was running; the next start makes the run again")
        if job.state is JobState.DELIVERING and not row.undecided:
            yield warning(where, "it is DELIVERING and nothing is open any more")
        if folder.plan.exists():
            yield warning(f"{where}/{folder.plan.name}", "its birth was interrupted; the next start carries it on")


def _where(job: Job) -> str:
    return f"jobs/{job.id}"


def _place(held: Held) -> str:
    return SUPERSEDED if held.place == SUPERSEDED else INPUT


def _strangers(row: _Row, folder: JobFolder) -> Iterator[Finding]:
    """Files beside the instances that no row knows; counts that do not agree."""
    for place in (INPUT, SUPERSEDED):
        known = {h.instance.file for h in row.held if _place(h) == place}
        for name in names_in(folder, place):
            if name not in known:
                tell = error if name.endswith(".dcm") else warning
                yield tell(f"{_where(row.job)}/{place}/{name}", "no row in the ledger knows of this file")
    count = sum(h.place != SUPERSEDED for h in row.held)
    if count != row.job.instances:
        yield warning(_where(row.job), f"its row says {row.job.instances} instances, {count} are recorded")


def _papers(row: _Row, folder: JobFolder) -> Iterator[Finding]:
    """info.json always; proc.json with an outcome; OUTPUT if a run was published."""
    job, told = row.job, read_told(folder)
    if not told.readable:
        yield error(f"{_where(job)}/info.json", f"it {_missing_or_not(folder.info.exists())}")
    elif told.job != job.id:
        yield error(f"{_where(job)}/info.json", f"it names another job, {told.job}")
    if job.outcome is None:
        return
    outcome = read_outcome(folder)
    if outcome is None:
        yield error(f"{_where(job)}/proc.json", f"it {_missing_or_not(folder.proc.exists())}")
    elif outcome.success != job.outcome:
        yield error(f"{_where(job)}/proc.json", f"it says '{outcome.success}', the ledger has '{job.outcome}'")
    published = any(a.n == job.attempt and a.outcome == job.outcome for a in row.attempts)
    if published and not folder.output.is_dir():
        yield error(f"{_where(job)}/OUTPUT", f"it is missing, although attempt {job.attempt} was published")


def _missing_or_not(there: bool) -> str:
    return "cannot be read as what it should be" if there else "is missing"


def _unsent(row: _Row, folder: JobFolder) -> Iterator[Finding]:
    """What open deliveries still have to send must be there."""
    for delivery, items in row.undecided:
        for item in items:
            if not (folder.path / item.file).is_file():
                what = f"missing, and still to be sent by delivery {delivery.id} to {delivery.destination}"
                yield error(f"{_where(row.job)}/{item.file}", what)
