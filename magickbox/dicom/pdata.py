"""The presentation data values of a P-DATA-TF, found in place (PS3.8 9.3.5)."""

import struct

from magickbox.errors import PeerError

COMMAND, LAST = 1, 2
_VALUE = struct.Struct(">IBB")


class BadData(PeerError):
    """A P-DATA-TF whose values do not fit into it."""


def values(buffer: memoryview, at: int, end: int) -> list[tuple[int, int, int, int]]:
    """Each value of the PDU body at ``buffer[at:end]``: context id, message control header, and where its data lies.

    Raises BadData if any length is wrong, before anything of the PDU is used.
    """
    found = []
    while at < end:
        if end - at < 6:
            raise BadData("a P-DATA-TF that ends inside a presentation data value")
        length, context_id, control = _VALUE.unpack_from(buffer, at)
        begin, at = at + 6, at + 4 + length
        if length < 2 or at > end:
            raise BadData(f"a presentation data value of {length} bytes in a P-DATA-TF that is shorter")
        found.append((context_id, control, begin, at))
    return found
