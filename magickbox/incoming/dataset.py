"""One dataset on its way to disk, in bounded memory.

Pieces stay where they are until ``release``; then all of them go to the file in one system call. A write that fails is
remembered and told by ``commit``: the dataset is drained before it is refused.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import xxhash

from magickbox.dicom import beginning
from magickbox.dicom.header import Identity, identify
from magickbox.dicom.part10 import file_header
from magickbox.dicom.shapes import Shapes
from magickbox.incoming.answer import OUT_OF_RESOURCES, Stored
from magickbox.incoming.usable import MAX_UID
from magickbox.incoming.wholeness import mark
from magickbox.instance import Instance

_MOST_PIECES = 512  # of the 1024 that one writev takes

Settle = Callable[["IncomingInstance"], Stored]


class IncomingInstance:
    """What comes after a C-STORE-RQ. ``settle`` decides about it once it is complete, and may raise OSError."""

    def __init__(
        self, folder: Path, shapes: Shapes, settle: Settle, sop_class: str, sop_instance: str, transfer_syntax: str
    ) -> None:
        self._began = time.monotonic_ns()
        self._folder = folder
        self._name = ""
        self._shapes = shapes
        self.sop_class, self.sop_instance, self.transfer_syntax = sop_class, sop_instance, transfer_syntax
        self._settle = settle
        self.was_there = False
        self._fd = -1
        self._offset = 0
        self._length = 0
        self._pieces: list[bytes | memoryview] = []
        self._is_written = False
        self._beginning = bytearray()
        self._checksum = xxhash.xxh3_128()
        self._refusal: Stored | None = None

    @property
    def part(self) -> Path:
        """Where it lies until it has its name."""
        return self._folder / self._name

    def open(self, name: str, descriptor: int, was_there: bool) -> None:
        """Write to that part of the folder; ``was_there``: it is durable in the folder already."""
        self._name, self._fd, self.was_there = name, descriptor, was_there
        header = file_header(self.sop_class[:MAX_UID], self.sop_instance[:MAX_UID], self.transfer_syntax)
        self._offset = len(header)
        self._pieces.append(header)

    def write(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the dataset, which must stay as it is until ``release``."""
        if self._refusal is not None:
            return
        self._pieces.append(piece)
        self._checksum.update(piece)
        self._length += len(piece)
        missing = beginning.LENGTH - len(self._beginning)
        if missing > 0:
            self._beginning += piece[:missing]
        if len(self._pieces) >= _MOST_PIECES:
            self.release()

    def release(self) -> None:
        """Write the pieces that are held; never raises for what the disk says."""
        if not self._pieces or self._refusal is not None:
            return
        try:
            self._write_pieces()
        except OSError as exc:
            self.failed(exc)

    def _write_pieces(self) -> None:
        pieces, self._pieces, self._is_written = self._pieces, [], True
        written, wanted = os.writev(self._fd, pieces), sum(map(len, pieces))
        if written < wanted:  # the disk is getting full, or a signal came
            self._write(memoryview(b"".join(pieces))[written:])

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    def refuse(self, status: int, why: str) -> Stored:
        """Decide that this instance is refused; what still comes of it is drained."""
        self._refusal = self._refusal or Stored(status, why)
        self.drop()
        return self._refusal

    def failed(self, exc: OSError) -> Stored:
        """Note that the disk refused; the sender is told that it may try again later."""
        return self.refuse(OUT_OF_RESOURCES, f"cannot store: {exc.strerror or exc}")

    def commit(self) -> Stored:
        """Make the instance durable under its name and say what to answer; never raises for what the disk says."""
        if self._refusal is not None:
            return self._refusal
        try:
            return self._settle(self)
        except OSError as exc:
            return self.failed(exc)
        finally:
            self._close()

    def drop(self) -> None:
        """Forget this instance, which was not answered with 0x0000: its association ended first, or it is refused."""
        self._pieces.clear()
        self._close()
        if self._name:
            with suppress(OSError):
                self.part.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write_all(self) -> None:
        """Write what is still held, whatever it is; raises OSError."""
        if self._pieces:
            self._write_pieces()

    def complete(self, arrived: int) -> None:
        """Mark the part as whole, and keep when it arrived (nanoseconds since 1970) as its mtime; raises OSError."""
        told = mark(self._length, self._checksum.digest())
        if self._is_written:
            self.write_all()
            os.pwrite(self._fd, told, 0)
        else:
            self._pieces[0] = told + self._pieces[0][len(told) :]
            self._write_pieces()
        os.utime(self._fd, ns=(arrived, arrived))

    def fsync(self) -> None:
        """Make the part's content durable; raises OSError, after which it is never tried again."""
        os.fsync(self._fd)

    def identify(self) -> Identity:
        """Read the header up to (0020,000E): from memory if it lies there; raises UnreadableHeader, OSError."""
        is_all = len(self._beginning) == self._length
        identity = self._shapes.identify(bytes(self._beginning), is_all, self.transfer_syntax)
        if identity is not None:
            return identity
        self.write_all()
        with self.part.open("rb") as stream:
            stream.seek(self._offset)
            return identify(stream, self.transfer_syntax)

    def as_instance(self, identity: Identity, name: str, arrived: int) -> Instance:
        """The instance as it is reported."""
        return Instance(
            sop_class=self.sop_class,
            sop_instance=self.sop_instance,
            study=identity.study,
            series=identity.series,
            modality=identity.modality,
            transfer_syntax=self.transfer_syntax,
            size=self._offset + self._length,
            checksum=self._checksum.hexdigest(),
            file=name,
            arrived=arrived,
            took=(time.monotonic_ns() - self._began) // 1000,
        )
