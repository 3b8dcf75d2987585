"""Which files TLS is made of, as the settings name them: plain words, cheap to hand to another process as JSON."""

from dataclasses import dataclass
from pathlib import Path

from magickbox.config import Settings
from magickbox.errors import ConfigError

OFF, OPTIONAL, REQUIRED = "off", "optional", "required"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files by their paths. ``client_certificates`` is off, optional or required; the last two need ``ca``."""

    certificate: str
    key: str
    ca: str | None = None
    client_certificates: str = OFF

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that is used."""
        return tuple(path for path in (self.certificate, self.key, self.ca) if path is not None)


def tls_files(settings: Settings, root: Path) -> TlsFiles | None:
    """What the settings ask for, or None without ``tls_port``; relative paths count from the data folder ``root``.

    Raises ConfigError with a line for each setting that is missing. The files themselves are not looked at.
    """
    if settings.tls_port is None:
        return None
    needed = {"tls_certificate": settings.tls_certificate, "tls_key": settings.tls_key}
    missing = [f"tls_port is set, {name} is not" for name, path in needed.items() if path is None]
    if settings.client_certificates != OFF and settings.tls_ca is None:
        missing.append(f"client_certificates is {settings.client_certificates}, tls_ca is not set")
    if settings.port and settings.port == settings.tls_port:
        missing.append(f"port and tls_port are both {settings.port}")
    if missing or settings.tls_certificate is None or settings.tls_key is None:
        raise ConfigError("\n".join(missing))
    ca = None if settings.tls_ca is None else str(root / settings.tls_ca)
    certificate, key = str(root / settings.tls_certificate), str(root / settings.tls_key)
    return TlsFiles(certificate, key, ca, settings.client_certificates)
