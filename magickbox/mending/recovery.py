"""What is done at start, under the lock, before the port opens (section 8, steps 17 to 20).

Every window that a kill can fall into is mended here from what is on disk; nothing depends on what a log says. Each job
and folder stands alone: one that cannot be mended is told of, and the others and the box go on.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from magickbox.association import Association
from magickbox.births.birth import Birth
from magickbox.clock import now
from magickbox.datafolder import DataFolder
from magickbox.durable import fsync_folder
from magickbox.engine import Engine
from magickbox.incoming.quarantine import Quarantine
from magickbox.incoming.record import MEMBER, read_association, settle_parts
from magickbox.job import HAS_FOLDER, Job, JobState, Move
from magickbox.jobfolder import NEW, TRASH, JobFolder, is_job_id, remove_tree
from magickbox.ledger import Ledger, jobs
from magickbox.logs import Note
from magickbox.mending.adopt import adopt, plan_of
from magickbox.mending.boundary import Boundary, reason
from magickbox.mending.unborn import Unborn, sources
from magickbox.removal import Removal
from magickbox.runs import attempt as attempts
from magickbox.runs.runner import Runner, run_name


@dataclass(frozen=True)
class Recovery:
    """Mends a data folder after a kill; ``rejoin`` takes up a run in a container that may have outlived the box,
    ``gather`` each association folder that still holds instances, ``note`` writes to receive.log, ``when_full`` is to
    make room on a full disk."""

    data: DataFolder
    ledger: Ledger
    birth: Birth
    removal: Removal
    engine: Engine
    runner: Runner
    rejoin: Callable[[Job], None]
    gather: Callable[[Association], None]
    note: Note
    when_full: Callable[[], None]
    _kept: set[str] = field(default_factory=set)
    _waiting: list[Job] = field(default_factory=list)

    @property
    def _alone(self) -> Boundary:
        return Boundary(self.note, self.when_full)

    def run(self) -> None:
        """All of it, in the order of the contracts; raises OSError or LedgerError if the box cannot start."""
        self._settle_parts()
        self._resume_removals()
        self._resume_births()
        self._compare_folders_and_rows()
        self._resume_runs()
        self._gather_associations()

    # --- 17 ---------------------------------------------------------------------------------------------------------

    def _incoming(self) -> Iterator[Path]:
        return (entry for entry in sorted(self.data.incoming.iterdir()) if entry.is_dir())

    def _settle_parts(self) -> None:
        for folder in self._incoming():
            if not folder.name.startswith("."):
                self._alone.alone(folder.name, partial(self._sweep, folder))

    def _sweep(self, folder: Path) -> None:
        """What was being received was not acknowledged, and the sender will send it again; what is whole stays."""
        removed, kept = settle_parts(folder)
        if removed or kept:
            self.note("info", "swept", {"association": folder.name, "parts": removed, "kept": kept})

    def _resume_removals(self) -> None:
        with self.ledger.reading() as tx:
            deleting = jobs.in_state(tx, JobState.DELETING)
        for job in deleting:
            if self._alone.alone(job.id, partial(self._carry_removal_on, job.id)):
                self.note("info", "removed", {"job": job.id})
        for folder in self._incoming():
            if folder.name.startswith(TRASH):
                self._alone.alone(folder.name, partial(remove_tree, folder))

    def _carry_removal_on(self, job: str) -> None:
        self.removal.carry_on(job)

    def _resume_births(self) -> None:
        unborn = Unborn(self.data, self.ledger, self.birth, self.note)
        for folder in self._incoming():
            if folder.name.startswith(NEW) and not self._alone.alone(folder.name, partial(unborn.resume, folder)):
                self._alone.alone(folder.name, partial(self._keep_sources, folder))
        self._alone.alone(self.data.incoming.name, partial(fsync_folder, self.data.incoming))

    def _keep_sources(self, folder: Path) -> None:
        """What a birth that waits for the next start is to take must not become part of another job."""
        if folder.exists() and (plan := plan_of(JobFolder(folder), folder.name.removeprefix(NEW))) is not None:
            self._kept.update(sources(plan))

    # --- 18 ---------------------------------------------------------------------------------------------------------

    def _compare_folders_and_rows(self) -> None:
        names = {entry.name for entry in self.data.jobs.iterdir() if entry.is_dir()}
        with self.ledger.reading() as tx:
            rows = {job.id: job for job in jobs.newest(tx, -1)}
        for name in sorted(filter(is_job_id, os.listdir(self.data.jobs))):
            self._alone.alone(f"jobs/{name}", partial(self._complete, name, name in rows))
        lost = [job.id for job in rows.values() if job.state in HAS_FOLDER and job.id not in names]
        found = [job.id for job in rows.values() if job.state is JobState.LOST and job.id in names]
        for work, each in ((self._mark_lost, lost), (self._adopt, found)):
            for name in each:
                self._alone.alone(f"jobs/{name}", partial(work, name))

    def _mark_lost(self, job: str) -> None:
        with self.ledger.transaction() as tx:
            jobs.move(tx, job, Move.LOSE, "its folder is gone; nobody asked for that")
        self.note("error", "lost", {"job": job, "reason": "its folder is gone"})

    def _complete(self, name: str, has_row: bool) -> None:
        """The last step of a birth, or a row for a folder that has none."""
        folder = JobFolder(self.data.jobs / name)
        if folder.path.is_dir() and not folder.path.is_symlink() and plan_of(folder, name) is not None:
            self.birth.carry_on(folder.path)
        elif not has_row:
            self._adopt(name)

    def _adopt(self, name: str) -> None:
        """Take in a job folder that the ledger does not know, or had given up: HELD, for a person to decide."""
        adopted = adopt(self.data, self.ledger, name)
        self.note("warning", "adopted", {"job": name, "state": adopted.state, "reason": adopted.reason})

    # --- 19 ---------------------------------------------------------------------------------------------------------

    def _resume_runs(self) -> None:
        with self.ledger.reading() as tx:
            running = jobs.in_state(tx, JobState.RUNNING)
        for job in running:
            if not self._alone.alone(job.id, partial(self._resume_run, job), partial(self._hold, job.id)):
                self._waiting.append(job)

    def carry_on_runs(self) -> None:
        """What met a full disk at the start, tried again while the box runs: nobody else touches such a run."""
        for job in tuple(self._waiting):
            with self.ledger.reading() as tx:
                now_is = jobs.get(tx, job.id)
            over = (now_is.state, now_is.attempt) != (JobState.RUNNING, job.attempt)
            if over or self._alone.alone(job.id, partial(self._resume_run, job), partial(self._hold, job.id)):
                self._waiting.remove(job)

    def _resume_run(self, job: Job) -> None:
        """With a result.json it is over; in a container or at a cluster it may live; else it is ended, unheard."""
        folder = JobFolder(self.data.jobs / job.id)
        attempt = folder.attempt(job.attempt)
        result = attempts.read_result(attempt)
        if result is not None:
            self.engine.end_leftovers(run_name(job.id, job.attempt))
            self.runner.finish(job.id, folder, job.attempt, result)
        elif attempts.read_lasting_run(attempt) is not None:
            self.rejoin(job)
        else:
            self.runner.abandon(job)

    def _hold(self, job: str, why: str) -> None:
        """Of a run that cannot be mended a person decides."""
        with self.ledger.transaction() as tx:
            if jobs.get(tx, job).state is JobState.RUNNING:
                jobs.move(tx, job, Move.HOLD, f"its run cannot be ended in order: {why}")

    # --- 20 ---------------------------------------------------------------------------------------------------------

    def _gather_associations(self) -> None:
        for folder in self._incoming():
            if folder.name in self._kept:
                why = "it belongs to a job whose birth goes on at the next start"
                self.note("warning", "left", {"association": folder.name, "reason": why})
            elif not folder.name.startswith("."):
                self._alone.alone(folder.name, partial(self._gather, folder))

    def _gather(self, folder: Path) -> None:
        has_instances = any(name.endswith(".dcm") for name in os.listdir(folder))
        try:
            association = read_association(folder)
        except (OSError, ValueError, KeyError) as exc:
            self._without_record(folder, has_instances, exc)
            return
        if has_instances:
            self.gather(association)
        else:
            (folder / MEMBER).unlink(missing_ok=True)
            self._drop_empty(folder)

    def _without_record(self, folder: Path, has_instances: bool, exc: Exception) -> None:
        """No association.json: nothing was acknowledged yet, or it is damaged, and then nothing may be lost."""
        if has_instances:
            unknown = Association(folder.name, "?", "?", "?", now())
            why = f"the association's record cannot be read: {reason(exc)}"
            for path in sorted(folder.glob("*.dcm")):
                take = partial(Quarantine(self.data.quarantine).take, path, unknown, path.stem, why)
                self._alone.alone(f"{folder.name}/{path.name}", take)
            self.note("error", "quarantined", {"association": folder.name, "reason": exc})
        if not any(name.endswith(".dcm") for name in os.listdir(folder)):
            (folder / MEMBER).unlink(missing_ok=True)
        self._drop_empty(folder)

    def _drop_empty(self, folder: Path) -> None:
        try:
            folder.rmdir()
        except OSError as exc:
            self.note("warning", "left", {"folder": folder.name, "reason": exc})
