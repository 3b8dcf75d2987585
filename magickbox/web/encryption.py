"""TLS of the window, as the DICOM port has it: 1.2 and 1.3 by RFC 9325."""

import ssl
from pathlib import Path

from magickbox.config import Settings
from magickbox.errors import ConfigError
from magickbox.tls import ServerTls, Told, try_out
from magickbox.tlsfiles import OFF, TlsFiles


def files_of(settings: Settings, root: Path) -> TlsFiles | None:
    """The files that the settings name, relative ones below ``root``; None without TLS; raises ConfigError."""
    certificate, key = settings.web_certificate, settings.web_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("web_certificate and web_key: both or neither must be given")
    return TlsFiles(str(root / certificate), str(root / key), None, OFF)


def context_of(settings: Settings, root: Path, told: Told = lambda _level, _text: None) -> ssl.SSLContext | None:
    """A context from the files; None without TLS; raises ConfigError, a line for each thing that is wrong.

    Files that change are taken up for new connections, without a restart; ``told(level, text)`` hears of it.
    """
    files = files_of(settings, root)
    if files is None:
        return None
    try:
        tls = ServerTls(files, lambda level, text: told(level, _as_ours(text)))
    except ConfigError as exc:
        raise ConfigError(_as_ours(str(exc))) from None
    first = tls.context()

    def renew(connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        connection.context = tls.context()

    first.sni_callback = renew  # called at each handshake, also for a client that names no host
    return first


def problems_of(settings: Settings, root: Path) -> list[str]:
    """What is wrong with the files."""
    try:
        files = files_of(settings, root)
    except ConfigError as exc:
        return [str(exc)]
    return [] if files is None else [_as_ours(problem) for problem in try_out(files).problems]


def _as_ours(problem: str) -> str:
    """A sentence about the files of the DICOM port, with the names of the window's settings."""
    return problem.replace("tls_certificate", "web_certificate").replace("tls_key", "web_key")
