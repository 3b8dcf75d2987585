"""The stream of events."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from magickbox.web.events import FIXED, Hub
from magickbox.web.problems import Problem
from magickbox.web.security import viewer

router = APIRouter(tags=["live"])
_JOB = re.compile(r"job:[\w.-]{1,100}")
Topics = Annotated[
    str, Query(description="separated by commas: `status`, `jobs`, `job:<id>`, `deliveries`, `log`", max_length=1000)
]


@router.get(
    "/events",
    dependencies=[Depends(viewer)],
    summary="What changes, as it changes (server-sent events)",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"example": "event: jobs\ndata: {}\n\n"}}}},
)
async def events(request: Request, topics: Topics = "status,jobs,deliveries,log") -> StreamingResponse:
    """A stream that ends after ten minutes; a browser asks again by itself. An event says that something has changed;
    only `status` says what."""
    asked = frozenset(topics.split(","))
    unknown = sorted(topic for topic in asked - FIXED if not _JOB.fullmatch(topic))
    if unknown:
        raise Problem(400, "no such topic", f"'{unknown[0]}' is none of {', '.join(sorted(FIXED))}, job:<id>")
    hub: Hub = request.app.state.hub
    return StreamingResponse(hub.listen(asked), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
