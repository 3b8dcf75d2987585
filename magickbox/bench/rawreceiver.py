"""The raw limit, a program of its own: what any receiver must do at least, and nothing else.

``python -m magickbox.bench.rawreceiver PORT FOLDER FSYNC LONGEST_PDU``. From the socket into a new file in large
pieces, PDU headers and all; one prepared response a message; nothing is parsed but the first message of an association,
to learn how long each is. A child process for each association. With FSYNC (1) each file takes the box's durable steps:
fsync of the file, rename, fsync of the folder.
"""

import os
import socket
import struct
import sys
from pathlib import Path

from magickbox.bench import wire

PIECE = 1 << 20  # smaller ones cost more calls; larger ones made no difference


class Raw:
    """One association, its files in a folder of their own."""

    def __init__(self, sock: socket.socket, folder: Path, durable: bool) -> None:
        folder.mkdir()
        self._sock, self._folder, self._durable = sock, str(folder), durable
        self._directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._buffer = memoryview(bytearray(PIECE))
        self._fd, self._count = -1, 0

    def serve(self, longest: int) -> None:
        """Take instances until the peer releases or goes away."""
        self._exactly(struct.unpack(">2xI", self._exactly(6))[0])
        self._sock.sendall(wire.associate_accept(wire.TRANSFER_SYNTAX, longest))
        response = wire.store_response()
        length = 0
        while taken := self._next(length):
            length = taken
            self._finish()
            self._sock.sendall(response)
        self._sock.sendall(wire.RELEASE_REPLY)

    def _exactly(self, length: int) -> bytes:
        data = self._sock.recv(length, socket.MSG_WAITALL)
        if len(data) < length:
            raise EOFError
        return data

    def _next(self, length: int) -> int:
        """Take one message of this length, or of one to be found out; returns its length, 0 at a release."""
        first = self._sock.recv_into(self._buffer, min(length, PIECE) or 6, 0 if length else socket.MSG_WAITALL)
        if not first:
            raise EOFError
        if self._buffer[0] != wire.DATA:
            return 0
        self._count += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(f"{self._folder}/{self._count}.part", flags, 0o444)
        os.write(self._fd, self._buffer[:first])
        if not length:
            return self._find_out()
        left = length - first
        while left:
            got = self._sock.recv_into(self._buffer, min(left, PIECE))
            if not got:
                raise EOFError
            os.write(self._fd, self._buffer[:got])
            left -= got
        return length

    def _find_out(self) -> int:
        """The rest of a message of which the first 6 bytes are there, by its PDU headers."""
        header, total = bytes(self._buffer[:6]), 6
        while True:
            body = self._exactly(wire.HEADER.unpack(header)[1])
            os.write(self._fd, body)
            total += len(body)
            if wire.is_last_of_dataset(body[5]):
                return total
            header = self._exactly(6)
            os.write(self._fd, header)
            total += 6

    def _finish(self) -> None:
        if self._durable:
            os.fsync(self._fd)
        os.close(self._fd)
        os.rename(f"{self._folder}/{self._count}.part", f"{self._folder}/{self._count}.dcm")
        if self._durable:
            os.fsync(self._directory)


def main() -> None:
    """Listen until ended; one child for each association."""
    port, folder, durable, longest = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "1", int(sys.argv[4])
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    number = 0
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number += 1
        if os.fork() == 0:
            try:
                listener.close()
                Raw(sock, folder / str(number), durable).serve(longest)
            except (OSError, EOFError):
                os._exit(1)
            os._exit(0)
        sock.close()


if __name__ == "__main__":
    main()
