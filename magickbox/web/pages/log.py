"""The log, followed live."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from magickbox.jobfolder import is_job_id
from magickbox.web.api.log import Level, Name, read_log
from magickbox.web.pages.frame import render
from magickbox.web.security import In, Viewer

router = APIRouter(include_in_schema=False)

SHOWN = 300


@router.get("/log")
def log(
    request: Request, box: In, who: Viewer, name: Name = "routing", job: Annotated[str, Query(max_length=100)] = "",
    level: Level = "",
) -> Response:  # fmt: skip
    wanted = job.strip()
    said = f"'{wanted}' is not the id of a job" if wanted and not is_job_id(wanted) else ""
    lines = read_log(box, name, "" if said else wanted, level, None, SHOWN)
    return render(request, "log.html", who, lines=lines, name=name, job=wanted, level=level, said=said)
