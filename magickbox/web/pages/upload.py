"""The page that takes files into the box."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from magickbox.dropins.folder import read_dropins
from magickbox.web.context import Context
from magickbox.web.pages.frame import render
from magickbox.web.security import In, Operator

router = APIRouter(include_in_schema=False)


@router.get("/upload")
def upload(request: Request, box: In, who: Operator) -> Response:
    return render(request, "upload.html", who, titles=_titles(box), calling=box.settings.web_ae_title)


def _titles(box: Context) -> list[str]:
    """The called AE titles that processors serve by name."""
    found = read_dropins(box.places.processors).good
    return sorted({each.called_ae for each in found if each.enabled and not set(each.called_ae) & set("*?[\\")})
