"""The command sets of C-STORE and C-ECHO: Implicit VR Little Endian, group 0000 (PS3.7 6.3.1, 9.3.1, 9.3.5)."""

import struct
from dataclasses import dataclass

from magickbox.scu.pdu import MalformedPdu

C_STORE_RQ, C_STORE_RSP, C_ECHO_RQ, C_ECHO_RSP = 0x0001, 0x8001, 0x0030, 0x8030
_NO_DATASET, _DATASET = 0x0101, 0x0001
_MEDIUM = 0x0000

_CLASS, _FIELD, _MESSAGE_ID, _ANSWERS = 0x0002, 0x0100, 0x0110, 0x0120
_PRIORITY, _DATASET_TYPE, _STATUS, _COMMENT, _INSTANCE = 0x0700, 0x0800, 0x0900, 0x0902, 0x1000


@dataclass(frozen=True)
class Response:
    """What a peer answered; ``comment`` is its own text and may name anybody, so it is for the eyes, not for logs."""

    field: int
    answers: int
    status: int
    comment: str
    has_dataset: bool


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value


def _us(element: int, value: int) -> bytes:
    return _element(element, struct.pack("<H", value))


def _ui(element: int, uid: str) -> bytes:
    raw = uid.encode("utf-8", "surrogateescape")
    return _element(element, raw + b"\0" * (len(raw) % 2))


def _whole(elements: bytes) -> bytes:
    return _element(0x0000, struct.pack("<I", len(elements))) + elements


def c_store_request(message_id: int, sop_class: str, sop_instance: str) -> bytes:
    """A C-STORE-RQ command set (PS3.7 Table 9.3-1)."""
    return _whole(
        _ui(_CLASS, sop_class)
        + _us(_FIELD, C_STORE_RQ)
        + _us(_MESSAGE_ID, message_id)
        + _us(_PRIORITY, _MEDIUM)
        + _us(_DATASET_TYPE, _DATASET)
        + _ui(_INSTANCE, sop_instance)
    )


def c_echo_request(message_id: int, sop_class: str) -> bytes:
    """A C-ECHO-RQ command set (PS3.7 Table 9.3-12)."""
    return _whole(
        _ui(_CLASS, sop_class) + _us(_FIELD, C_ECHO_RQ) + _us(_MESSAGE_ID, message_id) + _us(_DATASET_TYPE, _NO_DATASET)
    )


def read_response(data: bytes) -> Response:
    """Read a response's command set; raises MalformedPdu if what makes it a response is missing."""
    found = dict(_elements(data))
    comment = found.get(_COMMENT, b"").decode("latin-1").strip("\0 ")
    return Response(
        _read_us(found, _FIELD),
        _read_us(found, _ANSWERS),
        _read_us(found, _STATUS),
        "".join(letter if letter.isprintable() else "?" for letter in comment)[:64],
        found.get(_DATASET_TYPE, b"\1\1") != b"\1\1",
    )


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        if at + 8 > len(data):
            raise MalformedPdu("the command set of its response is cut off")
        group, element, length = struct.unpack_from("<HHI", data, at)
        at += 8 + length
        if at > len(data):
            raise MalformedPdu("an element of its response is longer than the response")
        if group == 0:
            found.append((element, data[at - length : at]))
    return found


def _read_us(found: dict[int, bytes], element: int) -> int:
    raw = found.get(element, b"")
    if len(raw) != 2:
        raise MalformedPdu(f"its response has no usable element (0000,{element:04x})")
    return int.from_bytes(raw, "little")
