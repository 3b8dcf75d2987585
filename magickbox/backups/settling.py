"""What becomes of jobs when an older ledger comes back: what had been done since is not known, so a person decides.

A job that was under way is HELD, so that nothing is processed or sent twice by itself; one whose folder is not there is
LOST.
"""

from dataclasses import dataclass

from magickbox.datafolder import DataFolder
from magickbox.job import HAS_FOLDER, OPEN, Job, JobState, Move
from magickbox.ledger import Ledger, jobs
from magickbox.mending.adopt import adopt

NO_FOLDER = "its folder was not there when the ledger was put back"
_PROCESSED = frozenset({JobState.PROCESSED, JobState.DELIVERING})


@dataclass(frozen=True)
class Settled:
    """The ids of the jobs that are HELD now, and of those that are LOST; ``jobs`` is how many there are in all."""

    jobs: int
    held: tuple[str, ...]
    lost: tuple[str, ...]


def settle(data: DataFolder, why: str, *, go_on: bool = False) -> Settled:
    """Go through the ledger that was put back; the caller holds the box's lock. Raises LedgerError or OSError."""
    ledger = Ledger(data.ledger)
    try:
        with ledger.reading() as tx:
            rows = jobs.newest(tx, -1)
        there = [job for job in rows if job.state in HAS_FOLDER]
        lost = [job for job in there if not (data.jobs / job.id).is_dir()]
        held = [] if go_on else [job for job in there if job.state in OPEN and job not in lost]
        for job in lost:
            _lose(ledger, job, NO_FOLDER)
        for job in held:
            _hold(data, ledger, job, f"{why}; look at it before it is released")
        return Settled(len(rows), tuple(job.id for job in held), tuple(job.id for job in lost))
    finally:
        ledger.close()


def _hold(data: DataFolder, ledger: Ledger, job: Job, why: str) -> None:
    """Hold it where it stands; if it had no outcome, its folder says where it goes on."""
    if job.state in _PROCESSED:
        with ledger.transaction() as tx:
            jobs.move(tx, job.id, Move.HOLD, why, resume=job.state)
    else:
        _lose(ledger, job, why)
        adopt(data, ledger, job.id, why)


def _lose(ledger: Ledger, job: Job, why: str) -> None:
    with ledger.transaction() as tx:
        jobs.move(tx, job.id, Move.LOSE, why)
