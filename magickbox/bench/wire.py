"""The bytes that the benchmark's sender and its raw receiver exchange, all built before the clock runs (PS3.8 9.3)."""

import struct
from dataclasses import dataclass

from magickbox.dicom import commandset as c
from magickbox.errors import PeerError

REQUEST, ACCEPT, DATA, RELEASE = 0x01, 0x02, 0x04, 0x05
RELEASE_REQUEST = b"\x05\0\0\0\0\4\0\0\0\0"
RELEASE_REPLY = b"\x06\0\0\0\0\4\0\0\0\0"
HEADER = struct.Struct(">BxI")  # type and length of a PDU
CONTEXT = 1
TRANSFER_SYNTAX = "1.2.840.10008.1.2.1"  # Explicit VR Little Endian
UID_LENGTH = 40
PLACEHOLDER = b"2.25." + b"9" * 35  # stands in a prebuilt message where each instance has its own UID

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = b"2.25.302150743206434226493281711543063415591"
_VALUE = struct.Struct(">IBB")  # length, context and control header of a presentation data value
_COMMAND, _LAST = 1, 2
_SUCCESS = struct.pack("<HHIH", 0, c.STATUS, 2, 0)


@dataclass(frozen=True)
class Message:
    """One C-STORE request with its dataset, as it goes out; only its head differs from instance to instance."""

    head: bytes
    tail: bytes

    def head_for(self, sop_instance: str) -> bytes:
        """The head with this SOP Instance UID, which must be ``UID_LENGTH`` long."""
        return self.head.replace(PLACEHOLDER, sop_instance.encode("ascii"))


def uid(run: int, association: int, number: int) -> str:
    """A SOP Instance UID; all have the same length. ``run`` has 26 digits, the first of them not 0."""
    return f"2.25.{run:026d}{association:03d}{number:06d}"


def message(sop_class: str, dataset: bytes, longest: int) -> Message:
    """Encode an instance in PDUs of at most ``longest`` bytes behind their header (PS3.8 D.1)."""
    command = c.whole(
        c.uid(c.SOP_CLASS, sop_class)
        + c.number(c.COMMAND, c.C_STORE_RQ)
        + c.number(c.MESSAGE_ID, 1)
        + c.number(c.PRIORITY, 0)
        + c.number(c.DATASET_TYPE, c.DATASET)
        + c.uid(c.SOP_INSTANCE, PLACEHOLDER.decode())
    )
    view, step = memoryview(dataset), longest - _VALUE.size
    pieces: list[bytes | memoryview] = [_header(len(command), _COMMAND | _LAST), command]
    for at in range(0, len(dataset), step):
        piece = view[at : at + step]
        pieces += [_header(len(piece), _LAST if at + step >= len(dataset) else 0), piece]
    whole = b"".join(pieces)
    end = whole.rindex(PLACEHOLDER, 0, 4096) + UID_LENGTH
    return Message(whole[:end], whole[end:])


def _header(length: int, control: int) -> bytes:
    return HEADER.pack(DATA, length + _VALUE.size) + _VALUE.pack(length + 2, CONTEXT, control)


def is_last_of_dataset(control: int) -> bool:
    """True if a presentation data value with this control header ends a dataset (PS3.8 E.2)."""
    return control & (_COMMAND | _LAST) == _LAST


def associate_request(sop_class: str, transfer_syntax: str) -> bytes:
    """An A-ASSOCIATE-RQ that proposes one presentation context."""
    syntaxes = _item(0x30, sop_class.encode()) + _item(0x40, transfer_syntax.encode())
    context = _item(0x20, bytes((CONTEXT, 0, 0, 0)) + syntaxes)
    titles = struct.pack(">Hxx16s16s32x", 1, b"BENCH".ljust(16), b"BENCHSCU".ljust(16))
    return _pdu(REQUEST, titles + _item(0x10, _APPLICATION_CONTEXT) + context + _user(16384))


def associate_accept(transfer_syntax: str, longest: int) -> bytes:
    """An A-ASSOCIATE-AC that accepts the context of ``associate_request``."""
    context = _item(0x21, bytes((CONTEXT, 0, 0, 0)) + _item(0x40, transfer_syntax.encode()))
    titles = struct.pack(">Hxx16s16s32x", 1, b"BENCH".ljust(16), b"BENCHSCU".ljust(16))
    return _pdu(ACCEPT, titles + _item(0x10, _APPLICATION_CONTEXT) + context + _user(longest))


def store_response() -> bytes:
    """A C-STORE response that says success; the UIDs may be left out (PS3.7 Table 9.1-1)."""
    body = c.whole(
        c.number(c.COMMAND, c.C_STORE_RSP)
        + c.number(c.ANSWERS, 1)
        + c.number(c.DATASET_TYPE, c.NO_DATASET)
        + c.number(c.STATUS, 0)
    )
    return _header(len(body), _COMMAND | _LAST) + body


def is_success(response: bytes) -> bool:
    """True if a PDU holds a C-STORE response with status 0x0000."""
    return response[:1] == bytes((DATA,)) and _SUCCESS in response


def longest_taken(kind: int, body: bytes) -> int:
    """The longest PDU that the peer takes by its answer to the request, 0 for any; raises PeerError if it refused."""
    if kind != ACCEPT:
        raise PeerError(f"the association was refused (PDU type {kind}, {body[:4].hex()})")
    longest, at = 0, 68
    while at + 4 <= len(body):
        item, length = struct.unpack_from(">BxH", body, at)
        if item == 0x21 and body[at + 6] != 0:
            raise PeerError(f"the presentation context was refused (result {body[at + 6]})")
        if item == 0x50:
            longest = _maximum_length(body[at + 4 : at + 4 + length])
        at += 4 + length
    return longest


def _maximum_length(user: bytes) -> int:
    at = 0
    while at + 8 <= len(user):
        item, length = struct.unpack_from(">BxH", user, at)
        if item == 0x51:
            return int.from_bytes(user[at + 4 : at + 8], "big")
        at += 4 + length
    return 0


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _user(longest: int) -> bytes:
    return _item(0x50, _item(0x51, struct.pack(">I", longest)) + _item(0x52, _IMPLEMENTATION))


def _pdu(kind: int, body: bytes) -> bytes:
    return HEADER.pack(kind, len(body)) + body
