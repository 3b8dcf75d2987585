"""A job's birth, steps 6 to 9 of section 8: gathered beside, born by one rename, then one transaction.

Each step can be carried on after a kill: ``resume`` finds out by itself how far a birth had come.
"""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from magickbox.births.plan import VIEW, BirthPlan, plan_from_bytes
from magickbox.datafolder import DataFolder
from magickbox.durable import fsync_folder, fsync_folders, make_folder, rename_durable, write_atomic
from magickbox.gathering import Arrival, Due
from magickbox.incoming.record import MEMBER, read_association, same_content
from magickbox.job import Job
from magickbox.jobfolder import NEW, SUPERSEDED, Info, JobFolder, remove_tree
from magickbox.ledger import Ledger, jobs
from magickbox.steps import Reached, Step, unwatched


class Birth:
    """Brings jobs into the world; used by the coordinator's one thread, and at start under the lock."""

    def __init__(self, data: DataFolder, ledger: Ledger, reached: Reached = unwatched) -> None:
        self._data, self._ledger, self._reached = data, ledger, reached
        self._planned: dict[str, frozenset[str]] = {}
        self._plans: dict[Path, BirthPlan] = {}

    def still_waiting(self, due: Due) -> Due:
        """What of a due job is still in its association folder, and in no other birth's plan.

        A copy may come just when the first one becomes part of a job: it is then in that job already.
        """
        planned = frozenset().union(*self._planned.values())
        return replace(due, arrivals=tuple(a for a in due.arrivals if self._waits(a, planned)))

    def _waits(self, arrival: Arrival, planned: frozenset[str]) -> bool:
        source = f"{arrival.association}/{arrival.instance.file}"
        return source not in planned and (self._data.incoming / source).exists()

    def same(self, one: Arrival, other: Arrival) -> bool:
        """True if two arrivals have the same bytes: by checksum, then by reading both."""
        if not one.instance.same_bytes(other.instance):
            return False
        files = (self._data.incoming / a.association / a.instance.file for a in (one, other))
        return same_content(*files)

    def plan(self, plan: BirthPlan) -> Path:
        """Step 6: the folder with its INPUT, info.json and plan durable. Raises OSError; nothing has moved then."""
        folder = JobFolder(self._data.incoming / f"{NEW}{plan.job.id}")
        for taken in (folder.path, self._data.jobs / plan.job.id):
            if taken.exists():
                raise FileExistsError(f"{taken.name} is there already; another id is to be drawn")
        try:
            # A plan names files, so their names must be durable first.
            sources = {(self._data.incoming / transfer.source).parent for transfer in plan.moves}
            fsync_folders(sorted(folder for folder in sources if folder.exists()))
            folder.make()
            self._reached(Step.JOB_FOLDER_MADE)
            if any(h.place == SUPERSEDED for h in plan.held):
                make_folder(folder.superseded)
            folder.write_info(info_of(plan))
            write_atomic(folder.plan, plan.to_bytes())
        except OSError:
            with suppress(OSError):
                remove_tree(folder.path)
            raise
        self._planned[plan.job.id] = frozenset((*(t.source for t in plan.moves), *plan.drops))
        self._plans[folder.path] = plan
        self._reached(Step.JOB_PLANNED)
        return folder.path

    def carry_on(self, path: Path) -> Job:
        """Steps 7 to 9, from wherever a planned birth stands; raises OSError or DiskFull, after which it may be
        called again with the folder that ``find`` gives."""
        plan = self._plans.get(path) or plan_from_bytes(JobFolder(path).plan.read_bytes())
        born = self._data.jobs / plan.job.id
        if path != born:
            self._move(plan, JobFolder(path))
            self._sync(plan, JobFolder(path))
            self._reached(Step.JOB_SYNCED)
            rename_durable(path, born)
            self._reached(Step.JOB_BORN)
        return self._record(plan, JobFolder(born))

    def find(self, job: str) -> Path:
        """Where a job stands whose birth was interrupted."""
        born = self._data.jobs / job
        return born if born.exists() else self._data.incoming / f"{NEW}{job}"

    def _move(self, plan: BirthPlan, folder: JobFolder) -> None:
        """Step 7, never replacing: what is there was moved before. A source that is gone then is damage."""
        incoming, home = str(self._data.incoming), str(folder.path)
        for transfer in plan.moves:
            target = f"{home}/{transfer.target}"
            if not os.path.exists(target):
                os.rename(f"{incoming}/{transfer.source}", target)
            self._reached(Step.JOB_MOVING)
        for transfer in plan.links:
            # A link that is there was made before; an owner that is not was deleted meanwhile, on purpose.
            with suppress(FileExistsError, FileNotFoundError):
                os.link(self._data.jobs / transfer.source, folder.path / transfer.target)
        self._reached(Step.JOB_MOVED)

    def _sync(self, plan: BirthPlan, folder: JobFolder) -> None:
        """Step 8, first half: every folder whose entries changed."""
        sources = {self._data.incoming / name for name in {os.path.dirname(t.source) for t in plan.moves}}
        targets = {folder.path / name for name in {os.path.dirname(t.target) for t in (*plan.moves, *plan.links)}}
        fsync_folders(sorted(f for f in (sources | targets | {folder.path}) if f.exists()))

    def _record(self, plan: BirthPlan, folder: JobFolder) -> Job:
        """Step 9: one transaction; then the plan, dropped copies and emptied association folders go."""
        plan = _with_links_there(plan, folder)
        with self._ledger.transaction() as tx:
            jobs.add(tx, plan.job, plan.shares, plan.held)
        self._reached(Step.JOB_RECORDED)
        for drop in plan.drops:
            (self._data.incoming / drop).unlink(missing_ok=True)
        folder.plan.unlink(missing_ok=True)
        fsync_folder(folder.path)
        for share in plan.shares:
            self.sweep(share.association.id, known_ended=share.association.ended is not None)
        self._planned.pop(plan.job.id, None)
        self._plans.pop(self._data.incoming / f"{NEW}{plan.job.id}", None)
        self._reached(Step.JOB_SWEPT)
        return plan.job

    def sweep(self, association: str, known_ended: bool = False) -> None:
        """Remove an association folder that has ended and holds no instance any more."""
        folder = self._data.incoming / association
        with suppress(OSError, ValueError, KeyError):
            if set(os.listdir(folder)) <= {MEMBER} and (known_ended or read_association(folder).ended):
                (folder / MEMBER).unlink(missing_ok=True)
                folder.rmdir()


def _with_links_there(plan: BirthPlan, folder: JobFolder) -> BirthPlan:
    """The plan without links whose owner was deleted before they could be made; info.json then says so too."""
    held = tuple(h for h in plan.held if h.place != VIEW or folder.place(h.place, h.instance.file).exists())
    if len(held) == len(plan.held):
        return plan
    sizes = [h.instance.size for h in held if h.place != SUPERSEDED]
    true = replace(plan, held=held, job=replace(plan.job, instances=len(sizes), bytes=sum(sizes)))
    folder.write_info(info_of(true))
    return true


def info_of(plan: BirthPlan) -> Info:
    """The info.json that a plan's job gets."""
    job = plan.job
    return Info(
        job=job.id,
        received=job.received,
        associations=tuple((s.association, s.instances) for s in plan.shares),
        instances=tuple(h.instance for h in plan.held if h.place != SUPERSEDED),
        follows=job.follows,
        rerun_of=job.rerun_of,
        parent=job.parent,
        aborted=job.aborted,
    )
