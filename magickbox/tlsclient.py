"""TLS as the box uses it when it calls somebody (PS3.15 B.12: BCP 195, RFC 8996 and RFC 9325).

TLS 1.2 or newer, forward secrecy and authenticated encryption only; the other side's certificate is always checked.
"""

import os
import socket
import ssl
from collections.abc import Callable, Mapping

from magickbox.destination import Tls
from magickbox.errors import ConfigError
from magickbox.secret import reveal

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!DSS"  # of TLS 1.2; those of 1.3 are all good


def client_context(tls: Tls, environment: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """What a connection needs; reads the files, so that renewed ones count at once. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.check_hostname = tls.check_name
    if tls.ca:
        _read(tls.ca, lambda: context.load_verify_locations(tls.ca))
    else:
        context.load_default_certs()
    if tls.certificate:
        password = reveal(tls.key_password, environment).text if tls.key_password else ""
        # A password is always given: without one OpenSSL would ask for it at the terminal.
        files = f"{tls.certificate} and {tls.key or tls.certificate}"
        _read(files, lambda: context.load_cert_chain(tls.certificate, tls.key or None, password))
    return context


def _read(what: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as exc:
        why = (exc.reason or "not PEM, or a wrong password").replace("_", " ").lower()
        raise ConfigError(f"{what}: {why}") from None
    except OSError as exc:
        raise ConfigError(f"{what}: {exc.strerror}") from None
    except ValueError as exc:
        raise ConfigError(f"{what}: {exc}") from None


def wrap(sock: socket.socket, tls: Tls, host: str) -> ssl.SSLSocket:
    """Speak TLS on a connected socket, with its time limit; raises ConfigError, or OSError as sockets do."""
    return client_context(tls).wrap_socket(sock, server_hostname=tls.server_name or host)


def words_of_tls(exc: ssl.SSLError) -> str:
    """What went wrong with TLS, for a person."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {exc.verify_message}"
    return f"TLS failed: {(exc.reason or str(exc)).replace('_', ' ').lower()}"
