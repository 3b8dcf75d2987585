"""From stored values to grey: modality LUT or rescale, VOI LUT or window, inversion, padding (PS3.3 C.11.1, C.11.2).

Only in a worker process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset

Array = Any  # a numpy array
_MOST_WINDOWS = 16
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Lookup:
    """A lookup table: the first value mapped, the bits of an entry, the entries."""

    first: int
    bits: int
    entries: Array

    def __call__(self, values: Array) -> Array:
        """Values through the table; what lies beyond an end gets the entry there."""
        at = np.clip(np.asarray(values, np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[at]


@dataclass(frozen=True)
class Window:
    """Center and width in modality units, and what the file calls it."""

    center: float
    width: float
    name: str = ""


@dataclass(frozen=True)
class Greys:
    """How the stored values of one frame become grey."""

    slope: float = 1.0
    intercept: float = 0.0
    modality: Lookup | None = None
    windows: tuple[Window, ...] = ()
    function: str = "LINEAR"
    voi: Lookup | None = None
    inverted: bool = False
    padding: tuple[float, float] | None = None
    unit: str = ""

    def values(self, stored: Array) -> Array:
        """Stored values in modality units."""
        if self.modality is not None:
            return self.modality(stored)
        return stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)

    def padded(self, stored: Array) -> Array | None:
        """Where there is padding and no picture; None if there is no such value."""
        return None if self.padding is None else (stored >= self.padding[0]) & (stored <= self.padding[1])

    def shown(self, stored: Array, window: Window | None = None) -> Array:
        """Stored values as 8-bit grey; by this window, or as the file wants them to be looked at first."""
        values = self.values(stored)
        if window is None and self.voi is not None:
            top = (1 << self.voi.bits) - 1
            grey = self.voi(np.rint(values)).astype(np.float32) * np.float32(255 / top)
        else:
            grey = self._windowed(values, window or self.first_window(stored))
        shown = np.clip(np.nan_to_num(grey) + np.float32(0.5), 0, 255).astype(np.uint8)
        shown = 255 - shown if self.inverted else shown
        hole = self.padded(stored)
        return shown if hole is None else np.where(hole, np.uint8(0), shown)

    def first_window(self, stored: Array) -> Window:
        """The file's first window, or one from the smallest to the largest value of this frame."""
        if self.windows:
            return self.windows[0]
        hole = self.padded(stored)
        seen = stored if hole is None or hole.all() else stored[~hole]
        if seen.dtype.kind == "f":
            seen = seen[np.isfinite(seen)]
        if not seen.size:
            return Window(0.5, 1.0)
        low, high = sorted(float(each) for each in self.values(np.array([seen.min(), seen.max()])))
        # The linear function goes from center - width/2 to center + width/2 - 1 (PS3.3 C.11.2.1.2.1).
        one = 1.0 if self.function == "LINEAR" else 0.0
        return Window((low + high + one) / 2, max(high - low + one, 1.0))

    def _windowed(self, values: Array, window: Window) -> Array:
        values = values.astype(np.float32, copy=False)
        center, width = np.float32(window.center), np.float32(max(window.width, 1e-6))
        if self.function == "SIGMOID":
            return 255 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))
        if self.function == "LINEAR_EXACT":
            return ((values - center) / width + np.float32(0.5)) * 255
        return ((values - (center - np.float32(0.5))) / max(width - 1, np.float32(1e-6)) + np.float32(0.5)) * 255


def greys(header: Dataset, frame: int, photometric: str) -> Greys:
    """How frame ``frame``, from 1, is to be looked at; what its functional groups say goes before the dataset."""
    rescale = _group(header, frame, "PixelValueTransformationSequence") or header
    voi = _group(header, frame, "FrameVOILUTSequence") or header
    lookup = _lookup(header, "ModalityLUTSequence")
    return Greys(
        slope=_number(rescale.get("RescaleSlope"), 1.0) or 1.0,
        intercept=_number(rescale.get("RescaleIntercept"), 0.0),
        modality=lookup,
        windows=_windows(voi),
        function=str(voi.get("VOILUTFunction") or "LINEAR"),
        voi=None if _windows(voi) else _lookup(voi, "VOILUTSequence"),
        inverted=photometric == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE",
        padding=_padding(header),
        unit=str(rescale.get("RescaleType") or "")[:_LONGEST_NAME],
    )


def _group(header: Dataset, frame: int, name: str) -> Dataset | None:
    """The item of a functional group that is for this frame, its own or the shared one (PS3.3 C.7.6.16)."""
    own, shared = header.get("PerFrameFunctionalGroupsSequence"), header.get("SharedFunctionalGroupsSequence")
    for item in (own[frame - 1] if own and len(own) >= frame else None, shared[0] if shared else None):
        if item is not None and (found := item.get(name)):
            return found[0]  # type: ignore[no-any-return]
    return None


def _number(value: object, otherwise: float) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return otherwise
    return number if np.isfinite(number) else otherwise


def _many(value: object) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _windows(voi: Dataset) -> tuple[Window, ...]:
    centers, widths = _many(voi.get("WindowCenter")), _many(voi.get("WindowWidth"))
    names = [str(each) for each in _many(voi.get("WindowCenterWidthExplanation"))]
    names += [""] * len(centers)
    found = (
        Window(_number(center, np.nan), _number(width, 0.0), name[:_LONGEST_NAME])
        for center, width, name in zip(centers, widths, names, strict=False)
    )
    return tuple(each for each in found if each.width > 0 and np.isfinite(each.center))[:_MOST_WINDOWS]


def _lookup(header: Dataset, name: str) -> Lookup | None:
    sequence = header.get(name)
    if not sequence:
        return None
    count, first, bits = (int(each) for each in sequence[0].LUTDescriptor)
    data = sequence[0].LUTData
    if isinstance(data, bytes):
        entries = np.frombuffer(data, "<u2" if len(data) >= 2 * (count or 65536) else "<u1")
    else:
        entries = np.asarray(_many(data)).astype(np.uint16)
    count = count or 65536
    if not 1 <= bits <= 16 or not entries.size:
        return None
    if entries.max() < 256 < count and bits <= 8:  # pragma: no branch
        bits = 8
    return Lookup(first, bits, entries[:count].astype(np.uint16))


def _padding(header: Dataset) -> tuple[float, float] | None:
    value = header.get("PixelPaddingValue")
    if value is None or isinstance(value, bytes):
        return None
    limit = header.get("PixelPaddingRangeLimit")
    low, high = sorted((float(value), float(value if limit is None or isinstance(limit, bytes) else limit)))
    return low, high
