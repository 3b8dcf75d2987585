"""The stream of events."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from magickbox.web.events import FIXED, Hub, Listener
from magickbox.web.problems import Problem
from magickbox.web.security import Viewer

router = APIRouter(tags=["live"])
_JOB = re.compile(r"job:[\w.-]{1,100}")
Topics = Annotated[
    str, Query(description="separated by commas: `status`, `jobs`, `job:<id>`, `deliveries`, `log`", max_length=1000)
]


class _Stream(StreamingResponse):
    """What a listener hears; it leaves with the answer, also if not a line of that was ever sent."""

    def __init__(self, hub: Hub, listener: Listener) -> None:
        super().__init__(hub.stream(listener), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._hub, self._listener = hub, listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.leave(self._listener)


@router.get(
    "/events",
    summary="What changes, as it changes (server-sent events)",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"example": "event: jobs\ndata: {}\n\n"}}},
        429: {"description": "too many streams of one user"},
    },
)
async def events(request: Request, who: Viewer, topics: Topics = "status,jobs,deliveries,log") -> StreamingResponse:
    """A stream that ends after ten minutes; a browser asks again by itself. An event says that something has changed;
    only `status` says what."""
    asked = frozenset(topics.split(","))
    unknown = sorted(topic for topic in asked - FIXED if not _JOB.fullmatch(topic))
    if unknown:
        raise Problem(400, "no such topic", f"'{unknown[0]}' is none of {', '.join(sorted(FIXED))}, job:<id>")
    hub: Hub = request.app.state.hub
    return _Stream(hub, hub.join(who.name, asked))
