"""Reads the header of a DICOM dataset element by element, as far as it must and no farther.

It stands on the receive path and in front of routing, so what it reads is what strangers send: it walks nested
sequences without recursion, never allocates by a length field, gives up after so many elements, and says
UnreadableHeader where it cannot go on. pydicom is its oracle in the tests.
"""

import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from magickbox.dicom.elementwalk import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    IN_ITEM,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    at_end,
    coding_inside,
    element_at,
    guess_coding,
    item_header,
    marked,
    pass_nested,
    pass_plain,
    pass_sequence,
)
from magickbox.dicom.forwardreader import ForwardReader, Inflated, cut_off
from magickbox.errors import UnreadableHeader

MAX_VALUE = 64 * 1024

SOP_CLASS, SOP_INSTANCE, MODALITY = 0x00080016, 0x00080018, 0x00080060
STUDY, SERIES = 0x0020000D, 0x0020000E

IDENTITY = (SOP_CLASS, SOP_INSTANCE, MODALITY, STUDY, SERIES)  # in the order of Identity's fields
_IDENTITY = frozenset(IDENTITY)
_META_LENGTH = 0x00020000
_META = frozenset({_META_LENGTH, 0x00020002, 0x00020003, 0x00020010})

_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
_CODINGS = {
    "": IMPLICIT,
    "1.2.840.10008.1.2": IMPLICIT,
    "1.2.840.113619.5.2": IMPLICIT,  # GE's private one: big endian in the pixels only
    "1.2.840.10008.1.2.2": BIG_ENDIAN,
}


@dataclass(frozen=True, slots=True)
class Element:
    """One element that was wanted: its VR (empty if implicit) and raw value, None if it is longer than allowed.

    Of a sequence the value is its items; ``coding`` is how the elements in there are coded.
    """

    tag: int
    vr: str
    value: bytes | None
    coding: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one instance from another and where it belongs; an absent element is the empty text."""

    sop_class: str
    sop_instance: str
    modality: str
    study: str
    series: str


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the File Meta Information of a Part 10 file says, and where its dataset begins."""

    transfer_syntax: str
    sop_class: str
    sop_instance: str
    offset: int


def identify(stream: BinaryIO, transfer_syntax: str) -> Identity:
    """Read who an instance is from the dataset that begins at the stream's position; stops at (0020,000E).

    Raises UnreadableHeader, with a reason without patient data, if the header cannot be read up to there.
    """
    found = scan(stream, transfer_syntax, _IDENTITY, SERIES)
    return Identity(*(text_of(found.get(tag)) for tag in IDENTITY))


def read_file_meta(stream: BinaryIO) -> FileMeta:
    """Read the File Meta Information (PS3.10 7.1) from the stream's start and leave the stream at the dataset.

    The group length may be absent or wrong. Raises UnreadableHeader if the DICM prefix is missing.
    """
    stream.seek(0)
    reader = ForwardReader(stream)
    if reader.buffer[128:132] != b"DICM":
        raise UnreadableHeader("no DICM prefix: this is not a DICOM file")
    reader.position = 132
    try:
        found = _read_meta(reader)
    except struct.error:
        raise cut_off() from None
    stream.seek(reader.offset)
    syntax, sop_class, sop_instance = (text_of(found.get(tag)) for tag in (0x00020010, 0x00020002, 0x00020003))
    return FileMeta(syntax, sop_class, sop_instance, reader.offset)


def scan(
    stream: BinaryIO, transfer_syntax: str, wanted: frozenset[int], last: int, longest: int = MAX_VALUE
) -> Mapping[int, Element]:
    """The wanted elements of the dataset at the stream's position, up to and including the tag ``last``.

    What is not wanted is passed over. Scanning ends at the first top-level tag beyond ``last``. A wanted value of more
    than ``longest`` bytes is found with the value None. Raises UnreadableHeader.
    """
    reader, coding = open_dataset(stream, transfer_syntax)
    return scan_elements(reader, coding, wanted, last, longest)


def open_dataset(stream: BinaryIO, transfer_syntax: str) -> tuple[ForwardReader, int]:
    """A reader on the dataset at the stream's position, and how its elements should be coded."""
    reader = ForwardReader(Inflated(stream) if is_deflated(transfer_syntax) else stream)
    return reader, coding_of(transfer_syntax)


