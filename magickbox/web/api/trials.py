"""Test runs of processors on jobs that are there."""

from fastapi import APIRouter, Request

from magickbox.disk import Disk
from magickbox.errors import NotFound
from magickbox.job import HAS_FOLDER
from magickbox.jobfolder import JobFolder
from magickbox.ledger import jobs
from magickbox.web.acting import note
from magickbox.web.api.processors import HIDDEN, one_processor
from magickbox.web.context import Context
from magickbox.web.models.processors import ReportModel, TrialModel, TrialRequest
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import In, Operator
from magickbox.web.start import Start
from magickbox.web.trials import Trial

router = APIRouter(prefix="/trials", tags=["processors"])


@router.post(
    "",
    status_code=202,
    summary="Run a processor on a copy of a job's INPUT; the job is left alone",
    responses={404: {}},
)
def begin_trial(request: Request, box: In, who: Operator, wanted: TrialRequest) -> TrialModel:
    """Exactly as the box would, with its sandbox and limits, in at most 15 minutes; one at a time."""
    processor = one_processor(box, who, wanted.processor)
    if processor.state in ("bad", "gone"):
        raise Problem(
            409, "Conflict", f"{processor.name} cannot be run: {'; '.join(processor.problems) or 'it is gone'}"
        )
    with box.ledger.reading() as tx:
        job = jobs.get(tx, wanted.job)
    source = JobFolder(box.data.jobs / job.id).input
    if job.state not in HAS_FOLDER or not source.is_dir():
        raise NotFound(f"{job.id} is {job.state}: its files are not there any more")
    disk = Disk(box.data.root, box.settings.min_free, box.data.ballast)
    if disk.free() - job.bytes < disk.mark():
        raise Problem(507, "Insufficient Storage", "a copy of this job would leave too little room on the disk")
    start = Start(box.places, box.config, box.loaded).to_line()
    trial = box.trials.begin(start, processor.name, job.id, source, who.name)
    note(request, who, "processor test", processor.name, f"on {job.id}")
    return told(trial, who)


@router.get("/{trial}", summary="How a test run goes, or what came of it")
def read_trial(box: In, who: Operator, trial: str) -> TrialModel:
    return told(box.trials.get(trial), who)


@router.post("/{trial}/stop", summary="End a test run that is under way")
def stop_trial(request: Request, box: In, who: Operator, trial: str) -> TrialModel:
    box.trials.stop(trial)
    found = box.trials.get(trial)
    note(request, who, "processor test stopped", found.processor, f"on {found.job}")
    return told(found, who)


def told(trial: Trial, who: Principal) -> TrialModel:
    """A trial as somebody may see it: what a processor prints may quote the patient's name."""
    report = ReportModel.model_validate(trial.report) if trial.report is not None else None
    if report is not None and not who.sees_names:
        hidden = {"log": [], "message": HIDDEN if report.message else "", "unreadable": []}
        report = report.model_copy(update={**hidden, "output": []})
    return TrialModel(
        id=trial.id, processor=trial.processor, job=trial.job, who=trial.who, began=trial.began, running=trial.running,
        trouble=trial.trouble, report=report,
    )  # fmt: skip


def trials_of(box: Context, who: Principal, processor: str) -> list[TrialModel]:
    """Those of a processor, newest first; only for those who may begin one."""
    return [told(each, who) for each in box.trials.listing(processor)] if who.may_operate else []
