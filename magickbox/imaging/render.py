"""What a worker does with one file: a picture of a frame, its values, its text, its document."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from magickbox.imaging import colour, packing
from magickbox.imaging.grey import Greys, Window, greys
from magickbox.imaging.report import report
from magickbox.imaging.source import Source
from magickbox.imaging.trouble import NoPicture

_LONGEST_DOCUMENT = 128 * 1024 * 1024
Array = Any  # a numpy array


def perform(request: Mapping[str, Any]) -> bytes:
    """The bytes that are asked for; raises NoPicture, or whatever the file makes pydicom raise."""
    path = Path(str(request["source"]))
    what = request["what"]
    if what == "report":
        return json.dumps(report(path), ensure_ascii=False).encode("utf-8", "replace")
    if what == "document":
        return _document(path)
    source = _open(path, path.stat().st_mtime_ns)
    samples, photometric = source.frame(int(request["frame"]))
    return _packed(source, samples, photometric, request) if what == "raw" else _picture(
        source, samples, photometric, request
    )  # fmt: skip


@lru_cache(maxsize=1)
def _open(path: Path, _changed: int) -> Source:
    """The file; the same as before if it is asked for again, so that a long header is read once for all its frames."""
    return Source(path)


def _picture(source: Source, samples: Array, photometric: str, request: Mapping[str, Any]) -> bytes:
    if colour.is_colour(photometric, samples):
        shown = colour.rgb(samples, source.header, photometric)
    else:
        wanted = request.get("window")
        window = Window(float(wanted[0]), float(wanted[1])) if wanted else None
        shown = _grey(samples, greys(source.header, int(request["frame"]), photometric), window)
    return packing.encode(shown, str(request["what"]), int(request.get("longest", 0)), _aspect(source))


def _grey(stored: Array, how: Greys, window: Window | None) -> Array:
    """As ``Greys.shown``; through a table where that is less work."""
    if how.voi is None and window is None:
        window = how.first_window(stored)
    if stored.dtype.kind not in "ui" or stored.dtype.itemsize > 2 or stored.size < 65536:
        return how.shown(stored, window)
    kind = np.dtype(f"{stored.dtype.kind}2")
    table = how.shown(np.arange(65536, dtype=np.uint16).view(kind), window)
    return table[stored.astype(kind, copy=False).view(np.uint16)]


def _packed(source: Source, samples: Array, photometric: str, request: Mapping[str, Any]) -> bytes:
    about: dict[str, object] = {"frames": source.frames, "aspect": _aspect(source)}
    if colour.is_colour(photometric, samples):
        return packing.pack(about, colour.rgb(samples, source.header, photometric), None)
    how = greys(source.header, int(request["frame"]), photometric)
    plain, scaling = packing.grey_samples(samples, how)
    table = packing.table_of(plain, how)
    first = how.first_window(samples)
    about |= scaling | {
        "window": [first.center, first.width],
        "windows": [[each.center, each.width, each.name] for each in how.windows],
        "function": how.function,
        "inverted": how.inverted,
        "unit": how.unit,
    }
    return packing.pack(about, plain, table)


def _aspect(source: Source) -> float:
    """Height of a pixel, its width being 1 (PS3.3 C.7.6.3.1.7, 10.7.1.3)."""
    header = source.header
    for name in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing"):
        try:
            down, across = (float(each) for each in header[name].value)
            aspect = down / across
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue
        return aspect if 0.05 < aspect < 20 else 1.0
    return 1.0


def _document(path: Path) -> bytes:
    if path.stat().st_size > _LONGEST_DOCUMENT:
        raise NoPicture("the document is too large to be shown here")
    ds = dcmread(path, specific_tags=["EncapsulatedDocument", "EncapsulatedDocumentLength"])
    content = ds.get("EncapsulatedDocument")
    if not isinstance(content, bytes) or not content:
        raise NoPicture("it has no document in it")
    length = ds.get("EncapsulatedDocumentLength")
    return content[:length] if isinstance(length, int) and 0 < length <= len(content) else content
