"""TLS on the listening side, by the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12).

TLS 1.2 and 1.3 only; of 1.2 the four cipher suites that RFC 9325, 4.2 recommends; no compression, no renegotiation.
"""

import os
import socket as sockets
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from magickbox.errors import ConfigError
from magickbox.tlsfiles import OFF, REQUIRED, TlsFiles

if TYPE_CHECKING:
    from magickbox.certificates import Examined

_CIPHERS = ":".join(
    f"ECDHE-{kind}-{cipher}" for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256") for kind in ("ECDSA", "RSA")
)
_LOOK_EVERY = 1.0
_LONGEST_NAME = 64  # ub-common-name, RFC 5280 appendix A

Told = Callable[[str, str], None]


def _silent(_level: str, _text: str) -> None:
    pass


class TlsSocket(ssl.SSLSocket):
    """A TLS connection that can be read and ended as a plain socket can."""

    def shutdown(self, how: int) -> None:
        """As for a plain socket; where only this side has no more to say, the peer is told so (RFC 8446, 6.1)."""
        if how == sockets.SHUT_WR:
            wait = self.gettimeout()
            self.settimeout(0)
            with suppress(OSError, ValueError):
                self.unwrap()
            self.settimeout(wait)
        # Past SSLSocket.shutdown: that takes the TLS state away from a thread that may be reading.
        sockets.socket.shutdown(self, how)

    def common_name(self) -> str | None:
        """The subject's common name in the certificate that the peer presented and that was verified, if any."""
        subject = cast(tuple[tuple[tuple[str, str], ...], ...], (self.getpeercert() or {}).get("subject", ()))
        names = [value for part in subject for key, value in part if key == "commonName"]
        return str(names[-1])[:_LONGEST_NAME] if names else None


class ServerTls:
    """A context of TLS from the files, made anew when they change; a bad change leaves the last good one.

    ``told(level, text)`` hears of every change. Safe to use from any thread.
    """

    def __init__(self, files: TlsFiles, told: Told = _silent) -> None:
        """Read the files; raises ConfigError, a line for each thing that is wrong."""
        self._files, self._told = files, told
        self._stamps = _stamps(files)
        self._context, _ = _make(files)
        self._looked = time.monotonic()
        self._looking = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """The context for a new connection; looks at the files first, at most once a second."""
        if self._looking.acquire(blocking=False):  # who comes while another one looks does not wait for a slow disk
            try:
                if time.monotonic() - self._looked >= _LOOK_EVERY:
                    self._look()
            finally:
                self._looking.release()
        return self._context

    def tell_expiry(self) -> None:
        """Tell of a certificate that has expired or soon will, and of what else is to be said of the files."""
        for text in self.notes():
            self._told("warning", text)

    def notes(self) -> tuple[str, ...]:
        """What ``tell_expiry`` would tell now."""
        examined = _examine(self._files)
        return (*examined.problems, *examined.notes)

    def wrap(self, raw: sockets.socket) -> TlsSocket:
        """Take a connected socket over, before its handshake, which is the caller's; raises OSError."""
        wrapped = self.context().wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        assert isinstance(wrapped, TlsSocket)
        return wrapped

    def _look(self) -> None:
        self._looked, stamps = time.monotonic(), _stamps(self._files)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._context, summary = _make(self._files)
        except ConfigError as exc:
            why = "; ".join(str(exc).splitlines())
            self._told("error", f"the files of TLS have changed and cannot be used, the last good ones stay: {why}")
        else:
            self._told("info", f"the files of TLS were read again: {summary}")


def _stamps(files: TlsFiles) -> list[tuple[int, int, int] | None]:
    return [_stamp(path) for path in files.paths]


def _stamp(path: str) -> tuple[int, int, int] | None:
    with suppress(OSError, ValueError):
        found = os.stat(path)
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None


def _examine(files: TlsFiles) -> "Examined":
    from magickbox.certificates import examine  # 17 MB, which a box without TLS need not have

    return examine(files)


def _make(files: TlsFiles) -> tuple[ssl.SSLContext, str]:
    examined = _examine(files)
    if examined.problems:
        raise ConfigError("\n".join(examined.problems))
    try:
        return _context(files), examined.summary
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        why = getattr(exc, "reason", None) or exc
        raise ConfigError(f"tls_certificate: {files.certificate} and its key cannot be used: {why}") from None


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS + ":@SECLEVEL=2")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.load_cert_chain(files.certificate, files.key, password="")  # none: or OpenSSL asks the terminal
    if files.client_certificates != OFF:
        context.verify_mode = ssl.CERT_REQUIRED if files.client_certificates == REQUIRED else ssl.CERT_OPTIONAL
        context.load_verify_locations(files.ca)
    return context


def try_out(files: TlsFiles) -> "Examined":
    """What keeps the files from being used, OpenSSL's own reasons too, and what else is to be said of them."""
    try:
        _make(files)
    except ConfigError as exc:
        return replace(_examine(files), problems=tuple(str(exc).splitlines()))
    return _examine(files)
