"""The first page: what the box is doing just now, and the first steps with an empty one."""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from magickbox.job import JobState
from magickbox.web.api import overview
from magickbox.web.context import Context
from magickbox.web.pages.frame import render
from magickbox.web.principal import Principal
from magickbox.web.security import Admin, In, Viewer

router = APIRouter(include_in_schema=False)
# The states in the order in which a job goes through them.
ORDER = (
    JobState.READY, JobState.RUNNING, JobState.PROCESSED, JobState.DELIVERING, JobState.DONE, JobState.ATTENTION,
    JobState.HELD, JobState.LOST,
)  # fmt: skip


@router.get("/")
def now(request: Request, box: In, who: Viewer) -> Response:
    return _render(request, box, who, "now.html")


@router.get("/now/parts")
def parts(request: Request, box: In, who: Viewer) -> Response:
    return _render(request, box, who, "now_parts.html")


def _render(request: Request, box: Context, who: Principal, template: str) -> Response:
    found = overview.overview(box, request.app.state.rates)
    steps = overview.first_steps(box, request.url.hostname or "") if found.empty else None
    states = [(state, found.jobs.get(state, 0)) for state in ORDER]
    states = [(state, count) for state, count in states if count or state in (JobState.RUNNING, JobState.DONE)]
    return render(request, template, who, found=found, steps=steps, states=states, pages=request.app.state.pages)


@router.post("/now/example-processor")
def make_example(request: Request, box: In, who: Admin) -> Response:
    overview.make_example(request, box, who)
    return RedirectResponse("/", 303)


@router.post("/now/example-rule")
def use_rule(request: Request, box: In, who: Admin) -> Response:
    overview.use_example_rule(request, box, who)
    return RedirectResponse("/", 303)
