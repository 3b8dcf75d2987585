"""Decides what a new job is: its instances, whom it follows, and in which state its life begins."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from magickbox.births.lineage import Earlier, already_there, is_duplicate, loop
from magickbox.births.plan import VIEW, BirthPlan, Transfer, arrange
from magickbox.clock import now
from magickbox.gathering import Arrival, Due, Waits
from magickbox.instance import Instance
from magickbox.job import Job, JobState
from magickbox.jobfolder import INPUT, SUPERSEDED, job_id
from magickbox.ledger import Transaction, jobs
from magickbox.ledger.jobs import Held, Share
from magickbox.processor import Group, Late


@dataclass(frozen=True)
class Policy:
    """How instances for one called AE become jobs: the box's settings, with what its processor overrides."""

    waits: Waits = field(default_factory=Waits)
    group: Group = Group.STUDY
    late: Late = Late.NEW
    hold_aborted: bool = False


def conceive(
    tx: Transaction,
    due: Due,
    shares: tuple[Share, ...],
    policy: Policy,
    same: Callable[[Arrival, Arrival], bool],
) -> BirthPlan:
    """The plan of a job that is due; reads the ledger, writes nothing."""
    moment = now()
    arranged = arrange(due.arrivals, same)
    latest = _followed(tx, due)
    there = already_there(tx, latest)
    duplicate = is_duplicate(arranged.held, there)
    views = _views(arranged.held, there) if policy.late is Late.RERUN and not duplicate else ()
    held = (*arranged.held, *(Held(view.instance, VIEW) for view in views))
    job = _job(unused_id(tx, due.key.called_ae, moment), due, shares, held, latest, moment)
    arrived = [h.instance.sop_instance for h in arranged.held if h.place == INPUT]
    job = _beginning(job, duplicate, policy.hold_aborted, loop(tx, job, arrived, moment))
    return BirthPlan(
        job, shares, held, arranged.moves, tuple(_link(view) for view in views), arranged.drops, arranged.repeats
    )


def _followed(tx: Transaction, due: Due) -> Job | None:
    """The job that this one comes after; with ``group = association`` each association stands alone."""
    key = due.key
    return None if key.association else jobs.latest_of_study(tx, key.study, key.calling_ae, key.called_ae)


def _views(held: tuple[Held, ...], there: dict[str, Earlier]) -> tuple[Earlier, ...]:
    """What earlier jobs have and this one was not sent: ``late = rerun`` shows it the whole study."""
    new = {h.instance.sop_instance for h in held}
    return tuple(earlier for uid, earlier in there.items() if uid not in new)


def _link(view: Earlier) -> Transfer:
    return Transfer(f"{view.job}/{INPUT}/{view.instance.file}", f"{INPUT}/{view.instance.file}")


def unused_id(tx: Transaction, called_ae: str, moment: datetime) -> str:
    """A job id that no job ever had: within one second two could draw the same."""
    name = job_id(called_ae, moment)
    while jobs.find(tx, name) is not None:
        name = job_id(called_ae, moment)
    return name


def _job(
    name: str, due: Due, shares: tuple[Share, ...], held: tuple[Held, ...], latest: Job | None, moment: datetime
) -> Job:
    current: list[Instance] = [h.instance for h in held if h.place != SUPERSEDED]
    return Job(
        id=name,
        state=JobState.READY,
        calling_ae=due.key.calling_ae,
        called_ae=due.key.called_ae,
        peer=shares[0].association.peer,
        study=due.key.study,
        received=min(s.association.began for s in shares),
        born=moment,
        since=moment,
        instances=len(current),
        bytes=sum(i.size for i in current),
        aborted=due.aborted,
        follows=latest.id if latest else None,
        parent=next((s.association.parent for s in shares if s.association.parent), None),
    )


def _beginning(job: Job, duplicate: bool, hold_aborted: bool, looped: str | None) -> Job:
    """The job in its first state: READY, DONE as a copy, or HELD with a reason."""
    if looped is not None:
        return replace(job, state=JobState.HELD, resume=JobState.READY, reason=looped)
    if duplicate:
        why = f"duplicate: a byte-identical part of what {job.follows} and those before it have; not processed again"
        return replace(job, state=JobState.DONE, reason=why)
    if job.aborted and hold_aborted:
        why = "its last association was aborted, and on_abort is hold"
        return replace(job, state=JobState.HELD, resume=JobState.READY, reason=why)
    return replace(job, reason="born")
