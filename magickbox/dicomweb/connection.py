"""One HTTP/1.1 connection to a server: requests streamed from disk, answers bounded in size and time.

The standard library's client reads and writes HTTP; what it leaves open is bounded here: an answer has one time limit
from its first byte to its last, and no more of it is read than is looked at. Redirects are never followed.
"""

import email.utils
import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from magickbox.clock import now
from magickbox.destination import Line, Tls
from magickbox.dicomweb.answer import Answer
from magickbox.errors import ConfigError, PeerError
from magickbox.tlsclient import words_of_tls, wrap

LONGEST_WAIT = 24 * 60 * 60.0


@dataclass(frozen=True)
class Limits:
    """Seconds for the connection, each piece written, and the whole answer; the bytes of it that are read at most.

    A request that takes longer than one piece may has to go at ``slowest`` bytes/s on average.
    """

    connect: float = 10.0
    write: float = 60.0
    response: float = 120.0
    largest: int = 1024 * 1024
    slowest: float = 0.0

    def on(self, line: Line) -> "Limits":
        """These, with what is said of a destination's line."""
        write, response = (self.write, self.response) if line.stall is None else (line.stall, line.stall)
        slowest = self.slowest if line.least_speed is None else line.least_speed
        return replace(self, write=write, response=response, slowest=slowest)


class Broken(PeerError):
    """The connection ended before any answer came; ``reused`` says that it had served before, and may just be old."""

    def __init__(self, words: str, reused: bool) -> None:
        """Keep both."""
        super().__init__(words)
        self.reused = reused


class _InTime(io.RawIOBase):
    """A socket's bytes until a deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


class _Source:
    """What http.client takes for a socket when it reads an answer."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._raw = _InTime(sock, deadline)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._raw)


class Connection:
    """Used by one thread; ``abort`` may come from any. Methods raise PeerError when the peer or the network ends it."""

    def __init__(self, url: str, tls: Tls | None, limits: Limits) -> None:
        """Connect; raises PeerError with a sentence."""
        self._limits = limits
        self._served = 0
        self._ending = threading.Lock()
        self._aborted = False
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        self._sock = _connect(host, port, limits.connect)
        if secure:
            self._sock = _secure(self._sock, tls or Tls(), host, port, limits.connect)
        self._host = parts.netloc
        self.is_open = True

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Ask for a resource."""
        return self._request("GET", path, headers, iter(()))

    def post(self, path: str, headers: Mapping[str, str], pieces: Iterator[memoryview]) -> Answer:
        """Send a request with this body and read its answer."""
        return self._request("POST", path, headers, pieces)

    def _request(self, method: str, path: str, headers: Mapping[str, str], pieces: Iterator[memoryview]) -> Answer:
        try:
            return self._exchange(method, path, headers, pieces)
        except PeerError:
            raise
        except TimeoutError:
            raise self._broken(f"no answer within {self._limits.response:g} s", said=True) from None
        except http.client.RemoteDisconnected:
            raise self._broken("the server closed the connection before it answered") from None
        except (http.client.HTTPException, ValueError) as exc:
            raise self._broken(f"the answer is not HTTP: {type(exc).__name__}", said=True) from None
        except OSError as exc:
            raise self._broken(f"the connection broke: {_words(exc)}") from None
        except BaseException:
            self.close()
            raise

    def _exchange(self, method: str, path: str, headers: Mapping[str, str], pieces: Iterator[memoryview]) -> Answer:
        told = (f"{name}: {text}" for name, text in headers.items())
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", *told]
        cut_short = self._send("\r\n".join([*lines, "", ""]).encode("ascii"), pieces)
        deadline = time.monotonic() + self._limits.response
        response = http.client.HTTPResponse(_Source(self._sock, deadline), method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read(self._limits.largest + 1)
        answer = _answer(response, body, self._limits.largest)
        if response.length and not answer.cut_off:
            raise self._broken("the server closed the connection in the middle of its answer", said=True)
        self._served += 1
        if cut_short or answer.cut_off or response.will_close or not response.isclosed():
            self.close()
        return answer

    def _send(self, head: bytes, pieces: Iterator[memoryview]) -> bool:
        """Send a request; True if the server answered before it had all of it."""
        self._sock.settimeout(self._limits.write)
        began, sent = time.monotonic(), 0
        try:
            self._sock.sendall(head)
            for piece in pieces:
                if self._has_answered():
                    return True
                self._sock.sendall(piece)
                sent += len(piece)
                taken = time.monotonic() - began
                if taken > self._limits.write and sent / taken < self._limits.slowest:
                    raise self._broken(f"the server takes less than {self._limits.slowest:g} bytes/s", said=True)
        except TimeoutError:
            raise self._broken(f"the server took nothing for {self._limits.write:g} s", said=True) from None
        except (BrokenPipeError, ConnectionResetError):
            if self._aborted:
                raise
            return True  # it may have said why before it closed
        return False

    def _has_answered(self) -> bool:
        """True if something can be read; under TLS that may be anything, and says nothing."""
        if isinstance(self._sock, ssl.SSLSocket):
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def _broken(self, words: str, said: bool = False) -> Broken:
        aborted = self._aborted
        self.close()
        return Broken("the box ended the connection" if aborted else words, self._served > 0 and not said)

    def abort(self) -> None:
        """End the connection at once, from any thread."""
        self._aborted = True
        self._hang_up()

    def _hang_up(self) -> None:
        with self._ending:
            self.is_open = False
            with suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; by the thread that uses it only."""
        self._hang_up()
        self._sock.close()


def _answer(response: http.client.HTTPResponse, body: bytes, largest: int) -> Answer:
    location = response.headers.get("Location") or ""
    after = _seconds(response.headers.get("Retry-After") or "")
    return Answer(response.status, body[:largest], len(body) > largest, location, after)


def _seconds(text: str) -> float | None:
    """Retry-After: seconds, or a date (RFC 9110 10.2.3); nonsense is no wish, and nobody may ask for years."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT)
    try:
        left = (email.utils.parsedate_to_datetime(text) - now()).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(left, 0.0), LONGEST_WAIT)


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    try:
        sock = socket.create_connection((host, port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except socket.gaierror as exc:
        raise PeerError(f"the host name '{host}' does not resolve: {_words(exc)}") from None
    except TimeoutError:
        raise PeerError(f"no connection to {host}:{port} within {timeout:g} s") from None
    except ConnectionRefusedError:
        raise PeerError(f"connection refused: nothing listens on {host}:{port}") from None
    except (OSError, ValueError) as exc:
        words = _words(exc) if isinstance(exc, OSError) else "not a name that can be called"
        raise PeerError(f"no connection to {host}:{port}: {words}") from None
    return sock


def _secure(sock: socket.socket, tls: Tls, host: str, port: int, timeout: float) -> ssl.SSLSocket:
    try:
        return wrap(sock, tls, host)
    except ConfigError as exc:
        why = str(exc)
    except TimeoutError:
        why = f"no TLS within {timeout:g} s"
    except (OSError, ValueError) as exc:
        why = _words(exc) if isinstance(exc, OSError) else str(exc)
        why = why if isinstance(exc, ssl.SSLError) else f"TLS could not begin: {why}"
    sock.close()
    raise PeerError(f"{host}:{port}: {why}")


def _words(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        return words_of_tls(exc)
    return exc.strerror or type(exc).__name__
