"""Jobs: the list, one job with its timeline, why it went where it went, and what can be done with it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool

from magickbox.clock import from_text
from magickbox.errors import MagickboxError
from magickbox.job import Job, JobState
from magickbox.ledger import Transaction, listings
from magickbox.ledger.listings import JobFilter, JobKey
from magickbox.web.acting import act
from magickbox.web.catalogue import among
from magickbox.web.context import Context
from magickbox.web.jobview import lines_of, whole_of
from magickbox.web.models.jobs import BulkRequest, CountsModel, DoneModel, EventModel, JobModel, JobWhole, WhyModel
from magickbox.web.paging import Cursor, Limit, Page, cursor_of, place_of
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import In, Operator, Viewer
from magickbox.web.timeline import timeline
from magickbox.web.whynot import why_decided, why_today

router = APIRouter(prefix="/jobs", tags=["jobs"])

Verb = Literal["rerun", "reroute", "hold", "cancel", "release", "delete", "urgent", "normal", "off-peak"]
SENT = {"cancel": "cancel-job"}  # deliveries have a verb of that name too
Title = Annotated[str, Query(max_length=64, description="an AE title; case does not count, `*` stands for anything")]
Day = Annotated[
    str, Query(max_length=40, description="a day in the box's time zone (2026-03-12) or a moment with its zone")
]
Text = Annotated[
    str,
    Query(
        max_length=200,
        description="words of patient name or ID (for those who see names), accession number, descriptions or job id;"
        " or the UID of a study, series or instance",
    ),
]


def _filter(
    who: Viewer,
    state: Annotated[list[JobState] | None, Query(description="of these states")] = None,
    calling_ae: Title = "",
    called_ae: Title = "",
    modality: Annotated[str, Query(max_length=16, pattern=r"^[A-Za-z0-9_ ]*$")] = "",
    since: Day = "",
    until: Day = "",
    text: Text = "",
) -> JobFilter:
    """The filter that a query asks for; ``until`` a day means: that day as well."""
    return JobFilter(
        states=tuple(state or ()),
        calling_ae=calling_ae.strip(),
        called_ae=called_ae.strip(),
        since=_moment("since", since, timedelta(0)),
        until=_moment("until", until, timedelta(days=1)),
        among=among(text, modality.strip(), who.sees_names),
    )


Wanted = Annotated[JobFilter, Depends(_filter)]


def _moment(name: str, text: str, add: timedelta) -> datetime | None:
    """A day begins at its midnight here; raises Problem 422."""
    if not text.strip():
        return None
    try:
        if len(text.strip()) == len("2026-03-12"):
            return datetime.combine(date.fromisoformat(text.strip()) + add, time()).astimezone()
        return from_text(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Problem(422, "Unprocessable Content", f"{name}: '{text}' is not a day such as 2026-03-12") from None


def list_jobs(box: Context, who: Principal, wanted: JobFilter, cursor: str | None, limit: int) -> Page[JobModel]:
    """A page of jobs, newest first."""
    with box.ledger.reading() as tx:
        return _page(box, tx, who, listings.page_of_jobs(tx, wanted, _key(cursor), limit + 1), limit)


def list_and_count(
    box: Context, who: Principal, wanted: JobFilter, cursor: str | None, limit: int
) -> tuple[Page[JobModel], CountsModel]:
    """What ``list_jobs`` and ``count_jobs`` tell, in little more time than one of them."""
    with box.ledger.reading() as tx:
        found, counts = listings.page_and_counts(tx, wanted, _key(cursor), limit + 1)
        return _page(box, tx, who, found, limit), _counts(counts)


def _page(box: Context, tx: Transaction, who: Principal, found: list[Job], limit: int) -> Page[JobModel]:
    lines = lines_of(box, tx, found[:limit], who)
    more = len(found) > limit
    return Page(items=lines, next=cursor_of(lines[-1].born.isoformat(), lines[-1].id) if more else None)


def _key(cursor: str | None) -> JobKey | None:
    if cursor is None:
        return None
    born, id_ = place_of(cursor, 2)
    try:
        return JobKey(from_text(born), id_)
    except ValueError:
        raise Problem(400, "no such page", "the cursor is not one that a listing gave") from None


def count_jobs(box: Context, wanted: JobFilter) -> CountsModel:
    """How many jobs there are in each state."""
    with box.ledger.reading() as tx:
        return _counts(listings.count_jobs(tx, wanted))


def _counts(counts: Mapping[JobState, int]) -> CountsModel:
    states = {state.value: counts[state] for state in JobState if state in counts}
    return CountsModel(states=states, total=sum(states.values()))


def one_job(box: Context, who: Principal, job: str) -> JobWhole:
    """One job with what belongs to it; raises NotFound."""
    with box.ledger.reading() as tx:
        return whole_of(box, tx, job, who)


def timeline_of(box: Context, who: Principal, job: str) -> list[EventModel]:
    """A job's timeline; raises NotFound."""
    with box.ledger.reading() as tx:
        return timeline(tx, job, who)


def do_all(request: Request, who: Principal, verb: str, subjects: list[str]) -> list[DoneModel]:
    """Have the box do something to each of these; one that it refuses stops no other."""
    return [_do(request, who, verb, subject) for subject in dict.fromkeys(subjects)]


def _do(request: Request, who: Principal, verb: str, subject: str) -> DoneModel:
    try:
        return DoneModel(id=subject, done=True, said=act(request, who, SENT.get(verb, verb), subject))
    except (MagickboxError, Problem) as exc:
        return DoneModel(id=subject, done=False, said=str(exc))


@router.get("", summary="Jobs, newest first")
def get_jobs(box: In, who: Viewer, wanted: Wanted, cursor: Cursor = None, limit: Limit = 50) -> Page[JobModel]:
    return list_jobs(box, who, wanted, cursor, limit)


@router.get("/counts", summary="How many jobs there are in each state")
def get_counts(box: In, _: Viewer, wanted: Wanted) -> CountsModel:
    return count_jobs(box, wanted)


@router.post("/bulk/{verb}", summary="Do something with several jobs")
async def post_bulk(request: Request, who: Operator, verb: Verb, asked: BulkRequest) -> list[DoneModel]:
    """Each is told of by itself: one that the box refuses stops no other."""
    return await run_in_threadpool(do_all, request, who, verb, asked.ids)


@router.get("/{job}", summary="One job")
def get_job(box: In, who: Viewer, job: str) -> JobWhole:
    return one_job(box, who, job)


@router.get("/{job}/timeline", summary="Everything that has happened to a job, oldest first")
def get_timeline(box: In, who: Viewer, job: str) -> list[EventModel]:
    return timeline_of(box, who, job)


@router.get("/{job}/why", summary="Why each rule did or did not fire")
def get_why(
    box: In,
    who: Viewer,
    job: str,
    when: Annotated[
        Literal["decided", "today"], Query(description="as it was decided, or by today's rules")
    ] = "decided",
    n: Annotated[int | None, Query(ge=1, le=100_000, description="which decision; the last one if left out")] = None,
) -> WhyModel:
    """By today's rules the values of tags are told as well, to those who see names; nothing is sent."""
    return why_today(box, job, who) if when == "today" else why_decided(box, job, n)


@router.post("/{job}/{verb}", summary="Do something with a job")
def post_job(request: Request, who: Operator, job: str, verb: Verb) -> DoneModel:
    return DoneModel(id=job, done=True, said=act(request, who, SENT.get(verb, verb), job))
