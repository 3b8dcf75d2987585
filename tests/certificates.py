"""Certificates for tests of the calling side, made by OpenSSL's command line: an authority, and what it signs."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, as PEM files."""

    pem: Path
    key: Path


def _openssl(*words: object) -> None:
    program = shutil.which("openssl")
    if program is None and os.environ.get("CI", "").casefold() == "true":
        pytest.fail("openssl is not installed, and CI has to have it")
    if program is None:
        pytest.skip("openssl is not installed")
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Authority:
    """Somebody who signs certificates."""

    folder: Path
    ca: Signed

    def sign(self, name: str, *, san: str = "IP:127.0.0.1,DNS:localhost", days: int = 2) -> Signed:
        """A certificate for these names, from today on for so many days; expired if they are negative."""
        key, pem = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={san}\n")
        _new_key(key)
        _openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
        by = ("-CA", self.ca.pem, "-CAkey", self.ca.key, "-days", days, "-extfile", extensions)
        _openssl("x509", "-req", "-in", request, *by, "-out", pem)
        return Signed(pem, key)

    def sealed(self, signed: Signed, password: str) -> Path:
        """The key again, encrypted."""
        path = signed.key.with_suffix(".sealed")
        _openssl("pkey", "-in", signed.key, "-aes256", "-passout", f"pass:{password}", "-out", path)
        return path


def authority(folder: Path, name: str = "Test CA") -> Authority:
    """A new authority in a new folder."""
    folder.mkdir()
    key, pem = folder / "ca.key", folder / "ca.pem"
    _new_key(key)
    more = ("-addext", "basicConstraints=critical,CA:TRUE")
    _openssl("req", "-x509", "-new", "-key", key, "-subj", f"/CN={name}", "-days", 2, "-out", pem, *more)
    return Authority(folder, Signed(pem, key))


def _new_key(path: Path) -> None:
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
