"""From rows of the ledger and the catalogue to jobs as the API and the pages show them, for who may see what."""

from collections.abc import Iterable, Mapping

from magickbox.delivery import DeliveryState
from magickbox.errors import ForbiddenMove
from magickbox.job import HAS_FOLDER, Job, JobPriority, JobState, Move, after
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Transaction, jobs, listings
from magickbox.web.catalogue import HIDDEN, Study
from magickbox.web.context import Context
from magickbox.web.models.jobs import AssociationModel, AttemptModel, JobModel, JobWhole, SeriesModel
from magickbox.web.principal import Principal

_PLAIN = (
    "id", "since", "hold_asked", "calling_ae", "called_ae", "peer", "received", "born", "instances", "bytes",
    "outcome", "processor", "attempt", "aborted", "study", "follows", "rerun_of", "parent", "priority",
)  # fmt: skip


def told(text: str, who: Principal) -> str:
    """What a processor or a destination said in words, which may name the patient."""
    return text if who.sees_names or not text else HIDDEN


def reason_for(text: str, said: Iterable[str], who: Principal) -> str:
    """A reason of the box, without what it quotes of a processor where names are not to be seen."""
    if not who.sees_names:
        for each in sorted(filter(None, said), key=len, reverse=True):
            text = text.replace(each, HIDDEN)
    return text


def line_of(
    job: Job,
    study: Study | None,
    deliveries: Mapping[DeliveryState, int] | None,
    who: Principal,
    said: Iterable[str] = (),
) -> JobModel:
    """A job as one line of a list; ``said`` are further words of processors that its reason may quote."""
    known = study or Study()
    shown = known if who.sees_names else known.without_person()
    return JobModel(
        **{name: getattr(job, name) for name in _PLAIN},
        state=job.state.value,
        reason=reason_for(job.reason, (job.message, *said), who),
        message=told(job.message, who),
        patient_name=shown.name,
        patient_id=shown.patient,
        accession=shown.accession,
        study_date=shown.date,
        description=shown.description,
        modalities=list(shown.modalities),
        deliveries={state.value: count for state, count in (deliveries or {}).items()},
    )


def lines_of(box: Context, tx: Transaction, found: list[Job], who: Principal) -> list[JobModel]:
    """Jobs as lines, with what the catalogue knows and how their deliveries stand."""
    ids = [job.id for job in found]
    studies, counts = box.catalogue.of(ids), listings.delivery_counts(tx, ids)
    return [line_of(job, studies.get(job.id), counts.get(job.id), who) for job in found]


def whole_of(box: Context, tx: Transaction, id_: str, who: Principal) -> JobWhole:
    """One job with what belongs to it; raises NotFound."""
    job = jobs.get(tx, id_)
    study = box.catalogue.of([id_]).get(id_) or Study()
    runs = jobs.attempts(tx, id_)
    counts = listings.delivery_counts(tx, [id_]).get(id_)
    return JobWhole(
        job=line_of(job, study, counts, who, (run.message for run in runs)),
        birth_date=study.birth_date if who.sees_names else HIDDEN,
        series=[SeriesModel(**vars(each)) for each in study.series],
        associations=[_association(share) for share in jobs.shares_of(tx, id_)],
        attempts=[_attempt(run, who) for run in runs],
        successors=listings.successors(tx, job),
        has_folder=job.state in HAS_FOLDER,
        progress=_progress(box, job),
        may=what_may_be_done(job),
    )


def _progress(box: Context, job: Job) -> float | None:
    return JobFolder(box.data.jobs / job.id).how_far(job.attempt) if job.state is JobState.RUNNING else None


def _association(share: jobs.Share) -> AssociationModel:
    one = share.association
    return AssociationModel(
        id=one.id, calling_ae=one.calling_ae, called_ae=one.called_ae, peer=one.peer, began=one.began,
        ended=one.ended, how=one.how.value if one.how else None, instances=share.instances,
    )  # fmt: skip


def _attempt(run: jobs.Attempt, who: Principal) -> AttemptModel:
    return AttemptModel(
        n=run.n, processor=run.processor, version=run.version, began=run.began, ended=run.ended,
        seconds=(run.ended - run.began).total_seconds() if run.ended else None,
        exit_code=run.exit_code, outcome=run.outcome, message=told(run.message, who),
    )  # fmt: skip


def what_may_be_done(job: Job) -> list[str]:
    """The verbs that a job's state allows now, in the order in which they are offered."""
    may = ["rerun"] if job.state in HAS_FOLDER else []
    for move in (Move.REROUTE, Move.HOLD, Move.RELEASE, Move.DELETE):
        try:
            after(job.state, move, job.resume)
        except ForbiddenMove:
            continue
        may.append(move.value)
    if job.state is JobState.RUNNING:
        may.append("cancel")
    if job.state is JobState.RUNNING and job.hold_asked:
        may = [*(verb for verb in may if verb != "hold"), "release"]
    if JobState.READY in (job.state, job.resume):
        may += [priority.value for priority in JobPriority if priority is not job.priority]
    return may
