"""DIMSE command sets, both ways: always Implicit VR Little Endian, group 0000 (PS3.7 6.3.1, Annex E)."""

import struct
from dataclasses import dataclass

from magickbox.errors import PeerError

RESPONSE = 0x8000
C_STORE_RQ, C_FIND_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0020, 0x0030, 0x0FFF
C_STORE_RSP, C_FIND_RSP, C_ECHO_RSP = C_STORE_RQ | RESPONSE, C_FIND_RQ | RESPONSE, C_ECHO_RQ | RESPONSE
N_EVENT_REPORT_RQ, N_ACTION_RQ = 0x0100, 0x0130
N_EVENT_REPORT_RSP, N_ACTION_RSP = N_EVENT_REPORT_RQ | RESPONSE, N_ACTION_RQ | RESPONSE
NO_DATASET, DATASET = 0x0101, 0x0001

SOP_CLASS, COMMAND, MESSAGE_ID, ANSWERS = 0x0002, 0x0100, 0x0110, 0x0120
PRIORITY, DATASET_TYPE, STATUS, COMMENT, SOP_INSTANCE = 0x0700, 0x0800, 0x0900, 0x0902, 0x1000
REQUESTED_CLASS, REQUESTED_INSTANCE, EVENT_TYPE, ACTION_TYPE = 0x0003, 0x1001, 0x1002, 0x1008

_ELEMENT = struct.Struct("<HHI")  # group, element and length of the value


class BadCommand(PeerError):
    """A command set that cannot be read."""


@dataclass(frozen=True)
class Command:
    """A command set, its values as they came."""

    values: dict[int, bytes]

    def number(self, element: int) -> int:
        """A US value; raises BadCommand if it is not there or not two bytes."""
        raw = self.values.get(element, b"")
        if len(raw) != 2:
            raise BadCommand(f"the command set has no usable element (0000,{element:04x})")
        return int.from_bytes(raw, "little")

    def uid(self, element: int) -> str:
        """A UI value without its padding; empty if it is not there."""
        return self.values.get(element, b"").rstrip(b"\0 ").decode("utf-8", "surrogateescape")

    @property
    def field(self) -> int:
        """Which command this is (0000,0100)."""
        return self.number(COMMAND)

    @property
    def has_dataset(self) -> bool:
        """True if a dataset follows (0000,0800)."""
        return self.number(DATASET_TYPE) != NO_DATASET

    @property
    def sop_class(self) -> str:
        """Affected SOP Class UID (0000,0002)."""
        return self.uid(SOP_CLASS)

    @property
    def sop_instance(self) -> str:
        """Affected SOP Instance UID (0000,1000)."""
        return self.uid(SOP_INSTANCE)


def read_command(raw: bytes) -> Command:
    """Read a command set, every length checked; raises BadCommand."""
    values: dict[int, bytes] = {}
    at, end = 0, len(raw)
    while at < end:
        if at + 8 > end:
            raise BadCommand("the command set is cut off")
        group, element, length = _ELEMENT.unpack_from(raw, at)
        at += 8 + length
        if at > end:
            raise BadCommand("an element of the command set is longer than the command set")
        if group != 0:
            raise BadCommand(f"({group:04x},{element:04x}) does not belong into a command set")
        values[element] = raw[at - length : at]
    return Command(values)


def element(number: int, value: bytes, pad: bytes = b"\0") -> bytes:
    """One element of a command set, padded to even length."""
    value += pad * (len(value) % 2)
    return _ELEMENT.pack(0, number, len(value)) + value


def number(name: int, value: int) -> bytes:
    """A US element."""
    return element(name, struct.pack("<H", value))


def uid(name: int, value: str) -> bytes:
    """A UI element; the UID goes out as it is, valid or not."""
    return element(name, value.encode("utf-8", "surrogateescape"))


def whole(elements: bytes) -> bytes:
    """A command set of these elements, with its group length (0000,0000) before them."""
    return element(0x0000, struct.pack("<I", len(elements))) + elements
