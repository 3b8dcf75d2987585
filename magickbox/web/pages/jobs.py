"""The jobs: a list with filters in its address, and things to do with several of them."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from magickbox.job import JobState
from magickbox.ledger import listings
from magickbox.web.api.jobs import Verb, Wanted, do_all, list_and_count, list_jobs
from magickbox.web.pages.frame import render
from magickbox.web.paging import Cursor
from magickbox.web.problems import Problem
from magickbox.web.security import In, Operator, Viewer

router = APIRouter(include_in_schema=False)

SIZE, MOST = 50, 200
FIELDS = ("text", "calling_ae", "called_ae", "modality", "since", "until")
# What is asked before it is done, and whether it destroys.
MEANINGS: dict[str, tuple[str, bool]] = {
    "rerun": ("A new job is made from the same instances of each, and its processor runs again.", False),
    "reroute": (
        "What is open is cancelled, and it is decided anew with today's rules; what was sent may be sent again.",
        False,
    ),
    "hold": ("Each is kept from its next step until somebody releases it.", False),
    "cancel": ("The processor of each is ended; the job is held, and its release begins it anew.", False),
    "release": ("Each goes on where it was held.", False),
    "urgent": ("Each goes before all that is not urgent, at any time of day.", False),
    "normal": ("Each goes in its turn, at any time of day.", False),
    "off-peak": ("Each waits for the hours of its processor, and lets others go first.", False),
    "delete": ("The folder of each is removed with all its images; only its row in the ledger stays.", True),
}


@router.get("/jobs")
def jobs(request: Request, box: In, who: Viewer, wanted: Wanted, cursor: Cursor = None) -> Response:
    asked = _asked(request)
    values: dict[str, Any] = {
        "asked": asked,
        "chosen": request.query_params.getlist("state"),
        "link": lambda **other: _link(asked, request, other),
    }
    if "HX-Request" in request.headers and cursor is not None:
        return render(request, "jobs_rows.html", who, page=list_jobs(box, who, wanted, cursor, SIZE), **values)
    page, counts = list_and_count(box, who, wanted, cursor, SIZE)
    with box.ledger.reading() as tx:
        titles = {name: listings.titles(tx, name) for name in ("calling_ae", "called_ae")}
    more: dict[str, Any] = {
        "counts": counts,
        "states": list(JobState),
        "titles": titles,
        "modalities": box.catalogue.modalities(),
    }
    return render(request, "jobs.html", who, page=page, **values, **more, first=cursor is None)


def _asked(request: Request) -> dict[str, str]:
    """What the form was filled with."""
    return {name: request.query_params.get(name, "")[:200] for name in FIELDS}


def _link(asked: dict[str, str], request: Request, other: dict[str, str]) -> str:
    """The address of the list with something else in it; ``state`` empty means all."""
    states = [other["state"]] if "state" in other else request.query_params.getlist("state")
    pairs = [(name, value) for name, value in asked.items() if value] + [("state", each) for each in states if each]
    pairs += [("cursor", other["cursor"])] if "cursor" in other else []
    return f"/jobs?{urlencode(pairs)}" if pairs else "/jobs"


@router.post("/jobs/do")
async def do(
    request: Request, who: Operator, verb: Annotated[Verb, Form()], job: Annotated[list[str] | None, Form()] = None,
    sure: Annotated[str, Form()] = "", back: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    chosen = list(dict.fromkeys(job or ()))
    back = back if back.startswith("/jobs") else "/jobs"
    if not chosen:
        return RedirectResponse(back, 303)
    if len(chosen) > MOST:
        raise Problem(422, "Too many", f"{MOST} jobs at once, not more")
    meaning, destroys = MEANINGS[verb]
    values: dict[str, Any] = {"verb": verb, "meaning": meaning, "destroys": destroys, "chosen": chosen, "back": back}
    if not sure:
        return render(request, "jobs_confirm.html", who, **values)
    done = await run_in_threadpool(do_all, request, who, verb, chosen)
    if len(done) == 1 and done[0].done:
        return RedirectResponse(f"/jobs/{chosen[0]}" if back.startswith("/jobs/") else back, 303)
    return render(request, "jobs_done.html", who, **values, done=done)
