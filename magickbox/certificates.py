"""What is wrong with the files of TLS, in words: they are looked at before OpenSSL, whose errors name no file.

Reading a certificate's dates is the reason for the package ``cryptography``: the interpreter's own ssl module tells
them only of a peer's certificate. It is imported by those who use TLS only, since it takes 17 MB of memory.
"""

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate, ExtendedKeyUsage, ExtensionNotFound, NameOID, load_pem_x509_certificates
from cryptography.x509.oid import ExtendedKeyUsageOID

from magickbox.clock import now
from magickbox.errors import ConfigError
from magickbox.tlsfiles import OFF, TlsFiles

T = TypeVar("T")

SOON = 30
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)
_CANNOT = (ValueError, TypeError, UnsupportedAlgorithm)


@dataclass(frozen=True)
class Examined:
    """What was found: ``problems`` keep the files from being used, ``notes`` do not; ``summary`` tells of good ones."""

    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    summary: str = ""


def examine(files: TlsFiles, moment: datetime | None = None) -> Examined:
    """Look at all files of TLS as of ``moment`` (now); never raises."""
    at = moment or now()
    problems: list[str] = []
    chain = _try(problems, lambda: _certificates("tls_certificate", files.certificate))
    public = _try(problems, lambda: _public_of_key(files.key))
    if files.client_certificates != OFF and files.ca is None:
        problems.append(f"client_certificates is {files.client_certificates}, tls_ca is not set")
    authorities = None if files.ca is None else _try(problems, lambda: _certificates("tls_ca", str(files.ca)))
    notes = _notes_on_key(files.key)
    summary = ""
    if chain:
        _try(problems, lambda: _must_be_valid(f"tls_certificate: {files.certificate}", chain[0], at))
        notes += _notes_on_dates(files.certificate, chain, at) + _notes_on_purpose(files.certificate, chain[0])
        summary = f"{files.certificate}: {common_name(chain[0])}, valid until {_day(chain[0].not_valid_after_utc)}"
    if chain and public:
        _try(problems, lambda: _must_match(files, chain, public))
    if authorities:
        _try(problems, lambda: _one_must_be_valid(str(files.ca), authorities, at))
    return Examined(tuple(problems), tuple(notes), summary)


def common_name(certificate: Certificate) -> str:
    """The subject's common name, or its whole name if it has none."""
    with suppress(*_CANNOT):
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else certificate.subject.rfc4514_string() or "no name"
    return "a name that cannot be read"


def _try(problems: list[str], look: Callable[[], T]) -> T | None:
    try:
        return look()
    except ConfigError as exc:
        problems.append(str(exc))
        return None


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{setting}: {path}: there is no such file") from None
    except PermissionError:
        raise ConfigError(f"{setting}: {path} cannot be read by this user (uid {os.geteuid()})") from None
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{setting}: {path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from None


def _certificates(setting: str, path: str) -> list[Certificate]:
    data = _read(setting, path)
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ConfigError(f"{setting}: {path} has no certificate in PEM{_what_it_is(data)}")
    try:
        return load_pem_x509_certificates(data)
    except _CANNOT as exc:
        raise ConfigError(f"{setting}: {path} has a damaged certificate: {exc}") from None


def _public_of_key(path: str) -> bytes:
    """The public half of the private key, as bytes that can be compared."""
    data = _read("tls_key", path)
    if b"ENCRYPTED" in data:
        cure = f"openssl pkey -in {path} -out NEW writes it without one"
        raise ConfigError(f"tls_key: {path} is encrypted with a pass phrase, which nobody can type at a start; {cure}")
    found = _KEY.search(data)
    if found is None:
        raise ConfigError(f"tls_key: {path} has no private key in PEM{_what_it_is(data)}")
    try:
        key = load_pem_private_key(found[0] + b"\n", None)
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except _CANNOT as exc:
        raise ConfigError(
            f"tls_key: {path} has a damaged private key, or one of a kind that is not known: {exc}"
        ) from None


def _what_it_is(data: bytes) -> str:
    if not data.strip():
        return ": it is empty"
    if data[:1] == b"\x30":
        return ": it looks like DER or PKCS#12 (openssl x509, pkey or pkcs12 make PEM of it)"
    for kind in (b"PRIVATE KEY", b"CERTIFICATE REQUEST", b"CERTIFICATE"):
        if b"-----BEGIN " in data and kind + b"-----" in data:
            return f": it has a {kind.decode().casefold()}"
    return ""


def _public_of(certificate: Certificate) -> bytes:
    with suppress(*_CANNOT):
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b""


def _must_match(files: TlsFiles, chain: list[Certificate], public: bytes) -> None:
    numbers = [n for n, certificate in enumerate(chain, 1) if _public_of(certificate) == public]
    if not numbers:
        raise ConfigError(f"tls_key: {files.key} does not belong to the certificate in {files.certificate}")
    if numbers[0] != 1:
        told = f"certificate {numbers[0]} of {files.certificate}: the box's own must be the first one in it"
        raise ConfigError(f"tls_key: {files.key} belongs to {told}")


def _must_be_valid(what: str, certificate: Certificate, at: datetime) -> None:
    if at > certificate.not_valid_after_utc:
        raise ConfigError(f"{what} expired on {_day(certificate.not_valid_after_utc)}")
    if at < certificate.not_valid_before_utc:
        raise ConfigError(f"{what} is not valid before {_day(certificate.not_valid_before_utc)}; is the clock right?")


def _one_must_be_valid(path: str, authorities: list[Certificate], at: datetime) -> None:
    """Raise what is wrong with the last one if none of them is valid."""
    wrong: list[str] = []
    for each in authorities:
        _try(wrong, lambda each=each: _must_be_valid(f"tls_ca: {path}", each, at))  # type: ignore[misc]
    if len(wrong) == len(authorities):
        raise ConfigError(wrong[-1])


def _notes_on_dates(path: str, chain: list[Certificate], at: datetime) -> list[str]:
    notes = []
    for number, certificate in enumerate(chain, 1):
        what = f"tls_certificate: {path}" if number == 1 else f"tls_certificate: certificate {number} of {path}"
        left = (certificate.not_valid_after_utc - at).days
        if 0 <= left < SOON:
            notes.append(f"{what} expires in {left} days, on {_day(certificate.not_valid_after_utc)}")
        elif left < 0 and number > 1:
            notes.append(f"{what} expired on {_day(certificate.not_valid_after_utc)}")
    return notes


def _notes_on_purpose(path: str, certificate: Certificate) -> list[str]:
    with suppress(ExtensionNotFound, *_CANNOT):
        purposes = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
        if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes):
            return [f"tls_certificate: {path} is not one for servers (extended key usage): many peers will refuse it"]
    return []


def _notes_on_key(path: str) -> list[str]:
    with suppress(OSError, ValueError):
        mode = stat.S_IMODE(Path(path).stat().st_mode)
        if mode & stat.S_IROTH:
            return [f"tls_key: {path} can be read by everybody on this machine: chmod 600 {path}"]
    return []


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
