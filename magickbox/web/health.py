"""For those who watch over machines: is it alive, is it ready, and its numbers."""

import ipaddress
import socket
import threading
import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from magickbox.errors import MagickboxError
from magickbox.web.metrics import TYPE, collected
from magickbox.web.models.system import Ready
from magickbox.web.problems import Problem
from magickbox.web.security import In, address, identified

router = APIRouter(tags=["monitoring"])
_ALIVE: dict[str, Any] = {"content": {"application/json": {"example": {"status": "alive"}}}}


@router.get("/healthz", summary="The window is alive", responses={200: _ALIVE})
def healthz() -> dict[str, str]:
    """Says nothing of the box; `/readyz` does."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="The box can take and process what comes",
    response_model=Ready,
    responses={503: {"model": Ready}},
)
def readyz(request: Request, box: In) -> JSONResponse:
    """Open to everybody, so it says of each part only whether it is in order: the ledger can be written, the disk is
    above its mark, the port is open, the rules in force are those of the file."""
    try:
        checks = judged(box.status(), request.app.state.doorbell)
    except (Problem, MagickboxError):
        checks = dict.fromkeys(("ledger", "disk", "port", "rules"), False)
    ready = all(checks.values())
    return JSONResponse(Ready(ready=ready, checks=checks).model_dump(), 200 if ready else 503)


class Doorbell:
    """Looks whether the DICOM port takes connections, once in a few seconds at most, whoever asks."""

    def __init__(self, every: float = 5.0) -> None:
        self._every, self._next, self._said = every, 0.0, False
        self._lock = threading.Lock()

    def answers(self, host: str, port: int) -> bool:
        """True if somebody takes connections there."""
        with self._lock:
            if time.monotonic() >= self._next:
                self._said = _answers(host, port)
                self._next = time.monotonic() + self._every
            return self._said


def judged(status: dict[str, Any], doorbell: Doorbell) -> dict[str, bool]:
    """What of the box is as it should be."""
    return {
        "ledger": status["ledger_problem"] is None,
        "disk": status["disk_free"] > status["disk_mark"],
        "port": doorbell.answers(*status["listening"]),
        "rules": status["rules_problem"] is None,
    }


def _answers(host: str, port: int) -> bool:
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # the port that is bound to all
    try:
        with socket.create_connection((here, port), 2.0):
            return True
    except OSError:
        return False


@router.get(
    "/metrics", summary="Numbers for Prometheus", response_class=Response,
    responses={200: {"content": {TYPE: {"example": "magickbox_up 1.0\n"}}}},
)  # fmt: skip
async def metrics(request: Request, box: In) -> Response:
    """For this machine without a token, for others with one of scope `read`; there is no patient data in it."""
    if not _is_here(address(request)) and await identified(request) is None:
        raise Problem(401, "Unauthorized", "send a token", {"WWW-Authenticate": "Bearer"})
    return Response(await run_in_threadpool(collected, box), media_type=TYPE)


def _is_here(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False
