"""Records a job folder that the ledger does not know: as HELD, so that a person decides and nothing is sent.

The row is rebuilt from what the folder tells of itself. It happens at every start (section 8, step 18) and for all
folders at once when the ledger is rebuilt.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from magickbox.association import Association
from magickbox.births.birth import Birth, info_of
from magickbox.births.plan import VIEW, BirthPlan, plan_from_bytes
from magickbox.clock import now
from magickbox.datafolder import DataFolder
from magickbox.durable import fsync_folder, rename_durable
from magickbox.errors import NotFound
from magickbox.job import Job, JobState, Move
from magickbox.jobfolder import INPUT, SUPERSEDED, JobFolder, is_job_id
from magickbox.ledger import Ledger, jobs, places
from magickbox.ledger.jobs import Held, Share
from magickbox.mending.jobrecord import UNKNOWN, FoundFile, Told, last_attempt, read_files, read_outcome, read_told
from magickbox.runs import attempt as attempts

IS_BACK = "its folder is back; look at it before it is released"


def adopt(data: DataFolder, ledger: Ledger, folder_name: str, why: str = IS_BACK) -> Job:
    """Record the job folder of that name as HELD and return its job; one that has a row keeps it, a LOST one is found.

    ``why`` is the reason of one that is found.

    Raises NotFound if there is no job folder of that name, OSError, or DiskFull; it may then be called again.
    """
    folder = JobFolder(data.jobs / folder_name)
    if not is_job_id(folder_name) or not folder.path.is_dir() or folder.path.is_symlink():
        raise NotFound(f"{folder.path} is not a job's folder")
    with ledger.reading() as tx:
        row = jobs.find(tx, folder_name)
    if row is not None:
        return _find_again(ledger, folder, row, why)
    plan = plan_of(folder, folder_name)
    _finish_run(folder)
    read = read_row(data, ledger, folder, folder_name, plan)
    _make_workable(folder, read)
    with ledger.transaction() as tx:
        jobs.add(tx, read.job, read.shares, read.held)
    if plan is not None:
        Birth(data, ledger).carry_on(folder.path)
    return read.job


def _find_again(ledger: Ledger, folder: JobFolder, row: Job, why: str) -> Job:
    if row.state is not JobState.LOST:
        return row
    resume = _resume(folder)
    with ledger.transaction() as tx:
        return jobs.move(tx, row.id, Move.FIND, why, resume=resume)


def _resume(folder: JobFolder) -> JobState:
    """Where the job goes on when a person releases it: an outcome is not made twice."""
    return JobState.READY if read_outcome(folder) is None else JobState.PROCESSED


@dataclass(frozen=True)
class ReadRow:
    """A row as a folder tells it; ``readable`` says whether its info.json does."""

    job: Job
    shares: tuple[Share, ...]
    held: tuple[Held, ...]
    readable: bool


def read_row(data: DataFolder, ledger: Ledger, folder: JobFolder, name: str, plan: BirthPlan | None) -> ReadRow:
    """Rebuild the row of a folder that stands in jobs/ or is on its way out, from its files; raises OSError."""
    told, files = read_told(folder), tuple(read_files(folder))
    held = tuple(_held(data, ledger, folder, name, files, plan))
    job = _job(name, told, held, folder)
    unread = sum(f.instance is None for f in files)
    there = sum(f.place == INPUT for f in files)
    job = replace(job, reason=_reason(told, job, unread, there))
    return ReadRow(job, _shares(job, told, plan), held, told.readable)


def _finish_run(folder: JobFolder) -> None:
    """A run that has its result.json is over (step 12), even if nobody had said so yet."""
    attempt = folder.attempt(last_attempt(folder))
    result = attempts.read_result(attempt) if read_outcome(folder) is None else None
    if result is not None:
        attempts.publish(folder, attempt, result)
        folder.write_proc(result.outcome.as_proc_json())


def plan_of(folder: JobFolder, name: str) -> BirthPlan | None:
    """The plan of a birth whose last step was not made; one that cannot be read, or is another's, is put aside."""
    try:
        plan = plan_from_bytes(folder.plan.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (IsADirectoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        plan = None
    if plan is None or plan.job.id != name:
        put_plan_aside(folder)
        return None
    return plan


def put_plan_aside(folder: JobFolder) -> None:
    """Keep a plan that is of no use under another name."""
    rename_durable(folder.plan, _free_name(folder.path, "plan.json.invalid"))


def _held(
    data: DataFolder, ledger: Ledger, folder: JobFolder, name: str, files: tuple[FoundFile, ...], plan: BirthPlan | None
) -> Iterator[Held]:
    """Each file as the plan has it, which knows what was received, otherwise as it reads now."""
    planned = {(_folder_name(h.place), h.instance.file): h for h in plan.held} if plan else {}
    for found in files:
        known = planned.get((found.place, found.file))
        if known is not None:
            yield known
        elif found.instance is not None:
            view = found.place == INPUT and _is_view(data, ledger, folder, name, found)
            yield Held(found.instance, VIEW if view else found.place)


def _folder_name(place: str) -> str:
    return SUPERSEDED if place == SUPERSEDED else INPUT


def _is_view(data: DataFolder, ledger: Ledger, folder: JobFolder, name: str, found: FoundFile) -> bool:
    """True if the file is a hard link of what another job owns."""
    assert found.instance is not None
    status = os.stat(folder.place(found.place, found.file))
    if status.st_nlink < 2:
        return False
    with ledger.reading() as tx:
        owners = places.owners(tx, found.instance.sop_instance)
    return any(_same_file(data, owner, status) for owner in owners if owner.job != name)


def _same_file(data: DataFolder, owner: places.Owner, status: os.stat_result) -> bool:
    try:
        other = os.stat(JobFolder(data.jobs / owner.job).place(owner.place, owner.file))
    except OSError:
        return False
    return os.path.samestat(other, status)


def _job(name: str, told: Told, held: tuple[Held, ...], folder: JobFolder) -> Job:
    current = [h.instance for h in held if h.place != SUPERSEDED]
    outcome, born = read_outcome(folder), _born(name)
    return Job(
        id=name,
        state=JobState.HELD,
        resume=JobState.READY if outcome is None else JobState.PROCESSED,
        calling_ae=told.calling_ae,
        called_ae=told.called_ae,
        peer=told.peer,
        study=told.study or next((i.study for i in current), UNKNOWN),
        received=told.received or born,
        born=born,
        since=now(),
        instances=len(current),
        bytes=sum(i.size for i in current),
        outcome=outcome.success if outcome else None,
        message=outcome.message if outcome else "",
        attempt=last_attempt(folder),
        aborted=told.aborted,
        follows=told.follows,
        rerun_of=told.rerun_of,
        parent=told.parent,
    )


def _born(name: str) -> datetime:
    """The time in a job id; ids sort by it."""
    try:
        return datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return now()


def _shares(job: Job, told: Told, plan: BirthPlan | None) -> tuple[Share, ...]:
    """Who sent it; somebody always did, known or not."""
    if plan is not None:
        return plan.shares
    unknown = Association(f"adopted-{job.id}", job.calling_ae, job.called_ae, job.peer, job.received)
    return told.shares or (Share(unknown, job.instances),)


def _reason(told: Told, job: Job, unread: int, there: int) -> str:
    parts = ["adopted: its folder was there without a row in the ledger"]
    if not told.readable:
        parts.append("its info.json cannot be read, so that who sent it is not known")
    elif told.job not in (None, job.id):
        parts.append(f"its info.json names another job, {told.job}")
    if told.instances not in (None, there):
        parts.append(f"its info.json tells of {told.instances} instances, but INPUT has {there}")
    if unread:
        parts.append(f"{unread} of its files cannot be read and have no row")
    return "; ".join((*parts, "look at it, then release it or delete it"))


def _make_workable(folder: JobFolder, read: ReadRow) -> None:
    """What a release needs: an info.json, and no OUTPUT that no outcome goes with."""
    if not read.readable:
        if folder.info.exists():
            rename_durable(folder.info, folder.path / "info.json.invalid")
        folder.write_info(info_of(BirthPlan(read.job, read.shares, read.held, ())))
    if read.job.resume is JobState.READY and folder.output.exists():
        rename_durable(folder.output, _free_name(folder.path, "OUTPUT.unfinished"))
    fsync_folder(folder.path)


def _free_name(folder: Path, name: str) -> Path:
    """A name in a folder that is not taken: ``name``, or with a number."""
    target, n = folder / name, 1
    while target.exists():
        n += 1
        target = folder / f"{name}.{n}"
    return target
