"""The socket of one connection: bytes come into one buffer and are read there in place, and leave with a time limit.

The socket never blocks. What is there is taken at once; only when nothing is there does the caller's ``wait`` run, so a
sender at full speed costs one system call for each piece that the kernel has, whatever the size of its PDUs.
"""

import select
import socket as sockets
import ssl
import time
from collections.abc import Callable

_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_LEAST_READ = 64 * 1024


class Wire:
    """Bytes of a connection. ``view[start:end]`` is what has come and was not yet read.

    ``wait`` returns when there is something to read, or raises. ``before_move`` is called before bytes that were read
    are overwritten, while ``lent`` is True: somebody still looks at them. ``send_limit`` is in seconds.
    """

    def __init__(self, raw: sockets.socket, size: int, send_limit: float) -> None:
        raw.setblocking(False)
        self._raw, self._size, self._send_limit = raw, size, send_limit
        self.view = memoryview(bytearray(size))
        self.start = self.end = 0
        self.lent = False
        self._in_part = False
        self.wait: Callable[[], None] = lambda: None
        self.before_move: Callable[[], None] = lambda: None

    def use(self, raw: sockets.socket) -> None:
        """Go on with the same connection as another socket: TLS has begun on it."""
        raw.setblocking(False)
        self._raw = raw

    @property
    def is_empty(self) -> bool:
        """True if everything that has come was read; not while a TLS record has come only in part."""
        return self.start == self.end and not self._in_part

    def have(self, need: int) -> None:
        """Have ``need`` bytes from ``start`` on; ``need`` is at most the buffer's size.

        Raises EOFError at the connection's end, OSError, and what ``wait`` raises.
        """
        while self.end - self.start < need:
            if self.start == self.end and not self.lent:
                self.start = self.end = 0
            if self._size - self.start < need or self._size - self.end < min(_LEAST_READ, self._size - need):
                self._move()
            self.end += self._receive(self.view[self.end :])

    def take(self, length: int) -> bytearray:
        """The next ``length`` bytes, however many, as a copy; raises as ``have``."""
        data = bytearray(length)
        there = min(length, self.end - self.start)
        data[:there] = self.view[self.start : self.start + there]
        self.start += there
        with memoryview(data) as rest:
            while there < length:
                there += self._receive(rest[there:])
        return data

    def _move(self) -> None:
        if self.lent:
            self.before_move()
        left = self.end - self.start
        self.view[:left] = bytes(self.view[self.start : self.end])
        self.start, self.end = 0, left

    def _receive(self, into: memoryview) -> int:
        waited = False
        while True:
            try:
                got = self._raw.recv_into(into)
            except _NOT_YET:
                self._in_part = waited  # something came, and still there is nothing to read
                self.wait()
                waited = True
                continue
            self._in_part = False
            if not got:
                raise EOFError
            return got

    def send(self, data: bytes) -> None:
        """Send all of it; raises OSError, TimeoutError if the peer takes nothing for ``send_limit`` seconds."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._raw.send(left) :]
            except _NOT_YET:
                self._wait_to_send()

    def _wait_to_send(self) -> None:
        poll = select.poll()
        poll.register(self._raw, select.POLLOUT)
        if not poll.poll(self._send_limit * 1000):
            raise TimeoutError("the peer does not read its answers")

    def linger(self, seconds: float) -> None:
        """Say that nothing more is sent, and throw away what still comes, for at most ``seconds``; raises OSError."""
        until = time.monotonic() + seconds
        self._raw.shutdown(sockets.SHUT_WR)
        while (left := until - time.monotonic()) > 0:
            self._raw.settimeout(left)
            if not self._raw.recv(_LEAST_READ):
                return
