"""Reads an A-ASSOCIATE-RQ (PS3.8 9.3.2) as strangers write it, and writes it so that pynetdicom takes it.

pynetdicom gives up a whole association for one AE title or UID that is odd, and warns on stderr of others. Here what
is odd stands in the request under a stand-in, and the box keeps what was really said. Items that the box does not
answer (user identity, asynchronous operations, extended negotiation) are left out.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from magickbox.association import title_from_wire
from magickbox.scp.contexts import KNOWN

_CALLED, _CALLING, _FIXED = slice(10, 26), slice(26, 42), 74
_CONTEXT, _ABSTRACT, _TRANSFER = 0x20, 0x30, 0x40
_USER, _MAX_LENGTH, _IMPLEMENTATION, _ROLE = 0x50, 0x51, 0x52, 0x54
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_STAND_IN = b"2.25.1"
_PLAIN_UID = re.compile(rb"[0-2](\.(0|[1-9][0-9]*))+")


@dataclass(frozen=True)
class Asked:
    """What was really asked for, with the SOP class of each context id, and the request for pynetdicom."""

    called_ae: str
    calling_ae: str
    sop_classes: dict[int, str]
    pdu: bytes


def read_request(raw: bytes | bytearray) -> Asked:
    """Read a whole A-ASSOCIATE-RQ PDU; raises ValueError or struct.error if its structure is broken."""
    if len(raw) < _FIXED:
        raise ValueError("an A-ASSOCIATE-RQ that ends before its items")
    items, classes, named = [_item(0x10, _APPLICATION_CONTEXT)], {}, dict[bytes, bytes]()
    for kind, value in _items(bytes(raw[_FIXED:])):
        if kind == _CONTEXT:
            context, uid = _context(value, named)
            classes[value[0]] = uid.decode("utf-8", "surrogateescape")
            items.append(context)
        elif kind == _USER:
            items.append(_user(value, named))
    titles = _plain_title(raw[_CALLED]) + _plain_title(raw[_CALLING])
    body = bytes(raw[6:10]) + titles + bytes(32) + b"".join(items)
    pdu = struct.pack(">BxI", 1, len(body)) + body
    return Asked(title_from_wire(raw[_CALLED]), title_from_wire(raw[_CALLING]), classes, pdu)


def _context(value: bytes, named: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """A presentation context item, rewritten, and its abstract syntax as it came."""
    if not value or value[0] % 2 == 0:
        raise ValueError("a presentation context without an odd id")
    parts = [(kind, name.rstrip(b"\0 ")) for kind, name in _items(value[4:])]
    uid = next((name for kind, name in parts if kind == _ABSTRACT), b"")
    named[uid] = uid if len(uid) <= 64 and _PLAIN_UID.fullmatch(uid) else b"2.25.1%d" % value[0]
    syntaxes = [name for kind, name in parts if kind == _TRANSFER and name.decode("latin-1") in KNOWN] or [_STAND_IN]
    names = _item(_ABSTRACT, named[uid]) + b"".join(_item(_TRANSFER, syntax) for syntax in syntaxes)
    return _item(_CONTEXT, value[:1].ljust(4, b"\0") + names), uid


def _user(value: bytes, named: dict[bytes, bytes]) -> bytes:
    """The user information item with the maximum length and the roles that can be answered."""
    parts = [_item(_IMPLEMENTATION, _STAND_IN)]
    for kind, part in _items(value):
        if kind == _MAX_LENGTH and len(part) == 4:
            parts.append(_item(kind, part))
        elif kind == _ROLE and (role := _role(part, named)):
            parts.append(_item(kind, role))
    return _item(_USER, b"".join(parts))


def _role(part: bytes, named: dict[bytes, bytes]) -> bytes | None:
    (length,) = struct.unpack_from(">H", part)
    uid, roles = named.get(part[2 : 2 + length].rstrip(b"\0 ")), part[2 + length :]
    usable = uid is not None and len(roles) == 2 and set(roles) <= {0, 1} and any(roles)
    return struct.pack(">H", len(uid)) + uid + roles if usable and uid is not None else None


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BxH", data, at)
        at += 4 + length
        if at > len(data):
            raise ValueError("an item that is longer than what it stands in")
        yield kind, data[at - length : at]


def _plain_title(title: bytes | bytearray) -> bytes:
    """A title that pynetdicom takes: 16 printable ASCII characters, not all blank, no backslash."""
    plain = bytes(b if 0x20 <= b < 0x7F and b != 0x5C else 0x5F for b in title.rstrip(b"\0"))
    return (plain.strip() or b"_").ljust(16)
