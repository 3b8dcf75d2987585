"""What a new job has to do with earlier ones: whom it follows, whether it is a copy, whether it closes a loop."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from magickbox.association import same_title
from magickbox.instance import Instance
from magickbox.job import HAS_FOLDER, Job
from magickbox.ledger import Transaction, jobs
from magickbox.ledger.jobs import Held

MAX_CHAIN = 100
LOOP_LIMIT, LOOP_TIME = 10, timedelta(hours=24)


@dataclass(frozen=True)
class Earlier:
    """An instance of an earlier job of the same study, and the job whose folder has it."""

    job: str
    instance: Instance


def already_there(tx: Transaction, latest: Job | None) -> dict[str, Earlier]:
    """What a job and those it follows have in INPUT, by SOP Instance UID; the newest content of each counts."""
    found: dict[str, Earlier] = {}
    job, steps = latest, 0
    while job is not None and steps < MAX_CHAIN:
        if job.state in HAS_FOLDER:
            for held in jobs.held_by(tx, job.id):
                if held.place != "superseded":
                    found.setdefault(held.instance.sop_instance, Earlier(job.id, held.instance))
        job, steps = (jobs.find(tx, job.follows) if job.follows else None), steps + 1
    return found


def is_duplicate(new: Iterable[Held], there: dict[str, Earlier]) -> bool:
    """True if all that is new is byte-identical to a proper subset of what is there."""
    current = [h.instance for h in new if h.place == "INPUT"]
    if any(h.place != "INPUT" for h in new) or len(current) >= len(there):
        return False
    return all(i.sop_instance in there and i.same_bytes(there[i.sop_instance].instance) for i in current)


def loop(tx: Transaction, job: Job, uids: Iterable[str], now: datetime) -> str | None:
    """Why a job looks like a loop through this box, or None.

    Either an ancestor, by deliveries of the box to its own port, had the same called AE; or one SOP Instance UID has
    come for the same called AE more than ten times in 24 hours.
    """
    ancestor, steps = job.parent, 0
    while ancestor is not None and steps < MAX_CHAIN:
        found = jobs.find(tx, ancestor)
        if found is None:
            break
        if same_title(found.called_ae, job.called_ae):
            return f"loop: this box sent it to itself; {found.id} had the same called AE {found.called_ae}"
        ancestor, steps = found.parent, steps + 1
    often = jobs.often_seen(tx, job.called_ae, uids, now - LOOP_TIME, LOOP_LIMIT - 1)
    if often is not None:
        return f"loop: SOP instance {often} has come more than {LOOP_LIMIT} times in 24 h for {job.called_ae}"
    return None
