"""The series of a job's INPUT or OUTPUT: their instances by header, in the order in which they are looked at."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from magickbox.decision import Candidate
from magickbox.selection import look_below
from magickbox.tagpath import TagPath, parse_tag_path

_WORDS = (
    "SeriesInstanceUID", "SeriesNumber", "Modality", "SeriesDescription", "InstanceNumber", "NumberOfFrames", "Rows",
    "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PatientName",
)  # fmt: skip
_TAGS = {name: parse_tag_path(name) for name in _WORDS}
_WANTED = frozenset(_TAGS.values())
_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_MOST_FRAMES = 1_000_000


class Kind(StrEnum):
    """What can be shown of an instance."""

    IMAGE = "image"
    DOCUMENT = "document"
    REPORT = "report"
    OTHER = "other"


@dataclass(frozen=True)
class Shown:
    """One instance; ``key`` is its SOP Instance UID, with ``~2`` and so on if the folder has it more than once.

    ``file`` is its path below the job's folder.
    """

    key: str
    sop_class: str
    number: int | None
    frames: int
    rows: int
    columns: int
    kind: Kind
    file: str


@dataclass(frozen=True)
class Series:
    """Instances with one Series Instance UID, in order."""

    uid: str
    number: int | None
    modality: str
    description: str
    patient: str
    instances: tuple[Shown, ...]

    @property
    def frames(self) -> int:
        """Frames of all its instances."""
        return sum(each.frames for each in self.instances)


@dataclass(frozen=True)
class Place:
    """INPUT or OUTPUT of a job; ``unreadable`` DICOM files have a header that cannot be read, ``other`` are none."""

    series: tuple[Series, ...] = ()
    unreadable: int = 0
    other: int = 0

    def find(self, key: str) -> Shown | None:
        """The instance with that key."""
        return next((each for series in self.series for each in series.instances if each.key == key), None)


class _Entry(NamedTuple):
    """One instance on its way into a series."""

    order: tuple[float, float, str]
    series: str
    texts: Mapping[str, str]
    shown: Shown


def read_place(job: Path, place: str) -> Place:
    """Look at every file of ``place`` (INPUT, OUTPUT); raises OSError."""
    listing = look_below(job)(place, _WANTED)
    seen: dict[str, int] = {}
    entries = [_entry(each, seen) for each in listing.files]
    groups: dict[str, list[_Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.series, []).append(entry)
    series = [_series(uid, group) for uid, group in groups.items()]
    series.sort(key=_series_order)
    return Place(tuple(series), len(listing.unreadable), listing.other)


def _series_order(series: Series) -> tuple[bool, float, str]:
    """Pictures first."""
    seen = any(each.kind is Kind.IMAGE for each in series.instances)
    return not seen, math.inf if series.number is None else series.number, series.uid


def _series(uid: str, entries: Iterable[_Entry]) -> Series:
    ordered = sorted(entries, key=lambda entry: entry.order)
    first = ordered[0].texts
    return Series(
        uid,
        _whole(first["SeriesNumber"]),
        first["Modality"],
        first["SeriesDescription"],
        first["PatientName"],
        tuple(each.shown for each in ordered),
    )


def _entry(file: Candidate, seen: dict[str, int]) -> _Entry:
    texts = {name: _text(file, tag) for name, tag in _TAGS.items()}
    count = seen[file.sop_instance] = seen.get(file.sop_instance, 0) + 1
    rows, columns = _whole(texts["Rows"]) or 0, _whole(texts["Columns"]) or 0
    number = _whole(texts["InstanceNumber"])
    shown = Shown(
        file.sop_instance if count == 1 else f"{file.sop_instance}~{count}",
        file.sop_class,
        number,
        min(max(_whole(texts["NumberOfFrames"]) or 1, 1), _MOST_FRAMES),
        rows,
        columns,
        _kind(file.sop_class, rows and columns),
        file.path,
    )
    order = (math.inf if number is None else number, _position(texts), file.path)
    return _Entry(order, texts["SeriesInstanceUID"], texts, shown)


def _kind(sop_class: str, pixels: int) -> Kind:
    if sop_class == _PDF:
        return Kind.DOCUMENT
    if sop_class.startswith(_REPORTS):
        return Kind.REPORT
    return Kind.IMAGE if pixels else Kind.OTHER


def _text(file: Candidate, tag: TagPath) -> str:
    return file.values(tag)[0].strip()


def _whole(text: str) -> int | None:
    try:
        number = int(float(text.partition("\\")[0]))
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1 << 31 else None


def _position(texts: Mapping[str, str]) -> float:
    """How far along the normal of its plane an image lies (PS3.3 C.7.6.2); 0 if the header does not say."""
    place, directions = _numbers(texts["ImagePositionPatient"], 3), _numbers(texts["ImageOrientationPatient"], 6)
    if not place or not directions:
        return 0.0
    (a, b, c), (d, e, f) = directions[:3], directions[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    along = sum(x * n for x, n in zip(place, normal, strict=True))
    return along if math.isfinite(along) else 0.0


def _numbers(text: str, count: int) -> list[float]:
    try:
        numbers = [float(each) for each in text.split("\\")]
    except ValueError:
        return []
    return numbers if len(numbers) == count else []
