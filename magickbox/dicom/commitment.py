"""The datasets of storage commitment: the request and the report (PS3.4 J.3.2, J.3.3), in little endian."""

import struct
from collections.abc import Iterator, Sequence
from io import BytesIO

from magickbox.dicom.elementwalk import (
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    at_end,
    coding_inside,
    element_at,
    guess_coding,
    item_header,
    pass_sequence,
)
from magickbox.dicom.forwardreader import ForwardReader, cut_off
from magickbox.errors import UnreadableHeader
from magickbox.proof import Reference, Report

SOP_CLASS, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
REQUEST_COMMITMENT = 1  # Action Type ID
ALL_COMMITTED, SOME_FAILED = 1, 2  # Event Type ID
EXPLICIT_LITTLE, IMPLICIT_LITTLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
SYNTAXES = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
LONGEST_REPORT = 32 * 1024 * 1024

_CLASS_UID, _INSTANCE_UID, _TRANSACTION = 0x00081150, 0x00081155, 0x00081195
_REASON, _FAILED, _REFERENCED = 0x00081197, 0x00081198, 0x00081199
_LONGEST_VALUE = 256


def write_request(transaction: str, references: Sequence[Reference], syntax: str) -> bytes:
    """The dataset of the N-ACTION: Transaction UID and Referenced SOP Sequence."""
    explicit = syntax == EXPLICIT_LITTLE
    items = b""
    for each in references:
        item = _uid(_CLASS_UID, each.sop_class, explicit) + _uid(_INSTANCE_UID, each.sop_instance, explicit)
        items += struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    return _uid(_TRANSACTION, transaction, explicit) + element(_REFERENCED, b"SQ", items, explicit)


def _uid(tag: int, text: str, explicit: bool) -> bytes:
    value = text.encode("utf-8", "surrogateescape")
    return element(tag, b"UI", value + b"\0" * (len(value) % 2), explicit)


def element(tag: int, vr: bytes, value: bytes, explicit: bool) -> bytes:
    """One element of such a dataset; the value has an even length."""
    if not explicit:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
    length = struct.pack("<xxI" if vr == b"SQ" else "<H", len(value))
    return struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr) + length + value


def read_report(data: bytes, syntax: str) -> Report:
    """The dataset of an N-EVENT-REPORT, as strangers write it; raises UnreadableHeader."""
    reader = ForwardReader(BytesIO(data))
    transaction, committed, failed = "", list[str](), list[tuple[str, int | None]]()
    try:
        coding = guess_coding(reader, EXPLICIT if syntax == EXPLICIT_LITTLE else IMPLICIT)
        while not at_end(reader):
            tag, vr, length = _next(reader, coding)
            if tag == _TRANSACTION:
                transaction = _text(_value(reader, length))
            elif tag == _REFERENCED:
                committed += [uid for uid, _ in _items(reader, length, coding_inside(vr, coding))]
            elif tag == _FAILED:
                failed += _items(reader, length, coding_inside(vr, coding))
            else:
                _pass(reader, vr, length, coding)
    except struct.error:
        raise cut_off() from None
    if not transaction:
        raise UnreadableHeader("the report has no Transaction UID")
    return Report(transaction, tuple(committed), tuple(failed))


def _next(reader: ForwardReader, coding: int) -> tuple[int, bytes, int]:
    reader.count()
    reader.fill(12)
    tag, vr, length, reader.position = element_at(reader.buffer, reader.position, coding)
    return tag, vr, length


def _value(reader: ForwardReader, length: int) -> bytes:
    if length > _LONGEST_VALUE:
        raise UnreadableHeader("a UID of the report is too long")
    return reader.take(length)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0 ").decode("utf-8", "surrogateescape")


def _pass(reader: ForwardReader, vr: bytes, length: int, coding: int) -> None:
    if length == UNDEFINED:
        pass_sequence(reader, coding_inside(vr, coding))
    else:
        reader.skip(length)


def _items(reader: ForwardReader, length: int, coding: int) -> Iterator[tuple[str, int | None]]:
    """The instances that a sequence's items name, with their Failure Reason."""
    end = None if length == UNDEFINED else reader.offset + length
    while end is None or reader.offset < end:
        reader.count()
        reader.fill(8)
        tag, size = item_header(reader, coding)
        if tag == SEQUENCE_END and end is None:
            return
        if tag != ITEM:
            raise UnreadableHeader("a sequence holds something that is not an item")
        yield _item(reader, size, coding)


def _item(reader: ForwardReader, length: int, coding: int) -> tuple[str, int | None]:
    end = None if length == UNDEFINED else reader.offset + length
    uid, reason = "", None
    while end is None or reader.offset < end:
        tag, vr, size = _next(reader, coding)
        if tag == ITEM_END and end is None:
            break
        if tag == _INSTANCE_UID:
            uid = _text(_value(reader, size))
        elif tag == _REASON and size == 2:
            reason = int.from_bytes(reader.take(2), "little")
        else:
            _pass(reader, vr, size, coding)
    return uid, reason
