"""What a study consists of: its header, its series, and a key image of each, read one instance at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

UNREADABLE = (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError)
HEADER = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber"),
    *("SeriesDescription", "InstanceNumber", "Rows", "Columns", "NumberOfFrames", "SpecificCharacterSet"),
]
THUMBNAIL = 320
"""Pixels along the longer side of a key image."""


@dataclass(frozen=True)
class Member:
    """One instance of a series, without its pixels."""

    path: Path
    header: Dataset
    size: int

    @property
    def number(self) -> int:
        """Instance Number, 0 if it is none."""
        return _whole(self.header.get("InstanceNumber"))

    @property
    def is_image(self) -> bool:
        """True if it should have pixels."""
        return bool(self.header.get("Rows")) and bool(self.header.get("Columns"))


@dataclass
class Series:
    """The instances of one series, and what the report says of it."""

    members: list[Member] = field(default_factory=list)

    def text(self, keyword: str) -> str:
        """An attribute of the first instance as text."""
        return str(self.members[0].header.get(keyword) or "")

    @property
    def number(self) -> int:
        """Series Number, 0 if it is none."""
        return _whole(self.members[0].header.get("SeriesNumber"))

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(member.size for member in self.members)

    @property
    def key_member(self) -> Member | None:
        """The instance in the middle of those that are images."""
        images = sorted((m for m in self.members if m.is_image), key=lambda m: (m.number, m.path.name))
        return images[len(images) // 2] if images else None


@dataclass
class Study:
    """One study: its series in the order of their numbers."""

    series: list[Series]

    @property
    def members(self) -> Iterator[Member]:
        """Every instance."""
        return (member for series in self.series for member in series.members)

    def header(self) -> Dataset:
        """The header of its first instance, all of it but pixels."""
        return dcmread(self.series[0].members[0].path, stop_before_pixels=True)


def _whole(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        return 0


def find(folder: Path) -> tuple[list[Study], int]:
    """The studies of everything below the folder, and how many DICOM files could not be read."""
    found: dict[str, dict[str, Series]] = {}
    damaged = 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER))
            study, series = str(header.StudyInstanceUID), str(header.get("SeriesInstanceUID") or "")
        except InvalidDicomError:
            continue  # not DICOM: junk is allowed in the input
        except UNREADABLE:
            damaged += 1
            continue
        member = Member(path, header, path.stat().st_size)
        found.setdefault(study, {}).setdefault(series, Series()).members.append(member)
    return [Study(sorted(each.values(), key=lambda s: s.number)) for each in found.values()], damaged


def key_image(member: Member) -> Image.Image | None:
    """The windowed picture of an instance (of its middle frame); None if its pixels cannot be read."""
    try:
        ds = dcmread(member.path)
        frames = _whole(ds.get("NumberOfFrames")) or 1
        pixels = pixel_array(ds, index=frames // 2) if frames > 1 else pixel_array(ds)
        picture = Image.fromarray(_greys(pixels, ds) if pixels.ndim == 2 else _colours(pixels))
    except Exception:  # noqa: BLE001 - decoders raise anything; a picture less is no reason to give up a report
        return None
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return picture


def _greys(pixels: np.ndarray, ds: Dataset) -> np.ndarray:
    """Eight bits of grey, by the first window of the image or, without one, from its darkest to its brightest."""
    values = apply_modality_lut(pixels, ds)
    if "WindowWidth" in ds or "VOILUTSequence" in ds:
        values = apply_voi_lut(values, ds)
    low, high = (float(v) for v in np.percentile(values, [0.5, 99.5]))
    grey = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    return 255 - grey if ds.get("PhotometricInterpretation") == "MONOCHROME1" else grey


def _colours(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., :3].astype(np.uint8) if pixels.dtype == np.uint8 else (pixels[..., :3] >> 8).astype(np.uint8)
