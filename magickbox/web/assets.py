"""The files that pages load: read once, served for a year under a folder that is named by what is in them all.

One name for all, so that a module may import its neighbour by a plain relative path.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from magickbox.web.problems import Problem

_TEXTS = ("text/", "application/json", "image/svg+xml")
_FOR_EVER, _NOT_AT_ALL = "public, max-age=31536000, immutable", "no-cache"


@dataclass(frozen=True)
class Asset:
    """A file, ready to be sent; ``packed`` is its gzip, empty where that is no use."""

    kind: str
    plain: bytes
    packed: bytes


def _kind(name: str) -> str:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    kind = "text/javascript" if name.endswith((".js", ".mjs")) else kind
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _load(folder: Traversable, before: str = "") -> dict[str, Asset]:
    found: dict[str, Asset] = {}
    for entry in folder.iterdir():
        name = before + entry.name
        if entry.is_dir():
            found |= _load(entry, f"{name}/")
        else:
            data, kind = entry.read_bytes(), _kind(name)
            packed = gzip.compress(data, 6, mtime=0) if kind.startswith(_TEXTS) else b""
            found[name] = Asset(kind, data, packed if len(packed) < len(data) else b"")
    return found


class Assets:
    """All of them, by their paths below ``static``."""

    def __init__(self) -> None:
        self.files = _load(resources.files("magickbox.web") / "static")
        seen = hashlib.sha256()
        for name in sorted(self.files):
            seen.update(name.encode() + b"\0" + self.files[name].plain)
        self.version = seen.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Where a page finds a file; raises KeyError if there is none of that name."""
        assert name in self.files, name
        return f"/static/{self.version}/{name}"

    def answer(self, request: Request, version: str, name: str) -> Response:
        """A file; raises Problem 404. An old page's version gets today's file, but keeps it for one look only."""
        found = self.files.get(name)
        if found is None:
            raise Problem(404, "Not Found", "there is no such file")
        headers = {"Cache-Control": _FOR_EVER if version == self.version else _NOT_AT_ALL, "Vary": "Accept-Encoding"}
        if found.packed and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(found.packed, media_type=found.kind, headers=headers)
        return Response(found.plain, media_type=found.kind, headers=headers)


def assets_router(assets: Assets) -> APIRouter:
    """Their routes; for everybody, as the log-in page needs them."""
    router = APIRouter(include_in_schema=False)

    @router.get("/static/{version}/{name:path}")
    def static(request: Request, version: str, name: str) -> Response:
        return assets.answer(request, version, name)

    @router.get("/favicon.ico")
    def favicon(request: Request) -> Response:
        return assets.answer(request, assets.version, "icon.svg")

    return router
