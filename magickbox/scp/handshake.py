"""The TLS handshake of one connection, in that connection's thread: bounded in time, and its failure told in words."""

import math
import select
import socket as sockets
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass

from magickbox.association import End
from magickbox.scp.stopping import Stopping
from magickbox.tls import ServerTls, TlsSocket

_LINGER, _PIECE = 0.5, 64 * 1024
_DICOM, _TLS = 0x01, 0x16  # A-ASSOCIATE-RQ (PS3.8 9.3.2), TLS handshake record (RFC 8446, 5.1)
# What X.509 verification says, as OpenSSL numbers it (openssl-verification-options(1)).
_UNVERIFIED = {
    9: "is not valid yet",
    10: "has expired",
    **dict.fromkeys((2, 18, 19, 20, 21), "is of none of the CAs in tls_ca"),
    26: "is not one for clients (extended key usage)",
}
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer presented no certificate, and client_certificates is required",
    "NO_SHARED_CIPHER": "the peer knows no cipher suite that BCP 195 recommends",
    "UNSUPPORTED_PROTOCOL": "the peer speaks nothing newer than TLS 1.1",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer wants another version of TLS",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know the CA of the box's certificate",
}


@dataclass(frozen=True)
class Failed:
    """No TLS: how the connection ends, and why."""

    how: End
    why: str


class _BoxStops(Exception):
    """The box stops."""


def shake_hands(raw: sockets.socket, tls: ServerTls, stop: Stopping, seconds: float) -> TlsSocket | Failed:
    """Carry the handshake through within ``seconds``. Takes ``raw`` over; its owner closes it if this fails."""
    deadline = time.monotonic() + seconds
    wrapped: TlsSocket | None = None
    try:
        foreign = _foreign(raw, stop, deadline)
        if foreign is not None:
            return Failed(End.ABORTED, foreign)
        wrapped = tls.wrap(raw)
        _finish(wrapped, stop, deadline)
        done, wrapped = wrapped, None
        return done
    except TimeoutError:
        return Failed(End.TIMEOUT, f"the TLS handshake was not over after {seconds:g} s")
    except _BoxStops:
        return Failed(End.STOPPED, "the box stops")
    except OSError as exc:
        if wrapped is not None and isinstance(exc, ssl.SSLError):
            _drain(wrapped)
        return _failure(exc)
    finally:
        if wrapped is not None:
            wrapped.close()


def says_tls(head: memoryview) -> bool:
    """True if what should be a PDU begins as a TLS handshake does."""
    return head[0] == _TLS and head[1] == 3


def _foreign(raw: sockets.socket, stop: Stopping, deadline: float) -> str | None:
    """What the peer speaks if that is not TLS; waits for its first byte."""
    first: bytes | None = None
    while first is None:
        _await(raw, select.POLLIN, stop, deadline)
        with suppress(BlockingIOError):
            first = raw.recv(1, sockets.MSG_PEEK | sockets.MSG_DONTWAIT)
    if not first:
        return "the connection was closed before the TLS handshake"
    if first[0] == _DICOM:
        return "plain DICOM on the TLS port: the peer must use TLS, or the other port"
    return None if first[0] == _TLS else "neither TLS nor DICOM on the TLS port"


def _finish(wrapped: TlsSocket, stop: Stopping, deadline: float) -> None:
    wait = wrapped.gettimeout()
    wrapped.settimeout(0)
    while True:
        try:
            wrapped.do_handshake()
            break
        except ssl.SSLWantReadError:
            _await(wrapped, select.POLLIN, stop, deadline)
        except ssl.SSLWantWriteError:
            _await(wrapped, select.POLLOUT, stop, deadline)
    wrapped.settimeout(wait)


def _await(sock: sockets.socket, event: int, stop: Stopping, deadline: float) -> None:
    """Wait for the socket; raises TimeoutError or _BoxStops."""
    poll = select.poll()
    poll.register(sock, event)
    poll.register(stop.fd, select.POLLIN)
    left = deadline - time.monotonic()
    ready = poll.poll(max(0, math.ceil(left * 1000)))
    if stop.is_set:
        raise _BoxStops
    if not ready or left <= 0:
        raise TimeoutError


def _drain(wrapped: TlsSocket) -> None:
    """Throw away what still comes: closing with unread bytes would take the alert with it that tells the peer why."""
    until = time.monotonic() + _LINGER
    with suppress(OSError):
        sockets.socket.shutdown(wrapped, sockets.SHUT_WR)
        while (left := until - time.monotonic()) > 0:
            wrapped.settimeout(left)
            if not sockets.socket.recv(wrapped, _PIECE):  # as it comes, without TLS
                break


def _failure(exc: OSError) -> Failed:
    if isinstance(exc, ssl.SSLCertVerificationError):
        said = _UNVERIFIED.get(exc.verify_code, f"is not accepted: {exc.verify_message}")
        return Failed(End.ABORTED, f"TLS: the peer's certificate {said}")
    if isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(exc, ssl.SSLError):
        return Failed(End.CLOSED, "the connection was closed in the middle of the TLS handshake")
    reason = exc.reason or "UNKNOWN"
    if "ALERT" in reason and "CERTIFICATE" in reason:
        said = f"the peer does not accept the box's certificate ({reason.casefold().replace('_', ' ')})"
    else:
        said = _REASONS.get(reason, f"the handshake failed: {reason.casefold().replace('_', ' ')}")
    return Failed(End.ABORTED, f"TLS: {said}")
