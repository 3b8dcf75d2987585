"""The API told on a page: made of its own description, without anything from elsewhere."""

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from magickbox.web.apiguide import calls_by_subject
from magickbox.web.describing import API
from magickbox.web.pages.frame import render
from magickbox.web.security import Viewer

router = APIRouter(include_in_schema=False)


@router.get("/api")
def api_page(request: Request, who: Viewer) -> Response:
    app: FastAPI = request.app
    base = str(request.base_url).rstrip("/")
    return render(request, "api.html", who, subjects=calls_by_subject(app.openapi()), base=base, root=API)
