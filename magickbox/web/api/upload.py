"""`/api/v1/uploads`: files into the box, as a sender would bring them."""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from magickbox.association import title_problem
from magickbox.web.acting import note
from magickbox.web.models.uploads import NewUpload, UploadResult, UploadView
from magickbox.web.problems import Problem
from magickbox.web.security import In, Operator
from magickbox.web.sending import Target
from magickbox.web.unpacking import MOST_FILES
from magickbox.web.uploads import Upload, What

router = APIRouter(prefix="/uploads", tags=["uploads"])

PIECE = 1 << 20
_RESULTS = 500
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  where a box listens everywhere

After = Annotated[int, Query(ge=0, description="`next` of the answer before")]


@router.post("", summary="Begin an upload", status_code=201)
def begin(request: Request, box: In, who: Operator, wanted: NewUpload) -> UploadView:
    """Then PUT each file, and POST to `send`. What is not sent within an hour is removed."""
    problem = title_problem(wanted.called_ae)
    if problem:
        raise Problem(422, "Unprocessable Content", problem)
    upload = box.uploads.begin(who.name, wanted.called_ae)
    note(request, who, "upload", wanted.called_ae, f"begun: {upload.id}")
    return _view(upload)


@router.put("/{upload}/files/{number}", summary="Bring one file", status_code=204, response_class=Response,
            openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}})  # fmt: skip
async def bring(
    request: Request, box: In, who: Operator, upload: str,
    number: Annotated[int, Path(ge=0, lt=MOST_FILES)],
    name: Annotated[str, Query(max_length=1000, description="what the file is called; only shown")] = "",
) -> Response:  # fmt: skip
    """A DICOM file, or a zip of them, as the body."""
    found = box.uploads.find(upload, who.name)
    incoming = await run_in_threadpool(box.uploads.take, found, number, name or str(number))
    whole, pieces, size = False, [], 0
    try:
        async for piece in request.stream():
            pieces.append(piece)
            size += len(piece)
            if size >= PIECE:
                await run_in_threadpool(incoming.write, b"".join(pieces))
                pieces, size = [], 0
        await run_in_threadpool(incoming.write, b"".join(pieces))
        whole = True
    finally:
        incoming.close(whole)
    return Response(status_code=204)


@router.post("/{upload}/send", summary="Send what has come into the box", status_code=202)
def send(request: Request, box: In, who: Operator, upload: str) -> UploadView:
    """By C-STORE to the box's own port, from the calling AE title of the setting `web_ae_title`."""
    found = box.uploads.find(upload, who.name)
    host, port = box.status()["listening"][:2]
    target = Target(_EVERYWHERE.get(host, host), int(port), box.settings.web_ae_title, found.called_ae)
    box.uploads.send(found, target)
    note(request, who, "upload", found.called_ae, f"sent: {found.id}, {len(found.files)} files")
    return _view(found)


@router.get("/{upload}", summary="How an upload stands")
def look(box: In, who: Operator, upload: str, after: After = 0) -> UploadView:
    return _view(box.uploads.find(upload, who.name), after)


@router.delete("/{upload}", summary="End an upload", status_code=204, response_class=Response)
def end(request: Request, box: In, who: Operator, upload: str) -> Response:
    """What the box has stored stays."""
    found = box.uploads.find(upload, who.name)
    box.uploads.end(found)
    note(request, who, "upload", found.called_ae, f"ended: {found.id}")
    return Response(status_code=204)


def _view(upload: Upload, after: int = 0) -> UploadView:
    with upload.lock:
        results = list(upload.results)
        files, size, total = len(upload.files), upload.bytes, upload.total
    counts = Counter(each.what for each in results)
    told = results[after : after + _RESULTS]
    return UploadView(
        id=upload.id, called_ae=upload.called_ae, state=upload.state.value, files=files, bytes=size, total=total,
        stored=counts[What.STORED], refused=counts[What.REFUSED], skipped=counts[What.SKIPPED], problem=upload.problem,
        results=[UploadResult(name=each.name, what=each.what.value, why=each.why) for each in told],
        next=after + len(told),
    )  # fmt: skip
