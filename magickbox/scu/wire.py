"""The socket of an association that the box opened: it never blocks, and every wait has its limit.

What can go out goes at once, however many PDUs it is; only when the peer's window is full, or nothing has come yet, is
there a call that waits.
"""

import select
import socket
import ssl
import time

_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_PIECE = 16 * 1024  # more than any response


class Dripping(Exception):
    """The peer takes something now and then, but would need days for an image."""


class Wire:
    """Bytes of one association. ``write`` is how long the peer may take nothing, in seconds.

    A message that takes longer than that has to go at ``slowest`` bytes/s on average.
    """

    def __init__(self, sock: socket.socket, write: float, slowest: float) -> None:
        sock.setblocking(False)
        self._sock, self._write, self._slowest = sock, write, slowest
        self._coming, self._going = select.poll(), select.poll()
        self._coming.register(sock, select.POLLIN)
        self._going.register(sock, select.POLLOUT)
        self._come = b""
        self._sent, self._began = 0, 0.0

    def begin(self) -> None:
        """A message begins."""
        self._sent, self._began = 0, time.monotonic()

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it; raises OSError, TimeoutError if the peer takes nothing for too long, Dripping."""
        left = memoryview(data)
        while left:
            try:
                sent = self._sock.send(left)
            except _NOT_YET as exc:
                self._wait_to_send(exc)
                continue
            self._sent += sent
            left = left[sent:]

    def _wait_to_send(self, why: OSError) -> None:
        taken = time.monotonic() - self._began
        if taken > self._write and self._sent / taken < self._slowest:
            raise Dripping
        poll = self._coming if isinstance(why, ssl.SSLWantReadError) else self._going
        if not poll.poll(self._write * 1000):
            raise TimeoutError

    def read(self, length: int, deadline: float) -> bytes:
        """The next ``length`` bytes; raises OSError, TimeoutError after ``deadline`` (monotonic), EOFError.

        What has come of them until the end stays, and ``is_in_part`` says so.
        """
        come = self._come
        if len(come) < length:
            pieces, there = [come], len(come)
            while there < length:
                try:
                    pieces.append(self._receive(deadline))
                except EOFError:
                    self._come = b"".join(pieces)
                    raise
                there += len(pieces[-1])
            come = b"".join(pieces)
        self._come = come[length:]
        return come[:length]

    def _receive(self, deadline: float) -> bytes:
        while True:
            if time.monotonic() > deadline:  # also if it never stops talking
                raise TimeoutError
            try:
                piece = self._sock.recv(_PIECE)
            except _NOT_YET as exc:
                self._wait_to_read(exc, deadline)
                continue
            if not piece:
                raise EOFError
            return piece

    def _wait_to_read(self, why: OSError, deadline: float) -> None:
        left = deadline - time.monotonic()
        poll = self._going if isinstance(why, ssl.SSLWantWriteError) else self._coming
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError

    @property
    def is_in_part(self) -> bool:
        """True if something has come that was not read."""
        return bool(self._come)

    @property
    def is_quiet(self) -> bool:
        """True if the peer has said nothing that was not read, and has not ended it."""
        in_tls = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        return not (self._come or in_tls or self._coming.poll(0))

    def at_hand(self) -> bytes:
        """What has come and was not read, without waiting; raises OSError."""
        try:
            return self._come + self._sock.recv(_PIECE)
        except _NOT_YET:
            return self._come
