"""The first page: what the box is doing just now."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from magickbox.web.pages.frame import render
from magickbox.web.security import Viewer

router = APIRouter(include_in_schema=False)


@router.get("/")
def now(request: Request, who: Viewer) -> Response:
    return render(request, "now.html", who)
