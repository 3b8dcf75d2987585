"""Deletes what a written policy lets expire, and nothing else (contracts, section 5).

Only DONE jobs ever expire: those whose every delivery arrived after ``keep_done``, those that the rules asked nothing
of after ``keep_unrouted``. What was cancelled did not arrive, so that its job stays until a person says otherwise.
"""

import threading
from dataclasses import dataclass
from datetime import datetime

from magickbox.clock import Clock, now
from magickbox.delivery import Delivery, DeliveryState
from magickbox.errors import MagickboxError
from magickbox.job import Job, JobState
from magickbox.ledger import Ledger, Transaction, deliveries, jobs
from magickbox.logs import Note
from magickbox.removal import Removal

EVERY = 600.0
WHO = "retention"

S = DeliveryState


@dataclass(frozen=True)
class Expired:
    """A job that has had its time, and by which policy."""

    job: Job
    why: str


def expired(tx: Transaction, keep_done: float, keep_unrouted: float, moment: datetime) -> list[Expired]:
    """The jobs that may be deleted at ``moment``, oldest first; a dry run is this alone.

    The two are seconds since the job was DONE; an infinite one keeps for ever.
    """
    found: list[Expired] = []
    for job in jobs.in_state(tx, JobState.DONE):
        age = (moment - job.since).total_seconds()
        if age >= min(keep_done, keep_unrouted):
            why = _why(deliveries.listing(tx, job.id), age, keep_done, keep_unrouted)
            if why is not None:
                found.append(Expired(job, why))
    return found


def _why(every: list[Delivery], age: float, keep_done: float, keep_unrouted: float) -> str | None:
    if not every and age >= keep_unrouted:
        return f"nothing was asked to be delivered, and it was done {_days(age)} ago (keep_unrouted)"
    if every and age >= keep_done and all(_arrived(delivery, every) for delivery in every):
        return f"every delivery arrived, and it was done {_days(age)} ago (keep_done)"
    return None


def _arrived(delivery: Delivery, every: list[Delivery]) -> bool:
    """True if what this delivery was to bring arrived: by itself, by what it waited for, or by what stood in for it."""
    if delivery.state is S.SKIPPED:
        return any(d.id == delivery.waits_for and d.state in (S.DELIVERED, S.SKIPPED) for d in every)
    if delivery.state is S.REPLACED:
        return any(d.waits_for == delivery.id and d.state in (S.DELIVERED, S.REPLACED) for d in every)
    return delivery.state is S.DELIVERED


def _days(age: float) -> str:
    return f"{age / 86400:.1f} days"


class Retention:
    """Lets jobs expire while the box runs: one of its chores, done every ``EVERY`` seconds."""

    def __init__(
        self,
        ledger: Ledger,
        removal: Removal,
        keep_done: float,
        keep_unrouted: float,
        note: Note,
        *,
        clock: Clock = now,
    ) -> None:
        self._ledger, self._removal, self._note = ledger, removal, note
        self._keep_done, self._keep_unrouted, self._clock = keep_done, keep_unrouted, clock
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End ``run_once`` after the job in hand."""
        self._stopping.set()

    def keep(self, done: float, unrouted: float) -> None:
        """Other times from now on."""
        self._keep_done, self._keep_unrouted = done, unrouted

    def run_once(self) -> None:
        """Delete what has had its time; a job that cannot be deleted is noted, and tried again the next time."""
        with self._ledger.reading() as tx:
            found = expired(tx, self._keep_done, self._keep_unrouted, self._clock())
        for each in found:
            if self._stopping.is_set():
                return
            self._delete(each)

    def _delete(self, each: Expired) -> None:
        """Delete one job, if it is still DONE: a person may have asked for it to be routed anew meanwhile."""
        try:
            self._removal.delete(each.job.id, each.why, WHO, only_if=JobState.DONE)
        except (OSError, MagickboxError) as exc:
            self._note("error", "not-expired", {"job": each.job.id, "reason": exc})
            return
        self._note("info", "expired", {"job": each.job.id, "reason": each.why})
