"""The statements about jobs that are READY: who waits, and what is written down of it."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from magickbox.clock import from_text, now, to_text
from magickbox.errors import ForbiddenMove
from magickbox.job import JobPriority, JobState, Move
from magickbox.ledger import jobs
from magickbox.ledger.store import Transaction
from magickbox.processor import FAILED
from magickbox.waiting import Waiting

_COLUMNS = "born, id, called_ae, since, reason, priority, not_before"


def ready(tx: Transaction, since: datetime | None = None) -> list[Waiting]:
    """The jobs that are READY, those only that became so at that time or later if one is given."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM jobs WHERE state = ? AND since >= ?",
        (JobState.READY, to_text(since) if since is not None else ""),
    )
    return [_waiting(row) for row in rows]


def one(tx: Transaction, job: str) -> Waiting | None:
    """A job if it is READY."""
    row = tx.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ? AND state = ?", (job, JobState.READY)).fetchone()
    return _waiting(row) if row else None


def _waiting(row: Sequence[Any]) -> Waiting:
    priority = JobPriority(row[5]) if row[5] else None
    not_before = from_text(row[6]) if row[6] else None
    return Waiting(from_text(row[0]), row[1], row[2], from_text(row[3]), row[4], priority, not_before)


def count(tx: Transaction, beside: Collection[str] = ()) -> int:
    """How many jobs are READY, those not counted that are named."""
    every = tx.execute("SELECT count(*) FROM jobs WHERE state = ?", (JobState.READY,)).fetchone()[0]
    return int(every) - sum(one(tx, job) is not None for job in beside)


def note(tx: Transaction, waiting: Iterable[str], reason: str) -> None:
    """Write down why these wait; those that do so no longer are passed over."""
    for job in waiting:
        found = jobs.find(tx, job)
        if found is not None and found.state is JobState.READY:
            jobs.note(tx, job, reason)


def prioritize(tx: Transaction, job: str, priority: JobPriority, who: str) -> None:
    """Keep how soon a job is to run; raises NotFound, or ForbiddenMove if its run is not still to come."""
    found = jobs.get(tx, job)
    if JobState.READY not in (found.state, found.resume):
        raise ForbiddenMove(f"{job} is {found.state}; only a job that is still to run can be made {priority}")
    tx.execute("UPDATE jobs SET priority = ? WHERE id = ?", (priority, job))
    jobs.note(tx, job, f"made {priority} by {who}", who)
    if found.state is not JobState.READY or found.not_before is not None or found.priority is priority:
        # What keeps it waiting, by another word than this, is not said again by itself.
        tx.execute("UPDATE jobs SET reason = ? WHERE id = ?", (found.reason, job))


def failures(tx: Transaction, job: str) -> int:
    """How many runs of a job have ended as failed."""
    row = tx.execute("SELECT count(*) FROM attempts WHERE job = ? AND outcome = ?", (job, FAILED)).fetchone()
    return int(row[0])


def try_again(tx: Transaction, job: str, reason: str, pause: float) -> None:
    """Make a job whose run has failed READY again, for a run after so many seconds; HELD if a person asked for that."""
    again = to_text(now() + timedelta(seconds=pause))
    moved = jobs.move(tx, job, Move.INTERRUPT, reason, interrupted=0, not_before=again)
    if moved.hold_asked:
        jobs.move(tx, job, Move.HOLD, f"held, as asked while it was running ({reason})", not_before=None)
