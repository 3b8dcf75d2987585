"""The File Meta Information as nearly all programs write it, read in one look at a file's beginning.

``header.read_file_meta`` reads what is written otherwise, and is what the tests hold this to.
"""

import struct

from magickbox.dicom.header import FileMeta

LOOK = 1024
_BEGINNING = b"DICM\2\0\0\0UL\4\0"  # the group length comes first, and is four bytes long (PS3.10 7.1)
_FIRST = 144
_ELEMENT = struct.Struct("<HH2sH")
_LENGTH = struct.Struct("<I")
_SHORT = frozenset({b"AE", b"LO", b"SH", b"UI", b"UL"})
_LONG = frozenset({b"OB"})


def plain_meta(head: bytes) -> FileMeta | None:
    """What the file meta says, from a file's first LOOK bytes; None if it is longer or in any way unusual."""
    if head[128:140] != _BEGINNING:
        return None
    end = _FIRST + _LENGTH.unpack_from(head, 140)[0]
    if end + 2 > LOOK or end > len(head) or head[end : end + 2] == b"\2\0":
        return None
    values: dict[int, bytes] = {}
    at = _FIRST
    while at + 12 <= end:
        group, element, vr, length = _ELEMENT.unpack_from(head, at)
        at += 8
        if vr in _LONG:
            length = _LENGTH.unpack_from(head, at)[0]
            at += 4
        elif vr not in _SHORT:
            return None
        if group != 2:
            return None
        values[element] = head[at : at + length]
        at += length
    if at != end:
        return None
    syntax, sop_class, sop_instance = (_text(values.get(element, b"")) for element in (0x10, 0x02, 0x03))
    return FileMeta(syntax, sop_class, sop_instance, end)


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip("\0 ")
