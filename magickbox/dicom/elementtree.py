"""All elements of a file as lines to look at, sequences with their items, in bounded time and memory.

Reads what strangers send: nothing is allocated by a length field, nesting ends where a person stops reading.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.datadict import dictionary_description, private_dictionary_description

from magickbox.dicom.elementwalk import (
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    at_end,
    coding_inside,
    element_at,
    guess_coding,
    marked,
    pass_sequence,
)
from magickbox.dicom.forwardreader import ForwardReader, cut_off
from magickbox.dicom.header import Element, items, open_dataset, read_file_meta
from magickbox.dicom.valuetext import NotText, encodings_of, text_of_value, vr_of
from magickbox.errors import UnreadableHeader

MOST = 10_000
DEEPEST = 12
LONGEST_VALUE = 64 * 1024
LONGEST_SEQUENCE = 4 * 1024 * 1024
LONGEST_TEXT = 512
_CHARACTER_SET, _PIXELS = 0x00080005, frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})


@dataclass(frozen=True)
class ElementLine:
    """An element, or an item of a sequence (``tag`` None): how deep it stands, what it is called, and its text.

    ``text`` is None where the value is no text or too long to be shown; ``length`` is then all that is known, in bytes,
    None for an undefined one.
    """

    depth: int
    tag: int | None
    vr: str
    name: str
    text: str | None
    length: int | None


@dataclass(frozen=True)
class ElementTree:
    """The lines in the order of the file; ``note`` says why they end before the dataset does."""

    lines: tuple[ElementLine, ...]
    note: str = ""


class _Enough(Exception):
    """There are as many lines as anybody reads."""


def element_tree(path: Path, most: int = MOST) -> ElementTree:
    """The elements of a DICOM file; raises OSError, and UnreadableHeader for a file that is none."""
    lines: list[ElementLine] = []
    with path.open("rb") as stream:
        meta = read_file_meta(stream)
        said = ((0x00020010, meta.transfer_syntax), (0x00020002, meta.sop_class), (0x00020003, meta.sop_instance))
        lines += [ElementLine(0, tag, "UI", _name(tag, None), text, len(text)) for tag, text in sorted(said) if text]
        try:
            reader, coding = open_dataset(stream, meta.transfer_syntax)
            for line in _walk(reader, guess_coding(reader, coding), 0, encodings_of(b"")):
                lines.append(line)
                if len(lines) >= most:
                    raise _Enough
        except _Enough:
            return ElementTree(tuple(lines), f"only the first {most} elements are shown")
        except UnreadableHeader as exc:
            return ElementTree(tuple(lines), str(exc))
    return ElementTree(tuple(lines))


def _walk(reader: ForwardReader, coding: int, depth: int, encodings: Sequence[str]) -> Iterator[ElementLine]:
    creators: dict[int, str] = {}
    while (element := _next(reader, coding)) is not None:
        found, length = element
        if found.tag == _CHARACTER_SET and found.value:
            encodings = encodings_of(found.value)
        creator = creators.get(found.tag >> 8) if found.tag >> 16 & 1 else None
        vr = vr_of(found, creator)
        line = ElementLine(depth, found.tag, vr, _name(found.tag, creator), None, length)
        if found.tag in _PIXELS:
            yield line
            return
        if vr == "SQ" or length is None:
            yield from _sequence(found, line, encodings)
            continue
        text = _text(found, creator, encodings)
        if text is not None and found.tag >> 16 & 1 and 0x10 <= found.tag & 0xFFFF <= 0xFF:
            creators[(found.tag & 0xFFFF0000 | (found.tag & 0xFF) << 8) >> 8] = text.strip()
        yield ElementLine(depth, found.tag, vr, line.name, text, length)


def _sequence(found: Element, line: ElementLine, encodings: Sequence[str]) -> Iterator[ElementLine]:
    yield line
    if found.value is None or line.depth >= DEEPEST:
        return
    for number, content in enumerate(items(found), 1):
        yield ElementLine(line.depth + 1, None, "", f"item {number}", None, len(content))
        reader = ForwardReader(BytesIO(content))
        yield from _walk(reader, guess_coding(reader, found.coding), line.depth + 2, encodings)


def _next(reader: ForwardReader, coding: int) -> tuple[Element, int | None] | None:
    """The element that comes next and its length, None at the end; delimiters are passed over."""
    try:
        while True:
            reader.count()
            if reader.position + 12 > len(reader.buffer) and at_end(reader):
                return None
            tag, vr, length, reader.position = element_at(reader.buffer, reader.position, coding)
            if tag not in (ITEM_END, SEQUENCE_END):
                break
        name = vr.decode("latin-1")
        if tag in _PIXELS:
            return Element(tag, name, None, coding), None if length == UNDEFINED else length
        if length == UNDEFINED:
            within = coding_inside(vr, coding)
            value = marked(reader, LONGEST_SEQUENCE, lambda: pass_sequence(reader, within))
            return Element(tag, name, value, within), None
        if length <= (LONGEST_SEQUENCE if vr in (b"SQ", b"UN", b"") else LONGEST_VALUE):
            return Element(tag, name, reader.take(length), coding), length
        reader.skip(length)
        return Element(tag, name, None, coding), length
    except struct.error:
        raise cut_off() from None


def _text(found: Element, creator: str | None, encodings: Sequence[str]) -> str | None:
    try:
        text = text_of_value(found, creator, encodings)
    except (NotText, struct.error):
        return None
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def _name(tag: int, creator: str | None) -> str:
    try:
        return private_dictionary_description(tag, creator) if creator else dictionary_description(tag)
    except KeyError:
        if tag >> 16 & 1:
            return "Private Creator" if 0x10 <= tag & 0xFFFF <= 0xFF else f"Private, of {creator or 'nobody known'}"
        return "Unknown"
