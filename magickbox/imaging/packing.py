"""A frame as bytes: PNG, JPEG, or its values with what a viewer needs to window them itself. Only in a worker process.

The packed form, gzipped: ``MBF1``, the length of a JSON object (32 bits, little endian), that object filled up with
spaces to a multiple of 8 bytes, the samples row by row (little endian), and, if ``table`` is true, 65536 bytes: the
grey of each stored value, at the value itself or at the value + 65536 if it is negative.
"""

import gzip
import json
import struct
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from magickbox.imaging.grey import Greys

MAGIC = b"MBF1"
_QUICK = 1  # levels of compression: a picture that comes soon is worth more than a small one
_TABLE = 65536
Array = Any  # a numpy array


def encode(shown: Array, kind: str, longest: int, aspect: float) -> bytes:
    """An 8-bit picture as PNG or JPEG; ``longest`` bounds its larger side, 0: as it is."""
    image = Image.fromarray(np.ascontiguousarray(shown))
    if longest:
        width, height = image.width, image.height * aspect
        scale = min(1.0, longest / max(width, height))
        image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR)
    out = BytesIO()
    if kind == "jpeg":
        image.save(out, "JPEG", quality=82)
    else:
        image.save(out, "PNG", compress_level=_QUICK)
    return out.getvalue()


def pack(about: dict[str, object], samples: Array, table: Array | None) -> bytes:
    """The packed form; ``about`` is the JSON object as far as it is not known from the samples."""
    kind = "rgb" if samples.ndim == 3 else f"{samples.dtype.kind}{samples.dtype.itemsize}"
    said = {**about, "rows": samples.shape[0], "columns": samples.shape[1], "samples": kind, "table": table is not None}
    text = json.dumps(said).encode()
    text += b" " * (-(len(MAGIC) + 4 + len(text)) % 8)
    pieces = [MAGIC, struct.pack("<I", len(text)), text, samples.tobytes()]
    if table is not None:
        pieces += [table.tobytes()]
    return gzip.compress(b"".join(pieces), _QUICK, mtime=0)


def grey_samples(stored: Array, greys: Greys) -> tuple[Array, dict[str, object]]:
    """Values of at most 16 bits, and how they are scaled: value * slope + intercept is in modality units."""
    if greys.modality is None and stored.dtype.kind in "ui" and stored.dtype.itemsize <= 2:
        kind = "<u1" if stored.dtype == np.uint8 else "<i2" if stored.dtype.kind == "i" else "<u2"
        padding = None if greys.padding is None else list(greys.padding)
        return stored.astype(kind, copy=False), _scaling(greys.slope, greys.intercept, padding)
    values = np.nan_to_num(greys.values(stored).astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if greys.modality is not None:
        return values.astype("<u2"), _scaling(1.0, 0.0, None)
    step = (high - low) / 65535 or 1.0
    return np.rint((values - low) / step).astype("<u2"), _scaling(step, low, None)


def _scaling(slope: float, intercept: float, padding: list[float] | None) -> dict[str, object]:
    return {"slope": slope, "intercept": intercept, "padding": padding}


def table_of(samples: Array, greys: Greys) -> Array | None:
    """The grey of every stored value where no window says it: a VOI LUT; None otherwise."""
    if greys.voi is None or greys.modality is not None:
        return None
    signed = samples.dtype.kind == "i"
    return greys.shown(np.arange(_TABLE, dtype=np.uint16).view(np.int16 if signed else np.uint16))
