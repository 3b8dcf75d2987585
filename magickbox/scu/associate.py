"""Opens an association with a destination as its requestor, or says why that did not work."""

import socket
import ssl
from collections.abc import Sequence

from magickbox.destination import DicomDestination, Retry, Tls
from magickbox.errors import ConfigError, PeerError
from magickbox.scu.pdu import Context
from magickbox.scu.upperlayer import Association, Registry, Timeouts, words_of
from magickbox.tlsclient import words_of_tls, wrap


def associate(
    destination: DicomDestination, contexts: Sequence[Context], timeouts: Timeouts, registry: Registry
) -> Association | Retry:
    """Open an association that proposes these contexts, or say why it may work at another time.

    Every reject is passing, even a permanent one: an administrator mends it in the morning.
    """
    sock = _connect(destination, timeouts.connect)
    if isinstance(sock, Retry):
        return sock
    association = Association(sock, timeouts, registry)
    try:
        association.negotiate(destination, contexts)
    except PeerError as exc:
        association.abort()
        association.close()
        return Retry(str(exc), answered=association.answered)
    return association


def _connect(destination: DicomDestination, timeout: float) -> socket.socket | Retry:
    host, port = destination.host, destination.port
    if not host:  # which the system would take for this machine
        return Retry("the address of the original's sender is not known")
    try:
        if not 0 < port < 0x10000:  # the resolver would take it modulo 65536, and call somebody else
            raise OverflowError
        sock = socket.create_connection((host, port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each message waits 40 ms for an ACK
    except socket.gaierror as exc:
        return Retry(f"the host name '{host}' does not resolve: {words_of(exc)}")
    except (ValueError, OverflowError):  # not even a name: an empty label, a NUL, a port out of range
        return Retry(f"'{host}:{port}' is not a name and a port that can be called")
    except TimeoutError:
        return Retry(f"no connection to {host}:{port} within {timeout:g} s")
    except ConnectionRefusedError:
        return Retry(f"connection refused: nothing listens on {host}:{port}")
    except OSError as exc:
        return Retry(f"no connection to {host}:{port}: {words_of(exc)}")
    return sock if destination.tls is None else _secure(sock, destination, destination.tls)


def _secure(sock: socket.socket, destination: DicomDestination, tls: Tls) -> socket.socket | Retry:
    """The connection under TLS, or why there is none: also what is wrong on our side is mended while we wait."""
    try:
        return wrap(sock, tls, destination.host)
    except ConfigError as exc:
        why = str(exc)
    except ssl.SSLError as exc:
        why = words_of_tls(exc)
    except TimeoutError:
        why = f"no TLS within {sock.gettimeout():g} s"
    except (OSError, ValueError) as exc:
        why = f"TLS could not begin: {words_of(exc) if isinstance(exc, OSError) else exc}"
    sock.close()
    return Retry(f"{destination.host}:{destination.port}: {why}")
