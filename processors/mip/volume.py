"""Which CT and MR instances of a folder form volumes, judged from the headers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread, uid
from pydicom.errors import InvalidDicomError

Vector = np.ndarray
"""Three patient coordinates in mm: to the left, to the back, to the head (PS3.3 C.7.6.2.1.1)."""

SINGLE_FRAME = (uid.CTImageStorage, uid.MRImageStorage)
MULTI_FRAME = (
    uid.EnhancedCTImageStorage,
    uid.EnhancedMRImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
)
UNREADABLE = (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError)
HEADER = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber"),
    *("ImageType", "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored"),
    *("BitsAllocated", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "InstanceNumber", "EchoNumbers"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "SliceThickness"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "LossyImageCompression"),
]
SAME_PLACE = 0.01
"""Slices closer together than this many mm are at one position."""


@dataclass(frozen=True)
class Slice:
    """What must be known of one instance before its pixels are read."""

    path: Path
    header: Dataset
    transfer_syntax: uid.UID

    def number(self, keyword: str, default: float = 0.0) -> float:
        """A numeric attribute, the default if it is absent or empty."""
        value = self.header.get(keyword)
        return default if value is None or value == "" else float(value)

    def numbers(self, keyword: str, count: int) -> Vector | None:
        """A numeric attribute of so many finite values, None if it is not that."""
        value = self.header.get(keyword)
        try:
            array = np.array([float(v) for v in value or []])
        except (TypeError, ValueError):
            return None
        return array if array.shape == (count,) and bool(np.isfinite(array).all()) else None

    @property
    def image_type(self) -> tuple[str, ...]:
        value = self.header.get("ImageType") or ()
        return (value,) if isinstance(value, str) else tuple(str(v) for v in value)

    @property
    def pixel_format(self) -> tuple[object, ...]:
        """Slices can be compared pixel by pixel only when these agree."""
        keywords = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
        return tuple(self.header.get(k) for k in (*keywords, "PhotometricInterpretation", "FrameOfReferenceUID"))


@dataclass(frozen=True)
class Stack:
    """Parallel slices, one for each position, sorted along their normal."""

    slices: tuple[Slice, ...]
    across: Vector  # unit vector along a row: column index grows
    down: Vector  # unit vector along a column: row index grows
    normal: Vector
    spacing: tuple[float, float]  # mm between rows, mm between columns (as PixelSpacing)
    distances: Vector  # mm along the normal, ascending, one for each slice
    corners: Vector  # (n, 2) mm: first pixel of each slice along down and across
    received: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unfit:
    """Why a series is not projected; `expected` if nobody would expect a projection of it."""

    reason: str
    expected: bool = False


@dataclass
class Found:
    """What a folder holds: slices of each CT and MR series, and how many objects of other kinds."""

    series: dict[str, list[Slice]] = field(default_factory=lambda: defaultdict(list))
    others: int = 0
    unreadable: int = 0


def find(folder: Path) -> Found:
    """Read the headers of everything below the folder; only what is needed of them is kept."""
    found = Found()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER))
            header.decode()
            syntax = header.file_meta.TransferSyntaxUID
        except InvalidDicomError:
            continue  # not DICOM: junk is allowed in the input
        except UNREADABLE:
            found.unreadable += 1
            continue
        if header.get("SOPClassUID") in (*SINGLE_FRAME, *MULTI_FRAME):
            found.series[str(header.get("SeriesInstanceUID", ""))].append(Slice(path, header, syntax))
        else:
            found.others += 1
    return found


def build(instances: Sequence[Slice]) -> Stack | Unfit:
    """Make a stack of the instances of one series, or say why that cannot be."""
    slices = [s for s in instances if "LOCALIZER" not in s.image_type]
    problem = kind_problem(slices)
    if problem:
        return problem
    first = slices[0]
    orientation, spacing = first.numbers("ImageOrientationPatient", 6), first.numbers("PixelSpacing", 2)
    if orientation is None or spacing is None or any(s.numbers("ImagePositionPatient", 3) is None for s in slices):
        return Unfit("position, orientation or pixel spacing is missing")
    if min(spacing) <= 0 or not orthogonal(orientation):
        return Unfit("orientation or pixel spacing makes no sense")
    if any(differ(s.numbers("ImageOrientationPatient", 6), orientation, 1e-3) for s in slices):
        return Unfit("slices are not parallel", expected=True)
    if any(differ(s.numbers("PixelSpacing", 2), spacing, 1e-4) for s in slices):
        return Unfit("pixel spacing differs between slices")
    across = orientation[:3] / np.linalg.norm(orientation[:3])
    normal = np.cross(across, orientation[3:])
    normal /= np.linalg.norm(normal)
    axes = np.array([normal, np.cross(normal, across), across])
    chosen = one_for_each_position(slices, normal)
    if len(chosen) < 2:
        return Unfit("one slice position only", expected=True)
    if len({s.pixel_format for s in chosen}) > 1:
        return Unfit("matrix, pixel format or Frame of Reference differs between slices")
    places = np.array([s.numbers("ImagePositionPatient", 3) for s in chosen]) @ axes.T
    stack = Stack(
        slices=tuple(chosen),
        across=across,
        down=axes[1],
        normal=normal,
        spacing=(float(spacing[0]), float(spacing[1])),
        distances=places[:, 0],
        corners=places[:, 1:],
        received=len(slices),
    )
    return scattered(stack) or with_notes(stack, len(instances) - len(slices))


def kind_problem(slices: Sequence[Slice]) -> Unfit | None:
    """What the kind of the images alone says against a projection."""
    if not slices:
        return Unfit("localizer", expected=True)
    if any(s.header.SOPClassUID in MULTI_FRAME or s.number("NumberOfFrames", 1) > 1 for s in slices):
        return Unfit("multi-frame images are not supported")
    kinds = {word for s in slices for word in s.image_type}
    if kinds & {"PROJECTION IMAGE", "MIP"}:
        return Unfit("already a projection", expected=True)
    if "MOSAIC" in kinds:
        return Unfit("mosaic images (many slices in one picture) are not supported")
    photometric = {str(s.header.get("PhotometricInterpretation")) for s in slices}
    if not photometric <= {"MONOCHROME1", "MONOCHROME2"}:
        return Unfit("colour images", expected=True)
    if len(slices) == 1:
        return Unfit("one slice only", expected=True)
    return None


def orthogonal(orientation: Vector) -> bool:
    """Both directions must be unit vectors at a right angle (PS3.3 C.7.6.2.1.1)."""
    pair = orientation.reshape(2, 3)
    return bool(np.allclose(pair @ pair.T, np.eye(2), atol=1e-2))


def differ(value: Vector | None, other: Vector, tolerance: float) -> bool:
    return value is None or bool(np.abs(value - other).max() > tolerance)


def one_for_each_position(slices: Sequence[Slice], normal: Vector) -> list[Slice]:
    """Sort along the normal; of several instances at one position keep the first in time, of the first's kind."""
    start = min(slices, key=lambda s: s.number("InstanceNumber"))

    def order(s: Slice) -> tuple[object, ...]:
        same_kind = s.image_type == start.image_type
        same_echo = s.header.get("EchoNumbers") == start.header.get("EchoNumbers")
        times = ("TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "InstanceNumber")
        return (not same_kind, not same_echo, *(s.number(k) for k in times), str(s.path))

    placed = sorted(
        ((float(np.dot(s.numbers("ImagePositionPatient", 3), normal)), s) for s in slices), key=itemgetter(0)
    )
    positions: list[tuple[float, list[Slice]]] = []
    for distance, s in placed:
        if positions and distance - positions[-1][0] < SAME_PLACE:
            positions[-1][1].append(s)
        else:
            positions.append((distance, [s]))
    return [min(group, key=order) for _, group in positions]


def step(stack: Stack) -> float:
    """The usual distance between neighbouring slices in mm."""
    return float(np.median(np.diff(stack.distances)))


def scattered(stack: Stack) -> Unfit | None:
    """Refuse stacks whose picture would be mostly empty (two blocks far apart, positions that make no sense)."""
    rows = (stack.distances[-1] - stack.distances[0]) / step(stack)
    wander = np.ptp(stack.corners, axis=0) / np.array(stack.spacing)
    size = np.array([stack.slices[0].header.Rows, stack.slices[0].header.Columns])
    if rows > 4 * len(stack.slices) + 4 or bool((wander > 4 * size).any()):
        return Unfit("slice positions are too scattered for one volume")
    return None


def with_notes(stack: Stack, localizers: int) -> Stack:
    """Add what a reader of the projections should know."""
    notes = []
    if localizers:
        notes.append(f"{localizers} localizer images left out")
    if stack.received > len(stack.slices):
        notes.append(f"{stack.received} images at {len(stack.slices)} positions, the first of each position used")
    gaps = np.diff(stack.distances)
    if np.abs(gaps - step(stack)).max() > max(0.02 * step(stack), SAME_PLACE):
        notes.append(
            f"slice distance uneven ({gaps.min():.4g} to {gaps.max():.4g} mm), evened out to {step(stack):.4g} mm"
        )
    shift = stack.corners[-1] - stack.corners[0]
    if np.abs(np.ptp(stack.corners, axis=0) / np.array(stack.spacing)).max() > 0.5:
        angle = np.degrees(np.arctan2(np.linalg.norm(shift), stack.distances[-1] - stack.distances[0]))
        notes.append(f"slices are displaced sideways (tilt {angle:.1f} degrees), set straight to the nearest pixel")
    return replace(stack, notes=tuple(notes))
