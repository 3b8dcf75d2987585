"""`/api/v1/jobs/{job}/series` and what can be seen of its instances: frames, their values, reports, documents."""

import gzip
import html
import json
import math
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from magickbox.errors import UnreadableHeader
from magickbox.imaging.pictures import Wish
from magickbox.imaging.series import Kind, Shown
from magickbox.web.context import Context
from magickbox.web.metadata import metadata
from magickbox.web.models.jobs import MetadataModel
from magickbox.web.models.pictures import JobSeries, PlaceWord, Report
from magickbox.web.problems import Problem
from magickbox.web.security import In, Principal, Viewer, viewer
from magickbox.web.seeing import instance_of_job, rendered, series_in, series_of_job

router = APIRouter(tags=["pictures"], dependencies=[Depends(viewer)])

PACKED = "application/x-magickbox-frame"
_PRIVATE = "private, no-cache"  # kept by the browser, and asked for each time whether it may be shown again
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/png": {}, "image/jpeg": {}, "image/svg+xml": {}},
        "description": "the picture, or with `placeholder` one that says why there is none",
    },
    304: {"description": "as before"},
}
_VALUES: dict[int | str, dict[str, Any]] = {200: {"content": {PACKED: {}}}, 304: {"description": "as before"}}
_DOCUMENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/pdf": {}, "application/octet-stream": {}}},
    304: {"description": "as before"},
}
_INSTANCE = "/jobs/{job}/{place}/instances/{instance}"

Frame = Annotated[int, Path(ge=1, le=10_000_000, description="from 1")]
Number = Annotated[float | None, Query(description="of the window, in modality units, such as HU")]


@router.get("/jobs/{job}/series", summary="The series of a job, INPUT and OUTPUT")
def series(box: In, who: Viewer, job: str) -> JobSeries:
    """Instances in the order in which they are looked at: by number, then by position."""
    return series_of_job(box, who, job)


@router.get("/jobs/{job}/{place}/series/{series}/thumbnail", summary="A small picture of a series",
            response_class=Response, responses=_PICTURES)  # fmt: skip
def thumbnail(
    request: Request, box: In, job: str, place: PlaceWord, series: str, placeholder: bool = False
) -> Response:
    """The middle frame of its middle instance as JPEG, at most 160 pixels high and wide."""
    found = box.pictures.thumbnail(series_in(box, job, place, series))
    if found is None:
        return _missing(Problem(422, "There is nothing to see", "the series has no pictures"), placeholder)
    return _answer(request, box, job, *found, "image/jpeg", placeholder)


@router.get(f"{_INSTANCE}/frames/{{frame}}", summary="A frame as a picture",
            response_class=Response, responses=_PICTURES)  # fmt: skip
def frame(
    request: Request, box: In, job: str, place: PlaceWord, instance: str, frame: Frame,
    center: Number = None, width: Number = None,
    size: Annotated[int, Query(ge=0, le=8192, description="pixels of the larger side at most; 0: as it is")] = 0,
    placeholder: Annotated[bool, Query(description="a picture that says why, in place of an error")] = False,
) -> Response:  # fmt: skip
    """As PNG of 8 bits: in the window given, or as the file wants to be looked at first."""
    window = None
    if center is not None and width is not None:
        if not (math.isfinite(center) and math.isfinite(width) and width > 0):
            raise Problem(422, "Unprocessable Content", "center and width are numbers, width more than 0")
        window = (center, width)
    shown = instance_of_job(box, job, place, instance)
    return _answer(request, box, job, shown, Wish("png", frame, window, size), "image/png", placeholder)


@router.get(f"{_INSTANCE}/frames/{{frame}}/values", summary="A frame's values",
            response_class=Response, responses=_VALUES)  # fmt: skip
def values(request: Request, box: In, job: str, place: PlaceWord, instance: str, frame: Frame) -> Response:
    """The stored values with their scale, for a viewer that windows them itself; docs/api.md describes the form."""
    shown = instance_of_job(box, job, place, instance)
    answer = _answer(request, box, job, shown, Wish("raw", frame), PACKED)
    if answer.status_code == 200:
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            answer.headers["Content-Encoding"] = "gzip"
        else:
            answer.body = gzip.decompress(answer.body)
            answer.headers["Content-Length"] = str(len(answer.body))
        answer.headers["Vary"] = "Accept-Encoding"
    return answer


