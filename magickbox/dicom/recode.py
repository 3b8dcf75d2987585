"""Rewrites data elements in another coding: with or without VRs, big endian to little endian (PS3.5 7.1, 7.3).

Values stay what they are, private ones and wrong ones too. Sequences and items get undefined lengths, so that nothing
has to be held; nesting is followed with a stack of its own. Group lengths (gggg,0000) are left out, being wrong then.
"""

import struct
from array import array
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from magickbox.dicom.elementwalk import (
    BIG_ENDIAN,
    ITEM,
    ITEM_END,
    LONG,
    SEQUENCE_END,
    SHORT,
    UNDEFINED,
    coding_inside,
    element_at,
    guess_coding,
    item_header,
)
from magickbox.dicom.forwardreader import ForwardReader, cut_off
from magickbox.dicom.toplevel import Placed
from magickbox.dicom.vrs import Vrs
from magickbox.errors import UnreadableHeader

PIECE = 1024 * 1024  # a multiple of every unit below
_UNITS = {
    **dict.fromkeys((b"US", b"SS", b"OW", b"AT"), "H"),
    **dict.fromkeys((b"UL", b"SL", b"FL", b"OF", b"OL"), "I"),
    **dict.fromkeys((b"FD", b"OD", b"SV", b"UV", b"OV"), "Q"),
}
_PIXEL_DATA = 0x7FE00010


class Sink(Protocol):
    """Where bytes go: anything with ``write``."""

    def write(self, data: bytes, /) -> object:
        """Take all of these bytes."""
        ...


@dataclass(slots=True)
class _Level:
    """An open sequence, or an open item: how it is coded, where it ends (None: at its delimiter), and its VRs."""

    coding: int
    end: int | None
    vrs: Vrs
    is_item: bool


def header(tag: int, vr: bytes, length: int, *, explicit: bool) -> bytes:
    """The bytes before a value in little endian; a VR that cannot say such a length becomes UN (PS3.5 6.2.2)."""
    group, element = tag >> 16, tag & 0xFFFF
    if not explicit:
        return struct.pack("<HHI", group, element, length)
    if vr in SHORT and length <= 0xFFFF:
        return struct.pack("<HH2sH", group, element, vr, length)
    return struct.pack("<HH2sHI", group, element, vr if vr in LONG else b"UN", 0, length)


def item_mark(tag: int, length: int = 0) -> bytes:
    """An item's beginning, or a delimiter."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


class Recoder:
    """Rewrites elements of one dataset, which must come in their order."""

    def __init__(self, file: BinaryIO, coding: int, out: Sink, *, explicit: bool) -> None:
        self._file, self._out = file, out
        self._explicit = explicit
        self._top = _Level(coding, None, Vrs(), is_item=True)

    def element(self, placed: Placed) -> None:
        """Write one element of the top level; raises UnreadableHeader."""
        self._file.seek(placed.start)
        reader = ForwardReader(self._file)
        stack: list[_Level] = []
        try:
            self._element(reader, self._top, stack)
            while stack:
                reader.count()
                if reader.position + 12 > len(reader.buffer):
                    reader.fill(12)
                self._step(reader, stack)
        except struct.error:
            raise cut_off() from None

    def _step(self, reader: ForwardReader, stack: list[_Level]) -> None:
        level = stack[-1]
        if level.end is not None and reader.offset >= level.end:
            self._close(stack)
        elif level.is_item:
            self._element(reader, level, stack)
        else:
            self._item(reader, level, stack)

    def _close(self, stack: list[_Level]) -> None:
        self._out.write(item_mark(ITEM_END if stack.pop().is_item else SEQUENCE_END))

    def _item(self, reader: ForwardReader, level: _Level, stack: list[_Level]) -> None:
        tag, length = item_header(reader, level.coding)
        if tag == SEQUENCE_END:
            self._close(stack)
        elif tag == ITEM:
            end = None if length == UNDEFINED else reader.offset + length
            empty = end == reader.offset
            coding = level.coding if empty else guess_coding(reader, level.coding)
            self._out.write(item_mark(ITEM, UNDEFINED))
            stack.append(_Level(coding, end, level.vrs.inside(), is_item=True))
        elif tag != ITEM_END:
            raise UnreadableHeader("a sequence holds something that is not an item")

    def _element(self, reader: ForwardReader, level: _Level, stack: list[_Level]) -> None:
        start = reader.position
        tag, vr, length, reader.position = element_at(reader.buffer, start, level.coding)
        if tag in (ITEM, SEQUENCE_END) and stack:  # a missing item delimiter is forgiven
            reader.position = start
            self._close(stack)
        elif tag == ITEM_END and stack:
            self._close(stack)
        elif tag & 0xFFFF == 0 and length != UNDEFINED:
            reader.skip(length)
        elif length == UNDEFINED or (vr or level.vrs.of(tag)) == b"SQ":
            self._sequence(reader, level, stack, tag, vr, length)
        else:
            self._value(reader, level, tag, vr or level.vrs.of(tag), length)

    def _sequence(
        self, reader: ForwardReader, level: _Level, stack: list[_Level], tag: int, vr: bytes, length: int
    ) -> None:
        if tag == _PIXEL_DATA:
            raise UnreadableHeader("it holds compressed pixel data where none can be")
        self._out.write(header(tag, b"SQ", UNDEFINED, explicit=self._explicit))
        end = None if length == UNDEFINED else reader.offset + length
        stack.append(_Level(coding_inside(vr, level.coding), end, level.vrs, is_item=False))

    def _value(self, reader: ForwardReader, level: _Level, tag: int, vr: bytes, length: int) -> None:
        self._out.write(header(tag, vr, length, explicit=self._explicit))
        unit = _UNITS.get(vr) if level.coding == BIG_ENDIAN else None
        if level.vrs.wants(tag) and length <= PIECE:
            value = swapped(reader.take(length), unit)
            level.vrs.learn(tag, value)
            self._out.write(value)
            return
        while length:
            piece = reader.take(min(length, PIECE))
            length -= len(piece)
            self._out.write(swapped(piece, unit))


def swapped(data: bytes, unit: str | None) -> bytes:
    """The bytes of each unit in the other order; what is left at the end stays."""
    if unit is None:
        return data
    values = array(unit)
    whole = len(data) // values.itemsize * values.itemsize
    values.frombytes(data[:whole])
    values.byteswap()
    return values.tobytes() + data[whole:]
