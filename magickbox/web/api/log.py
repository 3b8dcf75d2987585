"""The box's logs: their last lines, what has come since, all of it or that of one job."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from magickbox.jobfolder import is_job_id
from magickbox.web.context import Context
from magickbox.web.models.logs import LogLine, LogLines
from magickbox.web.paging import Cursor, Limit, cursor_of, place_of
from magickbox.web.problems import Problem
from magickbox.web.security import In, Viewer
from magickbox.web.tailing import Place, last_lines, lines_after, parts_of

router = APIRouter(prefix="/log", tags=["log"])

Name = Annotated[Literal["routing", "receive", "process"], Query(description="which log")]
Level = Annotated[Literal["", "INFO", "WARNING", "ERROR"], Query(description="only lines of this level")]


def read_log(box: Context, name: str, job: str, level: str, cursor: str | None, limit: int) -> LogLines:
    """The last lines of a log, or with ``cursor`` what has come since; no patient's data is ever in it."""
    if job and not is_job_id(job):
        raise Problem(422, "Unprocessable Content", f"job: '{job[:100]}' is not the id of a job")
    wanted = f"job={job}" if job else f" {level} " if level else ""
    log = box.data.logs / f"{name}.log"
    lines, place = last_lines(log, wanted, limit) if cursor is None else lines_after(log, _place(cursor), wanted)
    found = [LogLine(at=at, level=of, event=event, facts=facts) for at, of, event, facts in map(parts_of, lines)]
    return LogLines(
        items=[each for each in found if not level or each.level == level], next=cursor_of(place.file, place.offset)
    )


def _place(cursor: str) -> Place:
    file, offset = place_of(cursor, 2)
    if not (file.isdecimal() and offset.isdecimal() and len(offset) < 18):
        raise Problem(400, "no such page", "the cursor is not one that a listing gave")
    return Place(int(file), int(offset))


@router.get("", summary="The last lines of a log, and what has come since")
def get_log(
    box: In, _: Viewer, name: Name = "routing", job: Annotated[str, Query(max_length=100)] = "", level: Level = "",
    cursor: Cursor = None, limit: Limit = 200,
) -> LogLines:  # fmt: skip
    """Oldest first. Ask again with `next` as `cursor` when the topic `log` of `/events` tells of something new."""
    return read_log(box, name, job, level, cursor, limit)
