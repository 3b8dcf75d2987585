"""The text of an element's raw value: decoded by VR and Specific Character Set (PS3.3 C.12.1.1.2), padding stripped."""

import re
import struct
from collections.abc import Callable, Sequence

from pydicom.charset import CODES_TO_ENCODINGS, default_encoding, handled_encodings, python_encoding
from pydicom.datadict import dictionary_VR, private_dictionary_VR

from magickbox.dicom.elementwalk import BIG_ENDIAN
from magickbox.dicom.header import Element, items
from magickbox.errors import UnreadableHeader

LONGEST = 64 * 1024

_DECODED = frozenset(["SH", "LO", "ST", "LT", "UT", "UC", "PN"])
_WHOLE = frozenset(["ST", "LT", "UT", "UR"])  # one value, in which leading blanks count
_ASCII = frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"])
_NUMBERS: dict[str, tuple[str, Callable[[float], str]]] = {
    "US": ("H", str),
    "SS": ("h", str),
    "UL": ("L", str),
    "SL": ("l", str),
    "UV": ("Q", str),
    "SV": ("q", str),
    "FL": ("f", "{:.7g}".format),
    "FD": ("d", "{:.15g}".format),
}
_FRAGMENT = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*", re.DOTALL)
_DELIMITER = re.compile(rb"[\r\n\t\f\\^=]")


class NotText(Exception):
    """A value that no pattern can look at; the text says why, without the value."""


def encodings_of(value: bytes) -> tuple[str, ...]:
    """Python's names for the character sets that a Specific Character Set (0008,0005) lists; unknown are Latin-1."""
    terms = value.decode("latin-1").strip("\0 ").split("\\")
    return tuple(python_encoding.get(_regular(term), default_encoding) for term in terms)


def text_of_value(element: Element, creator: str | None, encodings: Sequence[str]) -> str:
    """The whole text of an element, its values joined by backslashes; of a sequence the number of its items.

    Raises NotText for bulk data, for what is longer than LONGEST, and for bytes of unknown meaning.
    """
    vr = vr_of(element, creator)
    if vr == "SQ":
        return _count(element)
    value = element.value
    if value is None or len(value) > LONGEST:
        raise NotText(f"longer than {LONGEST} bytes")
    if vr in _NUMBERS:
        return _numbers(value, vr, ">" if element.coding == BIG_ENDIAN else "<")
    if vr == "AT":
        pairs = struct.iter_unpack((">" if element.coding == BIG_ENDIAN else "<") + "HH", value[: len(value) // 4 * 4])
        return "\\".join(f"{group:04X},{number:04X}" for group, number in pairs)
    return _letters(value, vr, encodings)


def vr_of(element: Element, creator: str | None) -> str:
    """The VR of an element: the file's, or where that says nothing the dictionary's; ``UN`` if neither knows."""
    if element.vr not in ("", "UN"):
        return element.vr
    try:
        found = private_dictionary_VR(element.tag, creator) if creator else dictionary_VR(element.tag)
    except KeyError:
        return "UN"
    return found.split(" or ")[0]


def _regular(term: str) -> str:
    """A character set's defined term without the misspellings that are common: ``ISO-IR 100``, ``ISO IR 100``."""
    return re.sub(r"^ISO[ _-]?IR[ _-]?", "ISO_IR ", re.sub(r"^ISO[ _-]2022[ _-]IR[ _-]", "ISO 2022 IR ", term.strip()))


def _count(element: Element) -> str:
    if element.value is None:
        raise NotText("a sequence that is too long to be looked at")
    try:
        return str(sum(1 for _ in items(element)))
    except UnreadableHeader as exc:
        raise NotText(str(exc)) from None


def _numbers(value: bytes, vr: str, order: str) -> str:
    code, write = _NUMBERS[vr]
    size = struct.calcsize(order + code)
    return "\\".join(
        write(number) for (number,) in struct.iter_unpack(order + code, value[: len(value) // size * size])
    )


def _letters(value: bytes, vr: str, encodings: Sequence[str]) -> str:
    if vr in _DECODED:
        text = decode(value, encodings)
    elif vr in _ASCII:
        text = value.decode("latin-1")
    else:
        text = decode(value, encodings).strip("\0 ")
        if not all(letter.isprintable() or letter in "\r\n\t\f" for letter in text) or "\ufffd" in text:
            raise NotText(f"VR {vr}: not text")
    if vr in _WHOLE:
        return text.rstrip("\0 ")
    return "\\".join(part.strip("\0 ") for part in text.split("\\"))


def decode(value: bytes, encodings: Sequence[str]) -> str:
    """Decode by the first character set, or by those that escape sequences name (PS3.5 6.1.2.5); never fails."""
    if b"\x1b" not in value:
        return value.decode(encodings[0], "replace")
    return "".join(_decode_fragment(fragment, encodings[0]) for fragment in _FRAGMENT.findall(value))


def _decode_fragment(fragment: bytes, first: str) -> str:
    escape = fragment[: 4 if fragment.startswith((b"\x1b$(", b"\x1b$)")) else 3]
    encoding = CODES_TO_ENCODINGS.get(escape)
    if encoding is None:
        return fragment.decode(first, "replace")
    if encoding in handled_encodings:
        return fragment.decode(encoding, "replace")
    body = fragment[len(escape) :]
    delimiter = _DELIMITER.search(body)  # after it the first character set holds again
    end = delimiter.start() if delimiter else len(body)
    return body[:end].decode(encoding, "replace") + body[end:].decode(first, "replace")