def is_deflated(transfer_syntax: str) -> bool:
    """True if datasets of that transfer syntax are packed as a whole (PS3.5 A.5)."""
    return transfer_syntax in _DEFLATED


def coding_of(transfer_syntax: str) -> int:
    """How the elements of that transfer syntax should be coded."""
    return _CODINGS.get(transfer_syntax, EXPLICIT)


def scan_elements(
    reader: ForwardReader,
    coding: int,
    wanted: frozenset[int],
    last: int,
    longest: int = MAX_VALUE,
    into: dict[int, Element] | None = None,
) -> Mapping[int, Element]:
    """As ``scan``, for elements that are coded as said: a whole dataset, or the content of one item.

    ``into``, if given, receives what is found, so that it is there even if the end cannot be read.
    """
    found: dict[int, Element] = {} if into is None else into
    try:
        coding = guess_coding(reader, coding)
        while True:
            if coding == EXPLICIT:
                pass_plain(reader, wanted, last)
            reader.count()
            if reader.position + 12 > len(reader.buffer) and at_end(reader):
                return found
            tag, vr, length, reader.position = element_at(reader.buffer, reader.position, coding)
            if tag > last:
                if tag not in (ITEM_END, SEQUENCE_END):
                    return found
            elif tag in wanted:
                found[tag] = _take(reader, tag, vr, length, coding, longest)
                if tag == last:
                    return found
            elif length == UNDEFINED:
                pass_sequence(reader, coding_inside(vr, coding))
            else:
                reader.skip(length)
    except struct.error:
        raise cut_off() from None


def items(sequence: Element) -> Iterator[bytes]:
    """The content of each item of a found sequence, to be read with ``scan_elements``; raises UnreadableHeader."""
    reader = ForwardReader(BytesIO(sequence.value or b""))
    while reader.position + 12 <= len(reader.buffer) or not at_end(reader):
        tag, length = item_header(reader, sequence.coding)
        if tag == SEQUENCE_END:
            return
        if tag != ITEM:
            raise UnreadableHeader("a sequence holds something that is not an item")
        yield reader.take(length) if length != UNDEFINED else _open_item(reader, sequence.coding)


def text_of(element: Element | None) -> str:
    """A short value as text without its padding; absent is empty. Raises UnreadableHeader if it was too long."""
    if element is None:
        return ""
    if element.value is None:
        raise UnreadableHeader(f"the value of {tag_name(element.tag)} is longer than {MAX_VALUE} bytes")
    return element.value.decode("latin-1").strip("\0 ")


def tag_name(tag: int) -> str:
    """A tag as the standard writes it: ``(0020,000E)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _take(reader: ForwardReader, tag: int, vr: bytes, length: int, coding: int, longest: int) -> Element:
    """The wanted element whose value comes next."""
    name = vr.decode("latin-1")
    if length == UNDEFINED:
        within = coding_inside(vr, coding)
        return Element(tag, name, marked(reader, longest, lambda: pass_sequence(reader, within)), within)
    if length <= longest:
        return Element(tag, name, reader.take(length), coding)
    reader.skip(length)
    return Element(tag, name, None, coding)


def _open_item(reader: ForwardReader, coding: int) -> bytes:
    """The content of an item of undefined length, its delimiter included."""
    stack = [coding, IN_ITEM + guess_coding(reader, coding)]
    return marked(reader, sys.maxsize, lambda: pass_nested(reader, stack, 1)) or b""


def _read_meta(reader: ForwardReader) -> dict[int, Element]:
    """The wanted elements of group 0002; leaves the reader behind the group."""
    found: dict[int, Element] = {}
    coding, end = guess_coding(reader, EXPLICIT), -1
    while not at_end(reader) and reader.buffer.startswith(b"\2\0", reader.position):
        if reader.offset == end and guess_coding(reader, IMPLICIT) != EXPLICIT:
            break  # a deflated dataset may begin like group 0002, but hardly with a VR
        tag, vr, length, reader.position = element_at(reader.buffer, reader.position, coding)
        if tag in _META:
            found[tag] = _take(reader, tag, vr, length, coding, MAX_VALUE)
        else:
            reader.skip(length)
        if tag == _META_LENGTH and length == 4:
            end = reader.offset + int.from_bytes(found[tag].value or b"", "little")
    return found
