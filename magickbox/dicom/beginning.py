"""Reads who an instance is from the beginning of its dataset, while that is still in memory.

Either the beginning is enough for an answer that the whole dataset would give too, or there is no answer.
"""

from io import BytesIO

from magickbox.dicom.forwardreader import CHUNK
from magickbox.dicom.header import Identity, identify
from magickbox.errors import UnreadableHeader

LENGTH = 2 * CHUNK


class _NotEnough(Exception):
    """The reader asked for what lies behind the beginning."""


class _Beginning(BytesIO):
    """A stream that must not be read to its end, because it has none here."""

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        if size is None or len(piece) < size:
            raise _NotEnough
        return piece

    def seek(self, offset: int, whence: int = 0, /) -> int:
        at = super().seek(offset, whence)
        if at >= LENGTH:
            raise _NotEnough
        return at


def identify_beginning(beginning: bytes, is_all: bool, transfer_syntax: str) -> Identity | None:
    """As ``header.identify`` for the dataset that begins so, or None if that needs more of it to be told.

    ``is_all`` says that these are all its bytes; otherwise there are LENGTH of them. Raises UnreadableHeader.
    """
    if is_all:
        return identify(BytesIO(beginning), transfer_syntax)
    try:
        return identify(_Beginning(beginning), transfer_syntax)
    except (_NotEnough, UnreadableHeader):
        return None
