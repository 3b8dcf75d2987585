"""Reads a stream forwards only, holding no more than is looked at, so that no length field can fill the memory."""

import zlib
from typing import BinaryIO, Protocol

from magickbox.errors import UnreadableHeader

CHUNK = 8 * 1024
PIECE = 1024 * 1024
MAX_INFLATED = 64 * 1024 * 1024
MAX_ELEMENTS = 1_000_000


class Source(Protocol):
    """Where bytes come from: anything with ``read``."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, none at the end."""
        ...


class Inflated:
    """A deflated dataset (PS3.5 A.5) inflated piece by piece; more than MAX_INFLATED bytes are refused."""

    def __init__(self, stream: Source) -> None:
        self._stream = stream
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._left = MAX_INFLATED

    def read(self, size: int, /) -> bytes:
        """At most ``size`` inflated bytes; raises UnreadableHeader for damaged data and for bombs."""
        if self._left <= 0:
            raise UnreadableHeader(f"the deflated header is longer than {MAX_INFLATED} bytes")
        data = b""
        while size > 0 and not data and not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._stream.read(CHUNK)
            try:
                data = self._inflater.decompress(packed, min(size, self._left))
            except zlib.error as exc:
                raise UnreadableHeader(f"the deflated dataset is damaged: {exc}") from None
            if not packed:
                break
        self._left -= len(data)
        return data


class ForwardReader:
    """A window on a stream that moves forwards: ``buffer`` from ``position`` on is what comes next.

    A caller may walk through ``buffer`` by itself and write ``position`` back. With ``mark`` set (not negative), the
    bytes from there on are kept while the window moves, up to ``keep`` bytes; past that the mark is given up.
    """

    __slots__ = ("_base", "_left", "_read", "_seek", "buffer", "keep", "mark", "position")

    def __init__(self, stream: BinaryIO | Inflated) -> None:
        self._read = stream.read
        self._seek = None if isinstance(stream, Inflated) or not stream.seekable() else stream.seek
        self.buffer = self._read(CHUNK)
        self.position = 0
        self.mark = -1
        self.keep = 0
        self._base = 0
        self._left = MAX_ELEMENTS

    @property
    def offset(self) -> int:
        """How far ``position`` is from where reading began, in bytes."""
        return self._base + self.position

    def count(self, elements: int = 1) -> None:
        """Count so many more; raises UnreadableHeader after MAX_ELEMENTS, so that no file takes for ever."""
        self._left -= elements
        if self._left < 0:
            raise UnreadableHeader(f"the header has more than {MAX_ELEMENTS} elements")

    def fill(self, need: int) -> None:
        """Have ``need`` bytes from ``position`` on in the buffer, or as many as the stream still has."""
        start = self.position
        if self.mark >= 0:
            if self.position - self.mark > self.keep:
                self.mark = -1
            else:
                start, self.mark = self.mark, 0
        pieces = [self.buffer[start:]]
        self.position -= start
        self._base += start
        missing = self.position + need - len(pieces[0])
        ahead = max(CHUNK, len(pieces[0]) if self.mark == 0 else 0)
        while missing > 0 and (piece := self._read(min(max(missing, ahead), PIECE))):
            pieces.append(piece)
            missing -= len(piece)
        self.buffer = b"".join(pieces)

    def skip(self, length: int) -> None:
        """Move ``length`` bytes on; raises UnreadableHeader if the stream ends before."""
        end = self.position + length
        if end <= len(self.buffer):
            self.position = end
        elif self._seek is not None and self.mark < 0:
            # One byte before the target is read too: a seek beyond the end is silent.
            self._seek(end - len(self.buffer) - 1, 1)
            self._base += end - 1
            self.buffer, self.position = self._read(CHUNK), 1
            if not self.buffer:
                raise cut_off()
        else:
            self._skip_reading(length)

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes; the caller has bounded ``length``. Raises UnreadableHeader if there are fewer."""
        if self.position + length > len(self.buffer):
            self.fill(length)
        value = self.buffer[self.position : self.position + length]
        if len(value) < length:
            raise cut_off()
        self.position += length
        return value

    def _skip_reading(self, length: int) -> None:
        while length > 0:
            step = min(length, PIECE)
            if self.position + step > len(self.buffer):
                self.fill(step)
            if self.position + step > len(self.buffer):
                raise cut_off()
            self.position += step
            length -= step


def cut_off() -> UnreadableHeader:
    """The error for a dataset that ends where more was announced."""
    return UnreadableHeader("the dataset ends inside an element of its header")
