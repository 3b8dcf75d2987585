"""Destinations: all of them, and one with what waits and what was given up."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from magickbox.delivery import DeliveryState
from magickbox.errors import MagickboxError
from magickbox.web.acting import act
from magickbox.web.api import destinations as api
from magickbox.web.context import Context
from magickbox.web.pages.frame import render
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import In, Operator, Viewer

router = APIRouter(include_in_schema=False)

Do = Literal["pause", "drain", "resume", "ask", "echo", "retry", "again"]
Name = Annotated[str, Query(max_length=300)]
Text = Annotated[str, Form(max_length=400)]


@router.get("/destinations")
def destinations_page(request: Request, box: In, who: Viewer) -> Response:
    return _all(request, box, who)


def _all(request: Request, box: Context, who: Principal, *, said: str = "", bad: bool = False) -> Response:
    listed = api.list_destinations(box, who)
    return render(request, "destinations.html", who, destinations=listed, said=said, bad=bad)


@router.get("/destinations/one")
def destination_page(request: Request, box: In, who: Viewer, name: Name) -> Response:
    return _one(request, box, who, name)


def _one(
    request: Request, box: Context, who: Principal, name: str, *, said: str = "", bad: bool = False
) -> Response:  # fmt: skip
    one = api.one_destination(box, who, name)
    dead = api.deliveries_to(box, name, DeliveryState.DEAD) if one.dead else []
    coming = api.deliveries_to(box, name, DeliveryState.OPEN) if one.open else []
    return render(request, "destination.html", who, one=one, dead=dead, coming=coming, said=said, bad=bad)


@router.post("/destinations/do")
def do_one(
    request: Request, box: In, who: Operator, do: Annotated[Do, Form()] = "ask", name: Text = "", delivery: Text = "",
    back: Text = "",
) -> Response:  # fmt: skip
    """Do what a button says, and show the page it stands on with what came of it."""
    try:
        said, bad = _done(request, box, who, do, name, delivery), False
    except (MagickboxError, Problem) as exc:
        said, bad = str(exc), True
    if "HX-Request" not in request.headers and not bad and do not in ("echo", "retry"):
        return RedirectResponse(request.url_for("destinations_page").path, 303)
    shown = _one if back == "one" else None
    return shown(request, box, who, name, said=said, bad=bad) if shown else _all(request, box, who, said=said, bad=bad)


def _done(request: Request, box: Context, who: Principal, do: Do, name: str, delivery: str) -> str:
    if do == "echo":
        result = api.echo_destination(request, box, who, name)
        if not result.answers:
            raise Problem(502, "No answer", f"{name} does not answer: {result.said}")
        return f"{name} answers, in {result.seconds * 1000:.0f} ms"
    if do == "retry":
        again = api.retry_dead(request, box, who, name)
        rest = f"; {again.left} are still dead" if again.left else ""
        return f"{again.again} deliveries to {name} are tried again{rest}"
    return act(request, who, "retry", delivery) if do == "again" else act(request, who, do, name)
