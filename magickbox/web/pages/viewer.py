"""The viewer of a job's pictures. Without JavaScript it shows one frame after another as plain images."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from magickbox.errors import MagickboxError
from magickbox.web.api.pictures import report
from magickbox.web.context import Context
from magickbox.web.models.pictures import InstanceView, JobSeries, PlaceWord, ReportLine, SeriesView
from magickbox.web.pages.frame import render
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import In, Viewer
from magickbox.web.seeing import series_of_job

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Look:
    """Where one looks: a series of INPUT or OUTPUT, and in it a frame, counted from 1 over all its instances."""

    place: PlaceWord
    series: SeriesView
    instance: InstanceView
    frame: int
    n: int

    def at(self, n: int) -> str:
        """The query of the page that looks at another frame."""
        return urlencode({"place": self.place, "series": self.series.series, "n": n})


@router.get("/jobs/{job}/pictures")
def pictures(
    request: Request, box: In, who: Viewer, job: str,
    place: PlaceWord = "input", series: Annotated[str, Query(max_length=100)] = "", n: int = 1,
) -> Response:  # fmt: skip
    listing = series_of_job(box, who, job)
    look = _look(listing, place, series, n)
    return render(request, "viewer.html", who, listing=listing, look=look, lines=_lines(box, who, job, look))


def _lines(box: Context, who: Principal, job: str, look: Look | None) -> list[ReportLine]:
    """The text of a report, for who may read it and has no JavaScript."""
    if look is None or look.instance.kind != "report" or not who.sees_names:
        return []
    try:
        return report(box, who, job, look.place, look.instance.instance).lines
    except (Problem, MagickboxError):
        return []


def _look(listing: JobSeries, place: PlaceWord, uid: str, n: int) -> Look | None:
    """What was asked for, or the first thing with pictures, or the first thing at all; None if there is nothing."""
    all_series: list[tuple[PlaceWord, SeriesView]] = [("input", each) for each in listing.input.series]
    all_series += [("output", each) for each in listing.output.series]
    if not all_series:
        return None
    wanted = [each for each in all_series if each[0] == place and each[1].series == uid]
    seen = [each for each in all_series if each[1].has_pictures]
    where, series = (wanted or seen or all_series)[0]
    n = min(max(n, 1), series.frames)
    before = 0
    for instance in series.instances:
        if n <= before + instance.frames:
            return Look(where, series, instance, n - before, n)
        before += instance.frames
    return None