@router.get(f"{_INSTANCE}/report", summary="A structured report as text")
def report(box: In, who: Viewer, job: str, place: PlaceWord, instance: str) -> Report:
    """Its content tree, line by line; only for those who see patients' names, since its text may say them."""
    shown = _told(who, instance_of_job(box, job, place, instance), Kind.REPORT)
    return Report(lines=json.loads(rendered(box, job, shown, Wish("report"))))


@router.get(f"{_INSTANCE}/metadata", summary="The elements of an instance")
def elements(
    box: In, who: Viewer, job: str, place: PlaceWord, instance: str,
    search: Annotated[str, Query(max_length=100, description="only where tag, name or text has this")] = "",
) -> MetadataModel:  # fmt: skip
    """Those who do not see names get only what tells nobody who the patient is: numbers, codes, UIDs."""
    file = box.pictures.path(job, instance_of_job(box, job, place, instance))
    if file is None:
        raise Problem(404, "Not Found", "its file is there no more")
    try:
        return metadata(file, "", search, who.sees_names)
    except UnreadableHeader as exc:
        raise Problem(422, "There is nothing to see", str(exc)) from None
    except OSError:
        raise Problem(404, "Not Found", "its file is there no more") from None


@router.get(f"{_INSTANCE}/document", summary="A PDF document",
            response_class=Response, responses=_DOCUMENTS)  # fmt: skip
def document(
    request: Request, box: In, who: Viewer, job: str, place: PlaceWord, instance: str, download: bool = False
) -> Response:
    """The encapsulated document; only for those who see patients' names, since it may say them."""
    shown = _told(who, instance_of_job(box, job, place, instance), Kind.DOCUMENT)
    answer = _answer(request, box, job, shown, Wish("document"), "application/pdf")
    is_pdf = answer.status_code == 304 or bytes(answer.body[:5]) == b"%PDF-"
    if not is_pdf:
        answer.headers["Content-Type"] = "application/octet-stream"
    kind = "attachment" if download or not is_pdf else "inline"
    answer.headers["Content-Disposition"] = f'{kind}; filename="document.pdf"'
    answer.headers["Content-Security-Policy"] = "default-src 'none'; object-src 'self'; frame-ancestors 'none'"
    return answer


def _told(who: Principal, shown: Shown, kind: Kind) -> Shown:
    """The instance, if it is of that kind and ``who`` may read what it says."""
    if shown.kind is not kind:
        raise Problem(422, "There is nothing to see", f"it is no {kind.value}")
    if not who.sees_names:
        raise Problem(403, "Forbidden", f"a {kind.value} may say who the patient is, which is hidden from {who.name}")
    return shown


def _answer(
    request: Request, box: Context, job: str, shown: Shown, wish: Wish, media: str, placeholder: bool = False
) -> Response:
    tag = f'"{box.pictures.tag(job, shown, wish)}"'
    headers = {"ETag": tag, "Cache-Control": _PRIVATE}
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    try:
        return Response(rendered(box, job, shown, wish), media_type=media, headers=headers)
    except Problem as problem:
        return _missing(problem, placeholder)


def _missing(problem: Problem, placeholder: bool) -> Response:
    if not placeholder:
        raise problem
    lines = _folded(problem.detail, 34)
    text = "".join(f'<tspan x="160" dy="20">{html.escape(line)}</tspan>' for line in lines[:8])
    picture = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="320" height="320" viewBox="0 0 320 320">'
        '<rect width="320" height="320" fill="#20272b"/>'
        '<g fill="#dfe6ea" font-family="sans-serif" font-size="15" text-anchor="middle">'
        f'<text x="160" y="110" font-weight="bold">no picture</text><text y="130">{text}</text></g></svg>'
    )
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'"}
    return Response(picture, media_type="image/svg+xml", headers=headers)


def _folded(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()[: width + 8]
    return lines
