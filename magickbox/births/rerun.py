"""Makes a new job from the instances of an old one: hard links, so that it costs no room; the old one is untouched."""

from magickbox.births.birth import Birth
from magickbox.births.newjob import unused_id
from magickbox.births.plan import VIEW, BirthPlan, Transfer
from magickbox.clock import now
from magickbox.errors import DiskFull, ForbiddenMove
from magickbox.instance import Instance
from magickbox.job import HAS_FOLDER, Job, JobState
from magickbox.jobfolder import INPUT, SUPERSEDED, JobFolder
from magickbox.ledger import Ledger, jobs
from magickbox.ledger.jobs import Held


def rerun(ledger: Ledger, birth: Birth, job: str, who: str) -> Job:
    """Give birth to a job with the INPUT of an old one; raises NotFound, ForbiddenMove, OSError or DiskFull."""
    with ledger.reading() as tx:
        old = jobs.get(tx, job)
        if old.state not in HAS_FOLDER:
            raise ForbiddenMove(f"{job} is {old.state}: its instances are not there any more")
        shares = tuple(jobs.shares_of(tx, job))
        kept = [h.instance for h in jobs.held_by(tx, job) if h.place != SUPERSEDED]
        _all_there(birth, job, kept)
        moment = now()
        name = unused_id(tx, old.called_ae, moment)
    new = Job(
        id=name,
        state=JobState.READY,
        reason=f"rerun of {job}, asked by {who}",
        calling_ae=old.calling_ae,
        called_ae=old.called_ae,
        peer=old.peer,
        study=old.study,
        received=old.received,
        born=moment,
        since=moment,
        instances=old.instances,
        bytes=old.bytes,
        aborted=old.aborted,
        rerun_of=job,
    )
    links = tuple(Transfer(f"{job}/{INPUT}/{i.file}", f"{INPUT}/{i.file}") for i in kept)
    birth.plan(BirthPlan(new, shares, tuple(Held(i, VIEW) for i in kept), (), links))
    try:
        return birth.carry_on(birth.find(new.id))
    except DiskFull:
        return birth.carry_on(birth.find(new.id))  # the ledger has given up its ballast, so that now there is room


def _all_there(birth: Birth, job: str, kept: list[Instance]) -> None:
    """Raises ForbiddenMove if something of what the old job received is not in its folder any more."""
    source = JobFolder(birth.find(job)).input
    missing = [i.file for i in kept if not (source / i.file).is_file()]
    if not source.is_dir():
        raise ForbiddenMove(f"the INPUT folder of {job} is gone: there is nothing to run again")
    if missing:
        raise ForbiddenMove(f"{len(missing)} of {len(kept)} files of {job} are gone, the first is INPUT/{missing[0]}")
