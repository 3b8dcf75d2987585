"""One instance on its way out: its file, and the message that brings it, in PDUs of the length that the peer takes.

The whole message of a small image is read and framed at once, by one system call into one buffer; of a large one as
much as the buffer holds, piece after piece, so that memory does not grow with the object. sendfile is no faster here:
it brings no more than 16 pages at a time, and needs a call for each PDU.
"""

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from magickbox.dicom.header import FileMeta, read_file_meta
from magickbox.dicom.plainmeta import LOOK, plain_meta
from magickbox.errors import UnreadableHeader
from magickbox.scu import pdu
from magickbox.sender import Item

BUFFER = 1024 * 1024
_LARGE = 64 * 1024  # from here on it pays to ask for a file's bytes before they are read
_MOST_PIECES = 512  # of the 1024 that one preadv takes
_HEADER = struct.Struct(">BxIIBB")  # P-DATA-TF and presentation data value (PS3.8 9.3.5)
_LAST = 0x02  # bit of the message control header (PS3.8 E.2)
# A deflated stream of odd length is sent with a zero byte after it (PS3.5 A.5): peers refuse odd fragments.
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})


class ReadTrouble(Exception):
    """The file that is being sent could not be read to its end."""


class Unsendable(Exception):
    """The file cannot be sent: it is not there, not DICOM, or not what it was when it was selected."""


def new_buffer() -> bytearray:
    """What an Outgoing reads into; it may be used for one after the other."""
    return bytearray(BUFFER + pdu.MAX_FRAGMENT + _HEADER.size)


@dataclass(frozen=True)
class Way:
    """How a message goes: its presentation context, and how many bytes of it fit into one PDU (``pdu.room_of``)."""

    context: int
    room: int

    def framed(self, data: bytes, *, command: bool = True) -> bytes:
        """A command set, or a dataset, in PDUs."""
        pieces = [data[at : at + self.room] for at in range(0, len(data), self.room)]
        last = len(pieces) - 1
        return b"".join(
            pdu.data_header(self.context, len(piece), command=command, last=at == last) + piece
            for at, piece in enumerate(pieces)
        )


class InstanceFile:
    """The open file of an instance, and where its dataset stands in it; raises Unsendable."""

    def __init__(self, item: Item) -> None:
        try:
            self._fd = os.open(item.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as exc:
            raise Unsendable(f"the file cannot be read: {exc.strerror}") from exc
        try:
            self.offset, self.size = self._look(item)
        except BaseException:
            os.close(self._fd)
            raise
        self.padded = self.size + (self.size % 2 if item.transfer_syntax in _DEFLATED else 0)

    def _look(self, item: Item) -> tuple[int, int]:
        """Where the dataset begins and how long it is; a FIFO would wait for ever."""
        try:
            about = os.fstat(self._fd)
            if not stat.S_ISREG(about.st_mode):
                raise Unsendable("the file cannot be read: not a regular file")
            meta = self._meta()
        except UnreadableHeader as exc:
            raise Unsendable(f"the file cannot be read: {exc}") from exc
        except OSError as exc:
            raise Unsendable(f"the file cannot be read: {exc.strerror}") from exc
        if meta.transfer_syntax not in ("", item.transfer_syntax):
            raise Unsendable("the file has another transfer syntax than when it was selected")
        if about.st_size > _LARGE:
            with suppress(OSError, AttributeError):
                os.posix_fadvise(self._fd, 0, BUFFER, os.POSIX_FADV_WILLNEED)
        return meta.offset, about.st_size - meta.offset

    def _meta(self) -> FileMeta:
        meta = plain_meta(os.pread(self._fd, LOOK, 0))
        if meta is not None:
            return meta
        with open(self._fd, "rb", buffering=0, closefd=False) as stream:
            return read_file_meta(stream)

    def read(self, views: list[memoryview], at: int) -> None:
        """Fill the views, one after the other, from a place in the dataset on; raises ReadTrouble."""
        try:
            while views := [view for view in views if view]:
                got = os.preadv(self._fd, views, self.offset + at)
                if not got:
                    raise ReadTrouble("the file became shorter while it was sent")
                at += got
                views = _rest(views, got)
        except OSError as exc:
            raise ReadTrouble(f"the file cannot be read to its end: {exc.strerror}") from exc

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def _rest(views: list[memoryview], done: int) -> list[memoryview]:
    """What is left of views after so many bytes."""
    left = []
    for view in views:
        passed = min(done, len(view))
        done -= passed
        left.append(view[passed:])
    return left


class Outgoing:
    """A C-STORE request with its dataset. ``begin`` may be called before the peer is ready for it."""

    def __init__(self, file: InstanceFile, command: bytes, way: Way, buffer: bytearray) -> None:
        self._file, self._way, self.buffer = file, way, buffer
        self._start = way.framed(command)
        self._at, self._left = 0, file.padded
        self._begun: memoryview | None = None

    def begin(self) -> None:
        """Read and frame as much as fits into the buffer; raises ReadTrouble."""
        self._begun = self._next()

    def pieces(self) -> Iterator[memoryview]:
        """The message, in pieces that hold until the next one is asked for; raises ReadTrouble."""
        yield self._next() if self._begun is None else self._begun
        while self._left:
            yield self._next()

    def _next(self) -> memoryview:
        buffer, room, context = self.buffer, self._way.room, self._way.context
        view, at, began = memoryview(buffer), len(self._start), self._at
        slots: list[memoryview] = []
        buffer[:at], self._start = self._start, b""
        while not slots or (self._left and at < BUFFER and len(slots) < _MOST_PIECES):
            length = min(self._left, room)
            self._left -= length
            _HEADER.pack_into(buffer, at, pdu.DATA, length + 6, length + 2, context, 0 if self._left else _LAST)
            at += _HEADER.size
            of_file = min(length, self._file.size - self._at)
            slots.append(view[at : at + of_file])
            buffer[at + of_file : at + length] = bytes(length - of_file)
            at += length
            self._at += of_file
        self._file.read(slots, began)
        return view[:at]
