"""The Protocol Data Units of the upper layer, as an association's requestor needs them (PS3.8 9.3).

UIDs go out as they are, longer or odder than PS3.5 9.1 allows or not: whether to take them is the peer's business.
What comes in is read with every length checked; MalformedPdu says what is wrong.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from magickbox.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from magickbox.errors import PeerError

ACCEPT, REJECT, DATA, RELEASE_RQ, RELEASE_RP, ABORT = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
RELEASE_REQUEST = b"\x05\0\0\0\0\4\0\0\0\0"
RELEASE_REPLY = b"\x06\0\0\0\0\4\0\0\0\0"
ABORT_BY_USER = b"\x07\0\0\0\0\4\0\0\0\0"

MAX_FRAGMENT = 128 * 1024
MAX_CONTEXTS = 128  # the ids are odd and below 256 (PS3.8 9.3.2.2)
RECEIVED_AT_MOST = 16384  # only responses come in
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_COMMAND, _LAST = 0x01, 0x02  # bits of the message control header (PS3.8 E.2)

# PS3.8 Table 9-21: result, then source and reason.
_RESULTS = {1: "permanently", 2: "transiently"}
_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given by its ACSE",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
_ABORTS = {0: "reason not specified", 1: "unrecognized PDU", 2: "unexpected PDU", 4: "unrecognized PDU parameter",
           5: "unexpected PDU parameter", 6: "invalid PDU parameter value"}  # fmt: skip


class MalformedPdu(PeerError):
    """What the peer sent is not what PS3.8 lets it send."""


@dataclass(frozen=True)
class Context:
    """A presentation context that is proposed: one abstract syntax in one transfer syntax."""

    sop_class: str
    transfer_syntax: str


@dataclass(frozen=True)
class Accepted:
    """The peer's answer: result and transfer syntax by context id, and the longest PDU it takes (0: any)."""

    contexts: tuple[tuple[int, int, str], ...]
    max_length: int


@dataclass(frozen=True)
class Fragment:
    """One presentation data value: a piece of a command or of a dataset."""

    is_command: bool
    is_last: bool
    data: bytes


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip("\0 ")


def _title(text: str) -> bytes:
    return text.encode("ascii", "replace")[:16].ljust(16)


def _item(kind: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    return struct.pack(">BxH", kind, len(value)) + value


def associate_request(called_ae: str, calling_ae: str, contexts: Sequence[Context]) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2) that proposes at most 128 contexts; their ids are 1, 3, 5 …"""
    items = [_item(0x10, _APPLICATION_CONTEXT)]
    for number, context in enumerate(contexts[:MAX_CONTEXTS]):
        syntaxes = _item(0x30, _bytes(context.sop_class)) + _item(0x40, _bytes(context.transfer_syntax))
        items.append(_item(0x20, bytes((2 * number + 1, 0, 0, 0)), syntaxes))
    items.append(
        _item(
            0x50,
            _item(0x51, struct.pack(">I", RECEIVED_AT_MOST)),
            _item(0x52, IMPLEMENTATION_CLASS_UID.encode()),
            _item(0x55, IMPLEMENTATION_VERSION_NAME.encode()),
        )
    )
    body = struct.pack(">Hxx16s16s32x", 1, _title(called_ae), _title(calling_ae)) + b"".join(items)
    return struct.pack(">BxI", 0x01, len(body)) + body


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise MalformedPdu("an item of its answer is cut off")
        kind, length = struct.unpack_from(">BxH", data, at)
        at += 4 + length
        if at > len(data):
            raise MalformedPdu("an item of its answer is longer than the answer")
        yield kind, data[at - length : at]


def read_accept(body: bytes) -> Accepted:
    """Read the body of an A-ASSOCIATE-AC (PS3.8 9.3.3)."""
    contexts, longest = [], 0
    for kind, value in _items(body[68:]):
        if kind == 0x21:
            if len(value) < 4:
                raise MalformedPdu("a presentation context of its answer is cut off")
            syntax = next((_text(name) for part, name in _items(value[4:]) if part == 0x40), "")
            contexts.append((value[0], value[2], syntax))
        elif kind == 0x50:
            longest = next((_number(part) for sub, part in _items(value) if sub == 0x51), 0)
    return Accepted(tuple(contexts), longest)


def _number(raw: bytes) -> int:
    if len(raw) != 4:
        raise MalformedPdu("the maximum length in its answer is not 4 bytes long")
    return int.from_bytes(raw, "big")


def reject_words(body: bytes) -> str:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4) in words, with its three numbers."""
    result, source, reason = body[1:4].ljust(3, b"\0")
    words = _REASONS.get((source, reason), "a reason that the standard does not name")
    return f"association rejected {_RESULTS.get(result, '')}: {words} ({result}/{source}/{reason})".replace(" :", ":")


def abort_words(body: bytes) -> str:
    """An A-ABORT (PS3.8 9.3.8) in words."""
    source, reason = body[2:4].ljust(2, b"\0")
    if source == 2:
        return f"the peer's upper layer aborted the association: {_ABORTS.get(reason, f'reason {reason}')}"
    return "the peer aborted the association"


def data_header(context: int, length: int, *, command: bool, last: bool) -> bytes:
    """The 12 bytes in front of one fragment: P-DATA-TF and presentation data value (PS3.8 9.3.5)."""
    control = (_COMMAND if command else 0) | (_LAST if last else 0)
    return struct.pack(">BxIIBB", DATA, length + 6, length + 2, context, control)


def read_data(body: bytes) -> list[Fragment]:
    """The fragments in the body of a P-DATA-TF."""
    fragments, at = [], 0
    while at < len(body):
        if at + 6 > len(body):
            raise MalformedPdu("a data value is cut off")
        length = int.from_bytes(body[at : at + 4], "big")
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise MalformedPdu("a data value's length does not fit its PDU")
        control = body[at + 5]
        fragments.append(Fragment(bool(control & _COMMAND), bool(control & _LAST), body[at + 6 : end]))
        at = end
    return fragments


def context_words(result: int) -> str:
    """PS3.8 Table 9-18, in words."""
    return {
        0: "it accepted a transfer syntax that was not offered",
        1: "refused by the user",
        3: "SOP class not supported",
        4: "transfer syntax not supported",
    }.get(result, "no reason given")


def room_of(max_length: int) -> int:
    """How many bytes of a message fit into one PDU of the peer's; fragments have an even length (PS3.8 E.2)."""
    room = min(max_length or MAX_FRAGMENT, MAX_FRAGMENT) - 6
    if room < 2:
        raise PeerError(f"the peer takes PDUs of at most {max_length} bytes, into which nothing fits")
    return room // 2 * 2
