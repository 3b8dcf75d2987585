"""Where the elements of a dataset stand in its file, so that what need not change can be copied as it is."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from magickbox.dicom.elementwalk import (
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    at_end,
    coding_inside,
    element_at,
    guess_coding,
    pass_sequence,
)
from magickbox.dicom.forwardreader import ForwardReader, cut_off
from magickbox.errors import UnreadableHeader


@dataclass(frozen=True, slots=True)
class Placed:
    """An element of the top level: its tag, VR (empty if implicit), length field, and where in the file it stands."""

    tag: int
    vr: bytes
    length: int
    start: int
    value: int
    end: int

    @property
    def is_open(self) -> bool:
        """True if its length is undefined: a sequence, or encapsulated pixel data."""
        return self.length == UNDEFINED


def top_level(file: BinaryIO, offset: int, coding: int) -> tuple[list[Placed], int]:
    """The elements of the dataset at ``offset`` in their order, and how they are really coded; no value is read.

    Raises UnreadableHeader if the dataset is damaged, ends inside an element, or has too many of them.
    """
    file.seek(offset)
    reader = ForwardReader(file)
    found: list[Placed] = []
    try:
        coding = guess_coding(reader, coding)
        while True:
            reader.count()
            if reader.position + 12 > len(reader.buffer) and at_end(reader):
                return found, coding
            start = reader.offset
            tag, vr, length, reader.position = element_at(reader.buffer, reader.position, coding)
            value = reader.offset
            if length == UNDEFINED:
                pass_sequence(reader, coding_inside(vr, coding))
            else:
                reader.skip(length)
            if tag not in (ITEM_END, SEQUENCE_END):
                found.append(Placed(tag, vr, length, offset + start, offset + value, offset + reader.offset))
    except struct.error:
        raise cut_off() from None


def read_value(file: BinaryIO, placed: Placed, longest: int) -> bytes:
    """The value of an element; raises UnreadableHeader if it is longer than ``longest`` bytes or not there."""
    if placed.is_open or placed.length > longest:
        raise UnreadableHeader(f"the value of ({placed.tag >> 16:04X},{placed.tag & 0xFFFF:04X}) is too long")
    file.seek(placed.value)
    return file.read(placed.length)
