"""Certificates for tests: a CA, what it issues, and all that can be wrong with one, as PEM files in a folder."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from magickbox.tlsfiles import TlsFiles

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
TODAY = datetime.now(UTC)
HERE = (x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1")))


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as objects and as files."""

    certificate: x509.Certificate
    private: Key
    pem: Path
    key: Path


def new_rsa_key() -> rsa.RSAPrivateKey:
    """A key as most stations have it."""
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Authority:
    """A CA that writes what it issues into a folder."""

    folder: Path
    pair: Pair

    @property
    def pem(self) -> Path:
        """Its own certificate."""
        return self.pair.pem

    def issue(
        self,
        name: str,
        file: str = "",
        *,
        days: tuple[float, float] = (-1, 365),
        private: Key | None = None,
        purpose: x509.ObjectIdentifier | None = None,
        hosts: tuple[x509.GeneralName, ...] = HERE,
    ) -> Pair:
        """A certificate for ``name`` on ``hosts``, valid from and until so many days from now."""
        return write(self.folder, file or name, name, private or new_key(), days, self.pair, purpose, hosts)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key that is made quickly."""
    return ec.generate_private_key(ec.SECP256R1())


def authority(folder: Path, name: str = "Test CA", days: tuple[float, float] = (-1, 3650)) -> Authority:
    """A new CA; ``folder`` is made if it is not there."""
    folder.mkdir(exist_ok=True)
    return Authority(folder, write(folder, name.replace(" ", "-"), name, new_key(), days, None, None))


def write(
    folder: Path,
    file: str,
    name: str,
    private: Key,
    days: tuple[float, float],
    issuer: Pair | None,
    purpose: x509.ObjectIdentifier | None,
    hosts: tuple[x509.GeneralName, ...] = HERE,
) -> Pair:
    """Make and write one certificate; self-signed and a CA if there is no issuer."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(TODAY + timedelta(days=days[0]))
        .not_valid_after(TODAY + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    certificate = builder.sign(issuer.private if issuer else private, hashes.SHA256())
    pem, key = folder / f"{file}.pem", folder / f"{file}.key"
    pem.write_bytes(certificate.public_bytes(Encoding.PEM))
    write_key(key, private)
    return Pair(certificate, private, pem, key)


def write_key(path: Path, private: Key, phrase: bytes | None = None) -> Path:
    """A key as PEM, encrypted if there is a pass phrase."""
    encryption: KeySerializationEncryption = BestAvailableEncryption(phrase) if phrase else NoEncryption()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)
    return path


def files(pair: Pair, ca: Path | None = None, client_certificates: str = "off") -> TlsFiles:
    """What a port is told."""
    return TlsFiles(str(pair.pem), str(pair.key), None if ca is None else str(ca), client_certificates)


SERVER_ONLY, CLIENT_ONLY = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
