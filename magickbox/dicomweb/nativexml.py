"""Reads Native DICOM XML (PS3.19 A.1) from strangers: no document type, so no entities; limited depth.

The result has the shape of the DICOM JSON Model (PS3.18 F.2), so that both are looked at in one way.
"""

from typing import Any
from xml.parsers import expat

DEEPEST = 64


class NotNativeDicom(Exception):
    """A text is no Native DICOM XML."""


class _Builder:
    """Builds the attributes of one dataset after another, with a stack of its own."""

    def __init__(self) -> None:
        self.root: dict[str, Any] | None = None
        self._datasets: list[dict[str, Any]] = []
        self._elements: list[dict[str, Any]] = []
        self._depth = 0
        self._text: list[str] | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise NotNativeDicom("nested too deeply")
        name = name.rpartition(":")[2]
        if name == "NativeDicomModel" and self._depth == 1:
            self.root = {}
            self._datasets.append(self.root)
        elif self.root is None:
            raise NotNativeDicom("its root is not NativeDicomModel")
        elif name == "DicomAttribute":
            element: dict[str, Any] = {"vr": attributes.get("vr", ""), "Value": []}
            self._datasets[-1][attributes.get("tag", "").upper()] = element
            self._elements.append(element)
        elif name == "Item" and self._elements:
            item: dict[str, Any] = {}
            self._elements[-1]["Value"].append(item)
            self._datasets.append(item)
        elif name == "Value" and self._elements:
            self._text = []

    def text(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, name: str) -> None:
        self._depth -= 1
        name = name.rpartition(":")[2]
        if name == "Value" and self._text is not None:
            self._elements[-1]["Value"].append("".join(self._text).strip())
            self._text = None
        elif name == "DicomAttribute":
            self._elements.pop()
        elif name == "Item" and len(self._datasets) > 1:
            self._datasets.pop()


def _refuse(*_: object) -> None:
    raise NotNativeDicom("a document type is not taken")


def read_native_dicom(data: bytes) -> dict[str, Any]:
    """The dataset; raises NotNativeDicom."""
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as exc:
        raise NotNativeDicom(str(exc)) from None
    if builder.root is None:
        raise NotNativeDicom("it is empty")
    return builder.root
