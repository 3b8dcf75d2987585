"""A hook that is an address on the web: one HTTP POST of JSON, no redirects, with a limit on the whole of it."""

import base64
import http.client
import socket
import ssl
import threading
from contextlib import suppress
from urllib.parse import SplitResult, unquote, urlsplit

LIMIT = 10.0


class Webhook:
    """POSTs to an http or https URL; ``limit`` is in seconds and holds for everything after the name is resolved."""

    def __init__(self, url: str, limit: float = LIMIT) -> None:
        self._url = urlsplit(url)
        self._limit = limit
        self._connection: http.client.HTTPConnection | None = None
        self.name = f"webhook {self._url.hostname}"

    def __repr__(self) -> str:
        """Without its path, which may be a secret."""
        return f"<{self.name}>"

    def tell(self, facts: bytes) -> str | None:
        """POST the facts; a status from 200 to 299 means that they were taken."""
        connection = self._connection = self._new_connection()
        late = threading.Event()
        guard = threading.Timer(self._limit, _cut, (connection, late))
        guard.daemon = True
        guard.start()
        try:
            connection.request("POST", self._target(), facts, self._headers())
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as exc:
            if late.is_set() or isinstance(exc, TimeoutError):
                return f"no answer within {self._limit:g} s"
            return (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__
        finally:
            guard.cancel()
            connection.close()
        return None if 200 <= status < 300 else f"it answered HTTP {status}"

    def end(self) -> None:
        """Close the connection that is open now."""
        if self._connection is not None:
            _cut(self._connection, threading.Event())

    def _new_connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._limit, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=self._limit)

    def _target(self) -> str:
        return SplitResult("", "", self._url.path or "/", self._url.query, "").geturl()

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "magickbox"}
        if self._url.username is not None:
            pair = f"{unquote(self._url.username)}:{unquote(self._url.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return headers


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """End a connection from beside, and say so: an answer that drips must not hold its reader for ever."""
    late.set()
    sock: socket.socket | None = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
