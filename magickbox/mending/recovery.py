"""What is done at start, under the lock, before the port opens (section 8, steps 17 to 20).

Every window that a kill can fall into is mended here from what is on disk; nothing depends on what a log says.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from magickbox.association import Association
from magickbox.births.birth import Birth
from magickbox.clock import now
from magickbox.datafolder import DataFolder
from magickbox.durable import fsync_folder
from magickbox.engine import Engine
from magickbox.errors import MagickboxError
from magickbox.incoming.quarantine import Quarantine
from magickbox.incoming.record import MEMBER, read_association, remove_parts
from magickbox.job import HAS_FOLDER, Job, JobState, Move
from magickbox.jobfolder import NEW, TRASH, JobFolder, is_job_id, remove_tree
from magickbox.ledger import Ledger, jobs
from magickbox.logs import Note
from magickbox.mending.adopt import adopt
from magickbox.removal import Removal
from magickbox.runs import attempt as attempts
from magickbox.runs.runner import Runner, interrupt, run_name


@dataclass(frozen=True)
class Recovery:
    """Mends a data folder after a kill; ``gather`` takes each association folder that still holds instances,
    ``note`` writes to receive.log, ``run_note`` to process.log."""

    data: DataFolder
    ledger: Ledger
    birth: Birth
    removal: Removal
    engine: Engine
    runner: Runner
    gather: Callable[[Association], None]
    note: Note
    run_note: Note

    def run(self) -> None:
        """All of it, in the order of the contracts; raises OSError or MagickboxError if the box cannot start."""
        self._remove_parts()
        self._resume_removals()
        self._resume_births()
        self._compare_folders_and_rows()
        self._resume_runs()
        self._gather_associations()

    # --- 17 ---------------------------------------------------------------------------------------------------------

    def _incoming(self) -> Iterator[Path]:
        return (entry for entry in sorted(self.data.incoming.iterdir()) if entry.is_dir())

    def _remove_parts(self) -> None:
        """What was being received was not acknowledged: the sender has it and will send it again."""
        for folder in self._incoming():
            if not folder.name.startswith("."):
                count = remove_parts(folder)
                if count:
                    self.note("info", "swept", {"association": folder.name, "parts": count})

    def _resume_removals(self) -> None:
        for job in self.removal.carry_on_all():
            self.note("info", "removed", {"job": job})
        for folder in self._incoming():
            if folder.name.startswith(TRASH):
                remove_tree(folder)

    def _resume_births(self) -> None:
        """A plan that is whole is carried on; without one nothing has moved yet."""
        for folder in self._incoming():
            if not folder.name.startswith(NEW):
                continue
            if JobFolder(folder).plan.exists():
                job = self.birth.carry_on(folder)
                self.note("info", "born", {"job": job.id, "reason": "carried on after a restart"})
            else:
                remove_tree(folder)
        fsync_folder(self.data.incoming)

    # --- 18 ---------------------------------------------------------------------------------------------------------

    def _compare_folders_and_rows(self) -> None:
        names = set(os.listdir(self.data.jobs))
        with self.ledger.reading() as tx:
            rows = {job.id: job for job in jobs.newest(tx, -1)}
        for name in sorted(names):
            folder = JobFolder(self.data.jobs / name)
            if is_job_id(name) and not self._carried_on(folder) and name not in rows:
                self._adopt(name)
        self._mark_lost([job for job in rows.values() if job.state in HAS_FOLDER and job.id not in names])
        self._find_again([job for job in rows.values() if job.state is JobState.LOST and job.id in names])

    def _mark_lost(self, lost: list[Job]) -> None:
        for job in lost:
            with self.ledger.transaction() as tx:
                jobs.move(tx, job.id, Move.LOSE, "its folder is gone; nobody asked for that")
            self.note("error", "lost", {"job": job.id, "reason": "its folder is gone"})

    def _find_again(self, found: list[Job]) -> None:
        for job in found:
            self._adopt(job.id)

    def _carried_on(self, folder: JobFolder) -> bool:
        """True if the folder had a plan and its birth is complete now; a plan that cannot be read is as none."""
        if not folder.plan.exists():
            return False
        try:
            self.birth.carry_on(folder.path)
        except (ValueError, KeyError, TypeError) as exc:
            self.note("error", "plan-unreadable", {"job": folder.path.name, "reason": exc})
            self._adopt(folder.path.name)
        return True

    def _adopt(self, name: str) -> None:
        """Take in a job folder that the ledger does not know, or had given up: HELD, for a person to decide."""
        adopted = adopt(self.data, self.ledger, name)
        self.note("warning", "adopted", {"job": name, "state": adopted.state, "reason": adopted.reason})

    # --- 19 ---------------------------------------------------------------------------------------------------------

    def _resume_runs(self) -> None:
        """A run with a result.json is over; one without says nothing, and what still lives of it is ended."""
        with self.ledger.reading() as tx:
            running = jobs.in_state(tx, JobState.RUNNING)
        for job in running:
            folder = JobFolder(self.data.jobs / job.id)
            attempt = folder.attempt(job.attempt)
            ended = self.engine.end_leftovers(run_name(job.id, job.attempt))
            result = attempts.read_result(attempt)
            if result is not None:
                self.runner.finish(job.id, folder, job.attempt, result)
                continue
            attempts.clear(attempt)
            with self.ledger.transaction() as tx:
                moved = interrupt(tx, job.id, "the box ended while it was running", counts=True)
            facts = {"job": job.id, "attempt": job.attempt, "processes-ended": ended, "state": moved.state}
            self.run_note("warning", "interrupted", facts)

    # --- 20 ---------------------------------------------------------------------------------------------------------

    def _gather_associations(self) -> None:
        for folder in self._incoming():
            if folder.name.startswith("."):
                continue
            has_instances = any(name.endswith(".dcm") for name in os.listdir(folder))
            try:
                association = read_association(folder)
            except (OSError, ValueError, KeyError) as exc:
                self._without_record(folder, has_instances, exc)
                continue
            if has_instances:
                self.gather(association)
            else:
                (folder / MEMBER).unlink(missing_ok=True)
                self._drop_empty(folder)

    def _without_record(self, folder: Path, has_instances: bool, exc: Exception) -> None:
        """No association.json: nothing was acknowledged yet, or it is damaged, and then nothing may be lost."""
        if not has_instances:
            (folder / MEMBER).unlink(missing_ok=True)
            self._drop_empty(folder)
            return
        unknown = Association(folder.name, "?", "?", "?", now())
        quarantine = Quarantine(self.data.quarantine)
        for path in sorted(folder.glob("*.dcm")):
            quarantine.take(path, unknown, path.stem, f"the association's record cannot be read: {exc}")
        (folder / MEMBER).unlink(missing_ok=True)
        self._drop_empty(folder)
        self.note("error", "quarantined", {"association": folder.name, "reason": exc})

    def _drop_empty(self, folder: Path) -> None:
        try:
            folder.rmdir()
        except OSError as exc:
            self.note("warning", "left", {"folder": folder.name, "reason": exc})


def describe(exc: MagickboxError | OSError) -> str:
    """Why a box cannot start, in one line."""
    return exc.strerror or str(exc) if isinstance(exc, OSError) else str(exc)
