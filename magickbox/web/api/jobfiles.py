"""The files of a job: listed, one of them, all as a zip; and its log while it is written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from magickbox.errors import NotFound
from magickbox.job import JobState
from magickbox.jobfolder import JobFolder
from magickbox.web.acting import note
from magickbox.web.context import Context
from magickbox.web.jobfiles import PLACES, chunks, files_below, find, folder_of, open_file, zipped
from magickbox.web.models.jobs import FileModel, LogPiece
from magickbox.web.paging import Cursor, Limit, Page, cursor_of, place_of
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import In, Viewer

router = APIRouter(prefix="/jobs/{job}", tags=["files"])

PIECE, MOST_JSON = 256 * 1024, 8 * 1024 * 1024
Document = Literal["info.json", "proc.json", "delivery.json", "run.json"]
Path_ = Annotated[str, Query(alias="path", max_length=1000, description="`path` of the listing of files")]
Places = Annotated[Literal["INPUT", "OUTPUT", "both"], Query(description="what is in it")]
_BYTES: dict[int | str, dict[str, object]] = {
    200: {"content": {"application/octet-stream": {}, "application/dicom": {}}}
}
_TEXT: dict[int | str, dict[str, object]] = {200: {"content": {"text/plain": {}}}}
_JSON: dict[int | str, dict[str, object]] = {
    200: {"content": {"application/json": {"example": {"outcome": "success"}}}},
    413: {},
}
_ZIP: dict[int | str, dict[str, object]] = {200: {"content": {"application/zip": {}}}}


def seeing_names(who: Principal) -> None:
    """Raise Problem 403 for what may name the patient and cannot be masked."""
    if not who.sees_names:
        raise Problem(403, "Forbidden", "this may name the patient, and your role does not see names")


def piece_of_log(box: Context, who: Principal, job: str, offset: int) -> LogPiece:
    """What processing.log has from ``offset`` on; raises NotFound."""
    seeing_names(who)
    found, folder = folder_of(box, job)
    text, end, size = b"", offset, 0
    try:
        with folder.log.open("rb") as stream:
            size = stream.seek(0, 2)
            end = offset if offset <= size else 0  # a new run has begun another log
            stream.seek(end)
            text = stream.read(PIECE)
    except OSError:
        end = 0
    return LogPiece(
        text=text.decode("utf-8", "replace"), offset=end, next=end + len(text), size=size,
        running=found.state is JobState.RUNNING,
    )  # fmt: skip


def document_of(box: Context, who: Principal, job: str, name: str) -> bytes:
    """A JSON file of the box about a job, as it is on disk; raises NotFound."""
    found, folder = folder_of(box, job)
    if name in ("proc.json", "run.json"):
        seeing_names(who)
    path = folder.attempt(found.attempt).run if name == "run.json" else _document(folder, name)
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_JSON + 1)
    except OSError:
        raise NotFound(f"the job has no {name}") from None
    if len(text) > MOST_JSON:
        raise Problem(413, "Content Too Large", f"{name} is longer than {MOST_JSON} bytes")
    return text


def _document(folder: JobFolder, name: str) -> Path:
    return {"info.json": folder.info, "proc.json": folder.proc}.get(name, folder.path / "delivery.json")


def list_files(box: Context, who: Principal, job: str, cursor: str | None, limit: int) -> Page[FileModel]:
    """A page of the files of a job; raises NotFound. A name that a processor chose may name the patient."""
    seeing_names(who)
    _, folder = folder_of(box, job)
    after = int(place) if cursor and (place := place_of(cursor)[0]).isdecimal() else 0
    found: list[FileModel] = []
    for number, file in enumerate(files_below(folder.path)):
        if number >= after + limit:
            return Page(items=found, next=cursor_of(after + limit))
        if number >= after:
            found.append(FileModel(path=file.path.encode("utf-8", "replace").decode(), bytes=file.bytes))
    return Page(items=found, next=None)


def _download(stream: Iterator[bytes], name: str, kind: str, size: int | None = None) -> StreamingResponse:
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    if size is not None:
        headers["Content-Length"] = str(size)
    return StreamingResponse(stream, media_type=kind, headers=headers)


@router.get("/files", summary="The files of a job")
def get_files(box: In, who: Viewer, job: str, cursor: Cursor = None, limit: Limit = 100) -> Page[FileModel]:
    return list_files(box, who, job, cursor, limit)


@router.get("/file", summary="One file of a job", response_class=StreamingResponse, responses=_BYTES)
def get_file(request: Request, box: In, who: Viewer, job: str, path: Path_) -> StreamingResponse:
    seeing_names(who)
    _, folder = folder_of(box, job)
    file = find(folder.path, path)
    stream = open_file(folder.path, file)
    note(request, who, "download", job, "one file")
    kind = "application/dicom" if file.path.endswith(".dcm") else "application/octet-stream"
    return _download(chunks(stream), file.path.rpartition("/")[2], kind)


@router.get("/zip", summary="A job as a zip", response_class=StreamingResponse, responses=_ZIP)
def get_zip(request: Request, box: In, who: Viewer, job: str, what: Places = "both") -> StreamingResponse:
    """Made while it is sent. If a file goes meanwhile, the download breaks off instead of looking whole."""
    seeing_names(who)
    found, folder = folder_of(box, job)
    files = files_below(folder.path, PLACES if what == "both" else (what,))
    note(request, who, "download", job, f"zip of {what}")
    return _download(zipped(folder.path, files, found.id), f"{found.id}.zip", "application/zip")


@router.get("/log", summary="The log of the job's last run, also while it is written")
def get_log(
    box: In,
    who: Viewer,
    job: str,
    offset: Annotated[int, Query(ge=0, le=1 << 50, description="`next` of the piece before")] = 0,
) -> LogPiece:
    return piece_of_log(box, who, job, offset)


@router.get("/processing.log", summary="The same, whole, as text", response_class=StreamingResponse, responses=_TEXT)
def get_whole_log(box: In, who: Viewer, job: str) -> StreamingResponse:
    seeing_names(who)
    _, folder = folder_of(box, job)
    try:
        stream = folder.log.open("rb")
    except OSError:
        raise NotFound("the job has no processing.log") from None
    return _download(chunks(stream), f"{job}-processing.log", "text/plain; charset=utf-8")


@router.get("/documents/{name}", summary="A JSON file about a job", response_class=Response, responses=_JSON)
def get_document(box: In, who: Viewer, job: str, name: Document) -> Response:
    """`info.json`, `proc.json`, `delivery.json`, or `run.json` of the last run; as contracts.md explains them."""
    return Response(document_of(box, who, job, name), media_type="application/json")
