"""What is said when something cannot be done: problem+json (RFC 9457) to programs, a page to people."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from magickbox.errors import ConfigError, DiskFull, ForbiddenMove, LedgerError, MagickboxError, NotFound, PeerError
from magickbox.web.store import StoreTrouble

PROBLEM = "application/problem+json"
_STATUS: Mapping[type[MagickboxError], int] = {
    NotFound: 404,
    ForbiddenMove: 409,
    ConfigError: 422,
    PeerError: 502,
    LedgerError: 503,
    StoreTrouble: 503,
    DiskFull: 507,
}


class Problem(Exception):
    """Why a request cannot be answered: a status, a title that is always the same for it, and what happened here."""

    def __init__(
        self, status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(detail or title)
        self.status, self.title, self.detail, self.more = status, title, detail, more
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """As RFC 9457 has it."""
        told = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return {key: value for key, value in told.items() if value != ""} | self.more


def of_box(exc: MagickboxError) -> Problem:
    """What the box said on purpose."""
    status = next((each for kind, each in _STATUS.items() if isinstance(exc, kind)), 500)
    return Problem(status, HTTPStatus(status).phrase, str(exc))


def of_input(exc: RequestValidationError) -> Problem:
    """What is wrong with the parameters or the body of a request; never with what was given, which may be a secret."""
    wrong = [{"where": list(map(str, each["loc"])), "what": each["msg"]} for each in exc.errors()]
    told = "; ".join(f"{'.'.join(each['where'])}: {each['what']}" for each in wrong)
    return Problem(422, "Unprocessable Content", told, errors=wrong)


def is_for_programs(request: Request) -> bool:
    """True where no page is asked for."""
    return request.url.path.startswith(("/api/", "/healthz", "/readyz", "/metrics", "/static/"))


def answer(request: Request, problem: Problem) -> Response:
    """The answer to a request that has a problem."""
    if is_for_programs(request):
        return JSONResponse(problem.body(), problem.status, problem.headers, media_type=PROBLEM)
    if problem.status == 401:
        return to_login(request)
    page: Response = request.app.state.error_page(request, problem)
    return page


def to_login(request: Request) -> Response:
    """To the log-in, and back to here after it; htmx goes there as a whole page."""
    back = request.url.path if request.method == "GET" and "HX-Request" not in request.headers else "/"
    target = "/login" if back == "/" else f"/login?{urlencode({'next': back})}"
    if "HX-Request" in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": target})
    return RedirectResponse(target, 303)


def install(app: FastAPI) -> None:
    """Let the app answer all of these; ``app.state.error_page(request, problem)`` makes the page for people."""

    async def told(request: Request, exc: Exception) -> Response:
        return answer(request, _problem(exc))

    for kind in (Problem, MagickboxError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, told)


def _problem(exc: Exception) -> Problem:
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, MagickboxError):
        return of_box(exc)
    if isinstance(exc, RequestValidationError):
        return of_input(exc)
    if isinstance(exc, HTTPException):
        return Problem(exc.status_code, HTTPStatus(exc.status_code).phrase, headers=exc.headers)
    return Problem(500, "Internal Server Error", "the window stumbled; its log, window.log, says over what")
