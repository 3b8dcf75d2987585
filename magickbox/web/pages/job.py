"""One job: its way from association to receipt, its images, why it went where it went; and one delivery."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from magickbox.delivery import ItemState
from magickbox.errors import MagickboxError
from magickbox.ledger.listings import DeliveryFilter
from magickbox.web.acting import act
from magickbox.web.api.deliveries import Verb, list_deliveries, list_items, one_delivery
from magickbox.web.api.jobfiles import document_of, piece_of_log
from magickbox.web.api.jobs import one_job, timeline_of
from magickbox.web.context import Context
from magickbox.web.models.jobs import JobWhole, LogPiece, WhyModel
from magickbox.web.pages.frame import render
from magickbox.web.paging import Cursor
from magickbox.web.principal import Principal
from magickbox.web.security import In, Operator, Viewer
from magickbox.web.seeing import series_of_job
from magickbox.web.whynot import why_decided, why_today

router = APIRouter(include_in_schema=False)

LOG_SHOWN, JSON_SHOWN = 64 * 1024, 64 * 1024
When = Annotated[Literal["decided", "today"], Query()]


@router.get("/jobs/{job}")
def job(request: Request, box: In, who: Viewer, job: str) -> Response:
    whole = one_job(box, who, job)
    return render(
        request, "job.html", who, **_live(box, who, whole), why=_decided(box, job), log=_log(box, who, whole),
        proc=_proc(box, who, whole),
    )  # fmt: skip


@router.get("/jobs/{job}/part")
def part(request: Request, box: In, who: Viewer, job: str) -> Response:
    return render(request, "job_part.html", who, **_live(box, who, one_job(box, who, job)))


@router.get("/jobs/{job}/series")
def series(request: Request, box: In, who: Viewer, job: str) -> Response:
    return render(request, "job_thumbnails.html", who, listing=series_of_job(box, who, job), look=None)


@router.get("/jobs/{job}/why")
def why(request: Request, box: In, who: Viewer, job: str, when: When = "today") -> Response:
    found = why_today(box, job, who) if when == "today" else why_decided(box, job)
    template = "job_why_table.html" if "HX-Request" in request.headers else "job_why.html"
    return render(request, template, who, job=job, why=found)


@router.get("/deliveries/{number}")
def delivery(
    request: Request, box: In, who: Viewer, number: int, state: Annotated[list[ItemState] | None, Query()] = None,
    cursor: Cursor = None,
) -> Response:  # fmt: skip
    found = one_delivery(box, number)
    items = list_items(box, who, number, state or [], cursor, 100)
    chosen = [each.value for each in state or ()]
    return render(request, "delivery.html", who, whole=found, items=items, chosen=chosen)


@router.post("/deliveries/{number}/{verb}")
def do_delivery(request: Request, who: Operator, number: int, verb: Verb) -> Response:
    act(request, who, verb, str(number))
    return RedirectResponse(f"/deliveries/{number}", 303)


def _live(box: Context, who: Principal, whole: JobWhole) -> dict[str, Any]:
    """What is looked at again whenever something happens to the job."""
    sent = list_deliveries(box, DeliveryFilter(job=whole.job.id), None, 100)
    return {"whole": whole, "job": whole.job, "timeline": timeline_of(box, who, whole.job.id), "deliveries": sent}


def _decided(box: Context, job: str) -> WhyModel | None:
    try:
        return why_decided(box, job)
    except MagickboxError:
        return None


def _log(box: Context, who: Principal, whole: JobWhole) -> LogPiece | None:
    """The end of the log, empty before the first run; None if it is not to be seen."""
    if not who.sees_names or not whole.has_folder:
        return None
    try:
        size = piece_of_log(box, who, whole.job.id, 0).size
        return piece_of_log(box, who, whole.job.id, max(0, size - LOG_SHOWN))
    except MagickboxError:
        return None


def _proc(box: Context, who: Principal, whole: JobWhole) -> str:
    """proc.json to read; empty if there is none, or it is not to be seen."""
    if not who.sees_names or not whole.has_folder:
        return ""
    try:
        text = document_of(box, who, whole.job.id, "proc.json")
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)[:JSON_SHOWN]
    except (MagickboxError, ValueError, RecursionError):
        return ""
