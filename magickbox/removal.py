"""Removes a job's folder in steps that can be carried on (section 8, step 16); the row stays."""

from magickbox.datafolder import DataFolder
from magickbox.durable import fsync_folder, rename_durable
from magickbox.errors import ForbiddenMove
from magickbox.job import Job, JobState, Move
from magickbox.jobfolder import TRASH, remove_tree
from magickbox.ledger import Ledger, endings, jobs
from magickbox.ledger.jobs import BOX
from magickbox.steps import Reached, Step, unwatched


class Removal:
    """Deletes jobs; safe from any thread, one job at a time in one thread."""

    def __init__(self, data: DataFolder, ledger: Ledger, reached: Reached = unwatched) -> None:
        self._data, self._ledger, self._reached = data, ledger, reached

    def delete(self, job: str, why: str, who: str = BOX, only_if: JobState | None = None) -> Job:
        """Mark the job and remove its folder; raises NotFound, ForbiddenMove, or OSError (it is then carried on).

        ``only_if`` refuses a job that is in another state by now.
        """
        with self._ledger.transaction() as tx:
            if only_if not in (None, jobs.get(tx, job).state):
                raise ForbiddenMove(f"{job} is no longer {only_if}")
            jobs.move(tx, job, Move.DELETE, why, who)
            endings.cancel_open(tx, job, who, "its job is deleted")
        self._reached(Step.DELETE_MARKED)
        return self.carry_on(job)

    def carry_on_all(self) -> list[str]:
        """Carry on every removal that was interrupted, or that met trouble; the jobs that are gone by that."""
        with self._ledger.reading() as tx:
            deleting = [job.id for job in jobs.in_state(tx, JobState.DELETING)]
        return [self.carry_on(job).id for job in deleting]

    def carry_on(self, job: str) -> Job:
        """Remove what a DELETING job still has, from wherever that stands."""
        folder, trash = self._data.jobs / job, self._data.incoming / f"{TRASH}{job}"
        if folder.exists():
            rename_durable(folder, trash)
        self._reached(Step.DELETE_RENAMED)
        remove_tree(trash)
        fsync_folder(self._data.incoming)
        self._reached(Step.DELETE_REMOVED)
        with self._ledger.transaction() as tx:
            found = jobs.get(tx, job)
            if found.state is JobState.DELETING:
                found = jobs.move(tx, job, Move.REMOVED, found.reason)
        return found
