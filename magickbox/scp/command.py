"""Command sets as far as the receiver needs them: read a C-STORE-RQ, write the responses (PS3.7 6.3.1, 9.3.1, 9.3.5).

Command sets are always Implicit VR Little Endian, group 0000.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

RESPONSE = 0x8000
C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
C_STORE_RSP, C_ECHO_RSP = C_STORE_RQ | RESPONSE, C_ECHO_RQ | RESPONSE
NO_DATASET = 0x0101
MAX_COMMENT = 64


class BadCommand(ValueError):
    """A command set that cannot be read."""


@dataclass(frozen=True)
class Command:
    """A command set, its values as they came."""

    values: dict[int, bytes]

    def number(self, element: int) -> int:
        """A US value; raises BadCommand if it is not there or not two bytes."""
        raw = self.values.get(element, b"")
        if len(raw) != 2:
            raise BadCommand(f"(0000,{element:04x}) is not a number")
        return int.from_bytes(raw, "little")

    def uid(self, element: int) -> str:
        """A UI value without its padding; empty if it is not there."""
        return self.values.get(element, b"").rstrip(b"\0 ").decode("utf-8", "surrogateescape")

    @property
    def field(self) -> int:
        """Which command this is (0000,0100)."""
        return self.number(0x0100)

    @property
    def has_dataset(self) -> bool:
        """True if a dataset follows (0000,0800)."""
        return self.number(0x0800) != NO_DATASET

    @property
    def sop_class(self) -> str:
        """Affected SOP Class UID (0000,0002)."""
        return self.uid(0x0002)

    @property
    def sop_instance(self) -> str:
        """Affected SOP Instance UID (0000,1000)."""
        return self.uid(0x1000)


def read_command(raw: bytes) -> Command:
    """Read a command set; raises BadCommand."""
    values: dict[int, bytes] = {}
    at = 0
    while at < len(raw):
        if at + 8 > len(raw):
            raise BadCommand("the command set ends in the middle of an element")
        group, element, length = struct.unpack_from("<HHI", raw, at)
        if group != 0 or at + 8 + length > len(raw):
            raise BadCommand(f"({group:04x},{element:04x}) does not belong into a command set or is too long")
        values[element] = raw[at + 8 : at + 8 + length]
        at += 8 + length
    return Command(values)


def _element(element: int, value: bytes, pad: bytes = b"\0") -> bytes:
    value += pad * (len(value) % 2)
    return struct.pack("<HHI", 0, element, len(value)) + value


def response(request: Command, field: int, status: int, comment: str = "") -> bytes:
    """The command set that answers ``request``: C-STORE-RSP (PS3.7 9.3.1.2) or C-ECHO-RSP (9.3.5.2)."""
    body = [
        _element(0x0002, request.values.get(0x0002, b"")),
        _element(0x0100, struct.pack("<H", field)),
        _element(0x0120, request.values.get(0x0110, b"\0\0")),
        _element(0x0800, struct.pack("<H", NO_DATASET)),
        _element(0x0900, struct.pack("<H", status)),
    ]
    if comment:
        body.append(_element(0x0902, comment.encode("ascii", "replace")[:MAX_COMMENT], b" "))
    if field == C_STORE_RSP:
        body.append(_element(0x1000, request.values.get(0x1000, b"")))
    joined = b"".join(body)
    return _element(0x0000, struct.pack("<I", len(joined))) + joined


def as_pdus(command: bytes, context_id: int, max_pdu: int) -> Iterator[bytes]:
    """A command set as P-DATA-TF PDUs (PS3.8 9.3.5) that the peer's maximum length (0: no limit) allows."""
    room = max(max_pdu - 6, 64) if max_pdu else len(command)
    for at in range(0, len(command), room):
        piece = command[at : at + room]
        control = 0x01 | (0x02 if at + room >= len(command) else 0)
        yield struct.pack(">BBIIBB", 4, 0, len(piece) + 6, len(piece) + 2, context_id, control) + piece
