"""The content tree of a structured report as lines of text (PS3.3 C.17.3). Only in a worker process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from magickbox.imaging.trouble import NoPicture

MOST_LINES = 5000
_DEEPEST = 40
_LONGEST = 4000
_PLAIN = {
    "TEXT": "TextValue",
    "PNAME": "PersonName",
    "DATE": "Date",
    "TIME": "Time",
    "DATETIME": "DateTime",
    "UIDREF": "UID",
}


def report(path: Path) -> list[dict[str, Any]]:
    """Each item: how deep it stands, its kind, its name, its value; raises NoPicture if there is no content."""
    ds = dcmread(path, stop_before_pixels=True)
    if "ContentSequence" not in ds and "ConceptNameCodeSequence" not in ds:
        raise NoPicture("the report has no content")
    lines: list[dict[str, Any]] = []
    for depth, item in _walk(ds):
        if len(lines) == MOST_LINES:
            lines.append(_line(0, "", "", f"there is more than the {MOST_LINES} items shown here"))
            break
        kind = str(item.get("ValueType") or "")
        lines.append(_line(depth, kind, _code(item, "ConceptNameCodeSequence"), _value(item, kind)))
    return lines


def _walk(top: Dataset) -> Iterator[tuple[int, Dataset]]:
    ahead = [(0, top)]
    while ahead:
        depth, item = ahead.pop()
        yield depth, item
        inner = item.get("ContentSequence") or ()
        if depth < _DEEPEST:
            ahead += [(depth + 1, each) for each in reversed(list(inner))]


def _line(depth: int, kind: str, name: str, value: str) -> dict[str, Any]:
    return {"depth": depth, "kind": kind, "name": name[:_LONGEST], "value": value[:_LONGEST]}


def _value(item: Dataset, kind: str) -> str:
    if kind in _PLAIN:
        return str(item.get(_PLAIN[kind]) or "")
    if kind == "CODE":
        return _code(item, "ConceptCodeSequence")
    if kind == "NUM":
        measured = item.get("MeasuredValueSequence")
        if not measured:
            return "no value"
        return f"{measured[0].get('NumericValue', '')} {_code(measured[0], 'MeasurementUnitsCodeSequence')}".strip()
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        referred = item.get("ReferencedSOPSequence")
        return str(referred[0].get("ReferencedSOPInstanceUID", "")) if referred else ""
    if kind in ("SCOORD", "SCOORD3D"):
        return str(item.get("GraphicType") or "")
    return ""


def _code(item: Dataset, name: str) -> str:
    sequence = item.get(name)
    return str(sequence[0].get("CodeMeaning") or sequence[0].get("CodeValue") or "") if sequence else ""
