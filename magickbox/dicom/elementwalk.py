"""Walks through coded data elements (PS3.5 7) with a stack of its own, so that no nesting can exhaust Python's.

Lenient where real writers err: a coding other than announced, VRs that do not exist, missing item delimiters.
"""

import struct
from collections.abc import Callable

from magickbox.dicom.forwardreader import ForwardReader, cut_off
from magickbox.errors import UnreadableHeader

IMPLICIT, EXPLICIT, BIG_ENDIAN = 0, 1, 2  # how elements are coded (PS3.5 7.1.2, 7.1.3, A.3)
IN_ITEM = 4  # added to the coding on the stack: an element is next, not an item
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_KNOWN = SHORT | LONG

_explicit = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHL").unpack_from
_big = struct.Struct(">HH2sH").unpack_from
_long = struct.Struct("<L").unpack_from
_big_long = struct.Struct(">L").unpack_from
_big_item = struct.Struct(">HHL").unpack_from


def element_at(buffer: bytes, position: int, coding: int) -> tuple[int, bytes, int, int]:
    """Tag, VR, length and the value's position of the element that begins at ``position``."""
    if coding == EXPLICIT:
        group, element, vr, length = _explicit(buffer, position)
    elif coding == IMPLICIT:
        group, element, length = _implicit(buffer, position)
        return group << 16 | element, b"", length, position + 8
    else:
        group, element, vr, length = _big(buffer, position)
    tag = group << 16 | element
    if vr in SHORT:
        return tag, vr, length, position + 8
    long = _big_long if coding == BIG_ENDIAN else _long
    if vr in LONG:
        return tag, vr, long(buffer, position + 8)[0], position + 12
    if group == 0xFFFE:
        return tag, b"", long(buffer, position + 4)[0], position + 8
    if vr.isalpha() and vr.isupper() and length == 0:  # a VR of the future has a long length (PS3.5 7.1.2)
        return tag, vr, long(buffer, position + 8)[0], position + 12
    if coding == BIG_ENDIAN or _may_be_vr(vr):
        return tag, vr, length, position + 8
    return tag, b"", long(buffer, position + 4)[0], position + 8  # implicit within explicit, as some writers do


def pass_plain(reader: ForwardReader, wanted: frozenset[int], last: int) -> None:
    """Pass over the elements in the buffer that nobody wants and that are coded in the plainest way; for speed only.

    That is: Explicit VR Little Endian, a VR with a short length, a tag up to ``last``. Stops before any other.
    """
    buffer, position, passed = reader.buffer, reader.position, 0
    end = len(buffer) - 12
    while position <= end:
        group, element, vr, length = _explicit(buffer, position)
        tag = group << 16 | element
        if vr not in SHORT or tag in wanted or tag > last or position + 8 + length > end:
            break
        position += 8 + length
        passed += 1
    reader.position = position
    reader.count(passed)


def _may_be_vr(vr: bytes) -> bool:
    """True for what broken writers put where a VR belongs: printable characters, or two zeros."""
    return vr == b"\0\0" or (0x20 <= vr[0] < 0x7F and 0x20 <= vr[1] < 0x7F)


def guess_coding(reader: ForwardReader, coding: int) -> int:
    """How the elements that begin here are really coded: some writers announce one and write the other."""
    if reader.position + 12 > len(reader.buffer):
        reader.fill(12)
    vr = reader.buffer[reader.position + 4 : reader.position + 6]
    if coding == BIG_ENDIAN or len(vr) < 2:
        return coding
    if vr in _KNOWN:
        return EXPLICIT
    return EXPLICIT if coding == EXPLICIT and _may_be_vr(vr) else IMPLICIT


def at_end(reader: ForwardReader) -> bool:
    """True if no element follows; a rest that is too short for one may only be padding."""
    reader.fill(12)
    rest = reader.buffer[reader.position :]
    if len(rest) >= 8:
        return False
    if rest.strip(b"\0"):
        raise cut_off()
    return True


def marked(reader: ForwardReader, longest: int, walk: Callable[[], None]) -> bytes | None:
    """The bytes that ``walk`` passes over, None if they are more than ``longest``."""
    reader.mark, reader.keep = reader.position, longest
    walk()
    start, reader.mark = reader.mark, -1
    return None if start < 0 or reader.position - start > longest else reader.buffer[start : reader.position]


def coding_inside(vr: bytes, coding: int) -> int:
    """How the items of a sequence are coded: those of UN are implicit (PS3.5 6.2.2)."""
    return IMPLICIT if vr == b"UN" else coding


def item_header(reader: ForwardReader, coding: int) -> tuple[int, int]:
    """Tag and length of what comes next between items."""
    group, element, length = (_big_item if coding == BIG_ENDIAN else _implicit)(reader.buffer, reader.position)
    reader.position += 8
    return group << 16 | element, length


def pass_sequence(reader: ForwardReader, coding: int) -> None:
    """Pass over a sequence of undefined length, its delimiter included."""
    pass_nested(reader, [coding], 0)


def pass_nested(reader: ForwardReader, stack: list[int], until: int) -> None:
    """Pass over what is open on the stack until only ``until`` levels are left, however deep it goes.

    The stack holds the coding of each open sequence and, plus IN_ITEM, of each open item of undefined length.
    Missing item delimiters are forgiven. Raises UnreadableHeader.
    """
    try:
        while len(stack) > until:
            reader.count()
            if reader.position + 12 > len(reader.buffer):
                reader.fill(12)
            if stack[-1] < IN_ITEM:
                _step_sequence(reader, stack)
            else:
                _step_item(reader, stack)
    except struct.error:
        raise cut_off() from None


def _step_sequence(reader: ForwardReader, stack: list[int]) -> None:
    tag, length = item_header(reader, stack[-1])
    if tag == ITEM and length == UNDEFINED:
        stack.append(IN_ITEM + guess_coding(reader, stack[-1]))
    elif tag == ITEM:
        reader.skip(length)
    elif tag == SEQUENCE_END:
        stack.pop()
    elif tag != ITEM_END:
        raise UnreadableHeader("a sequence holds something that is not an item")


def _step_item(reader: ForwardReader, stack: list[int]) -> None:
    coding, start = stack[-1] - IN_ITEM, reader.position
    tag, vr, length, reader.position = element_at(reader.buffer, start, coding)
    if tag == ITEM_END:
        stack.pop()
    elif tag in (ITEM, SEQUENCE_END):
        stack.pop()
        reader.position = start
    elif length == UNDEFINED:
        stack.append(coding_inside(vr, coding))
    else:
        reader.skip(length)
