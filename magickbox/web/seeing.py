"""What can be seen of a job: looked up in the ledger and in the job's own listing, never by a path that was given."""

from magickbox.errors import NotFound
from magickbox.imaging.pictures import Unseen, Wish
from magickbox.imaging.series import Kind, Place, Series, Shown
from magickbox.jobfolder import INPUT, OUTPUT
from magickbox.ledger import jobs
from magickbox.web.context import Context
from magickbox.web.models.pictures import InstanceView, JobSeries, PlaceView, SeriesView
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem

HIDDEN = "hidden"
FOLDERS = {"input": INPUT, "output": OUTPUT}


def series_of_job(box: Context, who: Principal, job: str) -> JobSeries:
    """All series of a job; raises NotFound."""
    check_job(box, job)
    return JobSeries(job=job, input=_place(box, who, job, INPUT), output=_place(box, who, job, OUTPUT))


def check_job(box: Context, job: str) -> None:
    """Raise NotFound for a job that the ledger does not have."""
    with box.ledger.reading() as tx:
        jobs.get(tx, job)


def place_of_job(box: Context, job: str, place: str) -> Place:
    """INPUT or OUTPUT of a job; raises NotFound."""
    check_job(box, job)
    if place not in FOLDERS:
        raise NotFound(f"a job has input and output, no '{place}'")
    return box.pictures.place(job, FOLDERS[place])


def instance_of_job(box: Context, job: str, place: str, instance: str) -> Shown:
    """One instance; raises NotFound."""
    found = place_of_job(box, job, place).find(instance)
    if found is None:
        raise NotFound(f"there is no such instance in the {place} of job {job}")
    return found


def series_in(box: Context, job: str, place: str, series: str) -> Series:
    """One series; raises NotFound."""
    found = next((each for each in place_of_job(box, job, place).series if each.uid == series), None)
    if found is None:
        raise NotFound(f"there is no such series in the {place} of job {job}")
    return found


def rendered(box: Context, job: str, shown: Shown, wish: Wish) -> bytes:
    """What is wished for; raises Problem 422 if there is no such thing to see, 503 if it may be there later."""
    found = box.pictures.get(job, shown, wish)
    if isinstance(found, Unseen):
        if found.passing:
            raise Problem(503, "Service Unavailable", found.reason, {"Retry-After": "1"})
        raise Problem(422, "There is nothing to see", found.reason)
    return found.content


def _place(box: Context, who: Principal, job: str, place: str) -> PlaceView:
    found = box.pictures.place(job, place)
    return PlaceView(
        series=[_series(each, who) for each in found.series], unreadable=found.unreadable, other=found.other
    )


def _series(series: Series, who: Principal) -> SeriesView:
    return SeriesView(
        series=series.uid,
        number=series.number,
        modality=series.modality,
        description=series.description,
        patient=series.patient if who.sees_names else HIDDEN,
        frames=series.frames,
        has_pictures=any(each.kind is Kind.IMAGE for each in series.instances),
        instances=[_instance(each) for each in series.instances],
    )


def _instance(shown: Shown) -> InstanceView:
    return InstanceView(
        instance=shown.key, sop_class=shown.sop_class, number=shown.number, frames=shown.frames, rows=shown.rows,
        columns=shown.columns, kind=shown.kind.value,
    )  # fmt: skip
