"""Processors: all of them, and one with its runs and test runs."""

from contextlib import suppress
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from magickbox.errors import MagickboxError
from magickbox.job import HAS_FOLDER
from magickbox.ledger import jobs
from magickbox.web.api import processors as api
from magickbox.web.api import trials
from magickbox.web.context import Context
from magickbox.web.models.processors import TrialRequest
from magickbox.web.models.system import Status
from magickbox.web.pages.frame import render
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import Admin, In, Operator, Viewer

router = APIRouter(include_in_schema=False)

OFFERED = 30
Name = Annotated[str, Query(max_length=64)]
Text = Annotated[str, Form(max_length=200)]


@router.get("/processors")
def processors_page(request: Request, box: In, who: Viewer) -> Response:
    return _all(request, box, who)


def _all(
    request: Request, box: Context, who: Principal, status: int = 200, *, said: str = "", bad: bool = False
) -> Response:  # fmt: skip
    listed = api.list_processors(box, who)
    return render(
        request, "processors.html", who, status, processors=listed, said=said, bad=bad, folder=box.places.processors,
        largest=api.LARGEST, sandbox_problem=_sandbox_problem(box),
    )  # fmt: skip


def _sandbox_problem(box: Context) -> str | None:
    """Why there is no sandbox, if there is none; None too if the box does not answer, which Now says."""
    with suppress(Problem, MagickboxError):
        return Status.model_validate(box.status()).sandbox_problem
    return None


@router.get("/processors/one")
def processor_page(request: Request, box: In, who: Viewer, name: Name) -> Response:
    return _one(request, box, who, name)


def _one(request: Request, box: Context, who: Principal, name: str, said: str = "", status: int = 200) -> Response:
    one = api.one_processor(box, who, name)
    with box.ledger.reading() as tx:
        offered = jobs.newest(tx, OFFERED, sorted(HAS_FOLDER)) if who.may_operate else []
    likely = next((each.id for each in offered if each.processor == name), offered[0].id if offered else "")
    return render(
        request, "processor.html", who, status, one=one, trials=trials.trials_of(box, who, name), offered=offered,
        likely=likely, said=said,
    )  # fmt: skip


@router.post("/processors/switch")
def switch(
    request: Request, box: In, who: Admin, name: Text = "", to: Annotated[Literal["on", "off"], Form()] = "off"
) -> Response:  # fmt: skip
    try:
        (api.switch_on if to == "on" else api.switch_off)(request, box, who, name)
    except MagickboxError as exc:
        return _all(request, box, who, 200 if "HX-Request" in request.headers else 422, said=str(exc), bad=True)
    if "HX-Request" in request.headers:
        return _all(request, box, who, said=f"{name} is {to}")
    return RedirectResponse("/processors", 303)


@router.post("/processors/upload")
async def upload(request: Request, box: In, who: Admin) -> Response:
    try:
        placed = await api.install(request, box, who)
    except (MagickboxError, Problem) as exc:
        return await run_in_threadpool(_all, request, box, who, 422, said=str(exc), bad=True)
    return RedirectResponse(f"/processors/one?{urlencode({'name': placed.name})}", 303)


@router.post("/processors/test")
def try_one(request: Request, box: In, who: Operator, name: Text = "", job: Text = "") -> Response:
    try:
        trials.begin_trial(request, box, who, TrialRequest(processor=name[:64], job=job.strip()[:100]))
    except (MagickboxError, Problem) as exc:
        status = 200 if "HX-Request" in request.headers else 422
        return _one(request, box, who, name, said=str(exc), status=status)
    if "HX-Request" in request.headers:
        return _one(request, box, who, name)
    return RedirectResponse(f"/processors/one?{urlencode({'name': name})}", 303)


@router.post("/processors/stop")
def stop(request: Request, box: In, who: Operator, name: Text = "", trial: Text = "") -> Response:
    trials.stop_trial(request, box, who, trial)
    if "HX-Request" in request.headers:
        return _one(request, box, who, name)
    return RedirectResponse(f"/processors/one?{urlencode({'name': name})}", 303)
