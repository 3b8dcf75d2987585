"""One listening socket: accepts connections and hands them over, and keeps them in the queue while nobody can."""

import select
import socket as sockets
import threading
import time
from collections.abc import Callable

from magickbox.scp.stopping import Stopping

_BACKLOG = 128
_PAUSE = 0.05
_TELL_EVERY = 60.0

Address = tuple[str, int]
HandOver = Callable[[sockets.socket, Address], None]


class Listener:
    """Listens from its making on, accepts from ``start`` to ``stop``.

    ``hand_over`` takes a connected socket over and closes it if it raises; OSError and RuntimeError (no more threads)
    end that connection only. While ``has_place`` says no, new connections are closed at once.
    """

    def __init__(
        self,
        host: str,
        port: int,
        hand_over: HandOver,
        has_place: Callable[[], bool],
        on_trouble: Callable[[str], None],
    ) -> None:
        """Bind and listen; raises OSError."""
        family, _, _, _, where = sockets.getaddrinfo(host, port, type=sockets.SOCK_STREAM, flags=sockets.AI_PASSIVE)[0]
        self._socket = sockets.create_server(where[:2], family=family, backlog=_BACKLOG)
        self._socket.setblocking(False)
        self._hand_over, self._has_place, self._on_trouble = hand_over, has_place, on_trouble
        self._tell_again = 0.0
        self._stopping = Stopping()
        self._thread = threading.Thread(target=self._run, name="port", daemon=True)

    @property
    def address(self) -> Address:
        """The host and port that are listened on."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Accept connections from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more, and close the port."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        self._stopping.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._stopping.fd, select.POLLIN)
        while not self._stopping.is_set:
            poll.poll()
            if not self._stopping.is_set:
                self._accept()

    def _tell_full(self, address: Address) -> None:
        if time.monotonic() >= self._tell_again:
            self._tell_again = time.monotonic() + _TELL_EVERY
            self._on_trouble(f"{address[0]}:{address[1]}: closed at once, far too many connections say nothing")

    def _accept(self) -> None:
        try:
            raw, where = self._socket.accept()
        except BlockingIOError:
            return  # who called has gone already
        except OSError:
            time.sleep(_PAUSE)  # out of descriptors: the connection stays in the queue, and this would spin
            return
        address = (str(where[0]).removeprefix("::ffff:"), int(where[1]))
        if not self._has_place():
            raw.close()
            self._tell_full(address)
            return
        try:
            raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)  # or each answer waits 40 ms for an ACK
            raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
            self._hand_over(raw, address)
        except (OSError, RuntimeError):
            raw.close()
            self._on_trouble(f"{address[0]}:{address[1]}: the connection could not be set up")
