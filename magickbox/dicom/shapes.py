"""Reads the headers of instances that resemble each other: the images of a series differ in values, not in structure.

A *shape* is where the elements of one header lie and what stands in front of each: tag, VR and length. Another
header that has the same bytes at all these places is walked through in the same steps, so what is wanted lies at the
same places too, and can be taken without a walk. One that differs anywhere is walked through as ever.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from magickbox.dicom.beginning import identify_beginning
from magickbox.dicom.elementwalk import IMPLICIT, UNDEFINED, coding_inside, element_at, guess_coding, pass_sequence
from magickbox.dicom.forwardreader import ForwardReader
from magickbox.dicom.header import IDENTITY, SERIES, Identity, coding_of, is_deflated
from magickbox.errors import UnreadableHeader

_KEPT = 4
_GIVE_UP = 8


@dataclass(frozen=True)
class _Shape:
    """``places`` reads what stands in front of each value, ``structure`` is what it must be; ``values`` are slices."""

    transfer_syntax: str
    places: struct.Struct
    structure: tuple[bytes, ...]
    values: tuple[slice | None, ...]

    def read(self, beginning: bytes, transfer_syntax: str) -> Identity | None:
        """Who the instance is whose dataset begins so, or None if it has another shape."""
        if transfer_syntax != self.transfer_syntax or len(beginning) < self.places.size:
            return None
        if self.places.unpack_from(beginning) != self.structure:
            return None
        return Identity(*(beginning[v].decode("latin-1").strip("\0 ") if v else "" for v in self.values))


class Shapes:
    """The shapes of the last headers of one association; used by one thread.

    ``walks`` counts the headers that no shape fitted, ``drawings`` the shapes that were made. Where headers never
    resemble each other, no more shapes are made after a few.
    """

    def __init__(self) -> None:
        self._shapes: list[_Shape] = []
        self._misses = 0
        self.walks = self.drawings = 0

    def identify(self, beginning: bytes, is_all: bool, transfer_syntax: str) -> Identity | None:
        """As ``beginning.identify_beginning``, and with the same results."""
        for shape in self._shapes:
            identity = shape.read(beginning, transfer_syntax)
            if identity is not None:
                self._misses = 0
                return identity
        identity = identify_beginning(beginning, is_all, transfer_syntax)
        self.walks += 1
        self._misses += 1
        if identity is not None and self._misses < _GIVE_UP:
            self.drawings += 1
            drawn = _draw(beginning, transfer_syntax)
            if drawn is not None:
                self._shapes = [drawn, *self._shapes[: _KEPT - 1]]
        return identity


def _draw(beginning: bytes, transfer_syntax: str) -> _Shape | None:
    """The shape of a header up to (0020,000E), or None if it is not coded as its transfer syntax says, or has none."""
    if is_deflated(transfer_syntax):
        return None
    reader = ForwardReader(BytesIO())
    reader.buffer = beginning  # all that there is
    form, structure, found = ["<"], list[bytes](), dict[int, slice]()
    try:
        for start, value, end, tag in _walk(reader, guess_coding(reader, coding_of(transfer_syntax))):
            form.append(f"{value - start}s{end - value}x")
            structure.append(beginning[start:value])
            if tag in IDENTITY:
                found[tag] = slice(value, end)
    except (UnreadableHeader, struct.error):
        return None
    return _Shape(
        transfer_syntax, struct.Struct("".join(form)), tuple(structure), tuple(found.get(tag) for tag in IDENTITY)
    )


def _walk(reader: ForwardReader, coding: int) -> Iterator[tuple[int, int, int, int]]:
    """Where each element up to (0020,000E) begins, where what may differ begins and ends, and its tag.

    Raises UnreadableHeader or struct.error where a header has no shape.
    """
    tag = 0
    while tag != SERIES:
        start = reader.position
        tag, vr, length, value = element_at(reader.buffer, start, coding)
        if tag > SERIES or (coding != IMPLICIT and not vr):
            raise UnreadableHeader("not coded in one way, or without a Series Instance UID")
        reader.position = value
        if length == UNDEFINED:
            pass_sequence(reader, coding_inside(vr, coding))
            value = reader.position  # of what has no length every byte belongs to the structure
        else:
            reader.skip(length)
        yield start, value, reader.position, tag
