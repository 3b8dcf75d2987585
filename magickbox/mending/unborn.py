"""Finds out what becomes of a birth that a kill interrupted, whatever is left of its plan (section 8, step 17).

A plan that can be carried out is carried on. One that cannot, because it is damaged or because what it names is gone,
makes a job that is HELD of what had been moved already; the rest still lies in its association folders.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from magickbox.births.birth import Birth
from magickbox.births.plan import BirthPlan
from magickbox.datafolder import DataFolder
from magickbox.durable import rename_durable
from magickbox.errors import DataFolderError
from magickbox.job import Job
from magickbox.jobfolder import INPUT, NEW, SUPERSEDED, JobFolder, is_job_id, remove_tree
from magickbox.ledger import Ledger
from magickbox.logs import Note
from magickbox.mending.adopt import adopt, plan_of, put_plan_aside
from magickbox.mending.jobrecord import names_in


@dataclass(frozen=True)
class Unborn:
    """Ends interrupted births in ``incoming/.new-<job>``; for the start, under the lock."""

    data: DataFolder
    ledger: Ledger
    birth: Birth
    note: Note

    def resume(self, path: Path) -> None:
        """Carry on, undo or hold one birth; raises OSError, DiskFull or DataFolderError, and nothing is lost then."""
        job = path.name.removeprefix(NEW)
        if not is_job_id(job):
            raise DataFolderError(f"{path.name} is not named as the box names a job on its way; it is left alone")
        if plan_of(JobFolder(path), job) is not None:
            self._carry_on(path, job)
        elif self._holds_something(path):
            self._hold(path, job)
        else:
            remove_tree(path)

    def _carry_on(self, path: Path, job: str) -> None:
        try:
            born = self.birth.carry_on(path)
        except FileNotFoundError as exc:
            if not path.exists():
                raise  # it stands in jobs/ now, and is looked at there
            self.note("error", "plan-failed", {"job": job, "reason": f"{exc.filename} is gone"})
            put_plan_aside(JobFolder(path))
            self._hold(path, job)
        else:
            self.note("info", "born", {"job": born.id, "reason": "carried on after a restart"})

    def _holds_something(self, path: Path) -> bool:
        folder = JobFolder(path)
        return any(names_in(folder, place) for place in (INPUT, SUPERSEDED))

    def _hold(self, path: Path, job: str) -> Job:
        if os.path.lexists(self.data.jobs / job):
            raise FileExistsError(f"jobs/{job} is there already; {path.name} is left alone")
        rename_durable(path, self.data.jobs / job)
        adopted = adopt(self.data, self.ledger, job)
        self.note("warning", "adopted", {"job": job, "state": adopted.state, "reason": adopted.reason})
        return adopted


def sources(plan: BirthPlan) -> frozenset[str]:
    """The association folders that a plan takes from."""
    return frozenset(source.split("/", 1)[0] for source in (*(t.source for t in plan.moves), *plan.drops))
