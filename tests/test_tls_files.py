"""What is wrong with certificate, key and CA is said in words: by the files themselves, by ``check``, by ``serve``."""

import json
import os
import ssl
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pki
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from magickbox.cli.main import main
from magickbox.config import load
from magickbox.errors import ConfigError
from magickbox.settingvalues import Value
from magickbox.tls import ServerTls, try_out
from magickbox.tlsfiles import TlsFiles, tls_files

Change = Callable[[pki.Authority, pki.Pair], TlsFiles | None]


def _write(what: str, data: bytes) -> Change:
    def change(ca: pki.Authority, box: pki.Pair) -> None:
        {"certificate": box.pem, "key": box.key, "ca": ca.pem}[what].write_bytes(data)

    return change


def _remove(what: str) -> Change:
    def change(ca: pki.Authority, box: pki.Pair) -> None:
        {"certificate": box.pem, "key": box.key, "ca": ca.pem}[what].unlink()

    return change


def _other_key(ca: pki.Authority, box: pki.Pair) -> None:
    pki.write_key(box.key, pki.new_key())


def _encrypted(ca: pki.Authority, box: pki.Pair) -> None:
    pki.write_key(box.key, box.private, b"secret")


def _chain_upside_down(ca: pki.Authority, box: pki.Pair) -> None:
    box.pem.write_bytes(ca.pem.read_bytes() + box.pem.read_bytes())


def _in_der(ca: pki.Authority, box: pki.Pair) -> None:
    box.pem.write_bytes(box.certificate.public_bytes(Encoding.DER))


def _a_folder(ca: pki.Authority, box: pki.Pair) -> None:
    box.key.unlink()
    box.key.mkdir()


def _expired_ca(ca: pki.Authority, box: pki.Pair) -> TlsFiles:
    return pki.files(box, pki.authority(ca.folder, "Old CA", (-30, -1)).pem, "required")


def _no_ca(ca: pki.Authority, box: pki.Pair) -> TlsFiles:
    return pki.files(box, None, "required")


def _weak(ca: pki.Authority, box: pki.Pair) -> TlsFiles:
    weak = rsa.generate_private_key(65537, 1024)
    return pki.files(ca.issue("weak", private=weak))


BAD: dict[str, tuple[Change, str]] = {
    "no certificate": (_remove("certificate"), "tls_certificate: {box}.pem: there is no such file"),
    "no key": (_remove("key"), "tls_key: {box}.key: there is no such file"),
    "no CA": (_remove("ca"), "tls_ca: {ca}: there is no such file"),
    "a folder": (_a_folder, "tls_key: {box}.key cannot be read: Is a directory"),
    "a text": (_write("certificate", b"hello\n"), "tls_certificate: {box}.pem has no certificate in PEM"),
    "empty": (_write("key", b""), "tls_key: {box}.key has no private key in PEM: it is empty"),
    "DER": (_in_der, "tls_certificate: {box}.pem has no certificate in PEM: it looks like DER or PKCS#12"),
    "half a certificate": (
        _write("certificate", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
        "tls_certificate: {box}.pem has a damaged certificate",
    ),
    "half a key": (
        _write("key", b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"),
        "tls_key: {box}.key has a damaged private key",
    ),
    "a CA that is a text": (_write("ca", b"-"), "tls_ca: {ca} has no certificate in PEM"),
    "another key": (_other_key, "tls_key: {box}.key does not belong to the certificate in {box}.pem"),
    "the chain upside down": (
        _chain_upside_down,
        "belongs to certificate 2 of {box}.pem: the box's own must",
    ),
    "a pass phrase": (_encrypted, "tls_key: {box}.key is encrypted with a pass phrase"),
    "expired": (lambda ca, _: pki.files(ca.issue("old", days=(-9, -2))), "old.pem expired on 20"),
    "not yet valid": (lambda ca, _: pki.files(ca.issue("new", days=(2, 9))), "new.pem is not valid before 20"),
    "an expired CA": (_expired_ca, "Old-CA.pem expired on 20"),
    "no CA though required": (_no_ca, "client_certificates is required, tls_ca is not set"),
    "a weak key": (_weak, "weak.pem and its key cannot be used: EE_KEY_TOO_SMALL"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(tmp_path: Path, name: str) -> None:
    change, said = BAD[name]
    ca = pki.authority(tmp_path)
    box = ca.issue("box")
    assert try_out(pki.files(box, ca.pem, "required")).problems == ()
    bad = change(ca, box) or pki.files(box, ca.pem, "required")
    (problem,) = try_out(bad).problems
    assert said.format(box=tmp_path / "box", ca=ca.pem) in problem
    with pytest.raises(ConfigError):
        ServerTls(bad)


def test_a_key_that_may_not_be_read(tmp_path: Path) -> None:
    box = pki.authority(tmp_path).issue("box")
    box.key.chmod(0)
    nobody = os.geteuid() == 0
    if nobody:
        tmp_path.chmod(0)
        os.seteuid(65534)  # root may read everything
    try:
        problems = try_out(pki.files(box)).problems
    finally:
        if nobody:
            os.seteuid(0)
            tmp_path.chmod(0o700)
    assert f"tls_key: {box.key} cannot be read by this user (uid {65534 if nobody else os.geteuid()})" in problems


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    ca = pki.authority(tmp_path)
    box = ca.issue("box", days=(-9, -2))
    box.key.write_text("nothing")
    ca.pem.unlink()
    assert len(try_out(pki.files(box, ca.pem)).problems) == 3


def test_good_files_in_the_shapes_that_people_have(tmp_path: Path) -> None:
    ca = pki.authority(tmp_path)
    for private in (pki.new_key(), rsa.generate_private_key(65537, 2048)):
        box = ca.issue("box", private=private)
        both = tmp_path / "both.pem"
        both.write_bytes(b"Subject: box\n" + box.pem.read_bytes() + ca.pem.read_bytes() + box.key.read_bytes())
        both.chmod(0o600)
        assert try_out(TlsFiles(str(both), str(both), str(ca.pem), "optional")).problems == ()


def test_what_is_said_of_files_that_can_be_used(tmp_path: Path) -> None:
    ca = pki.authority(tmp_path)
    box = ca.issue("box", days=(-1, 12.5))
    box.key.chmod(0o644)
    key, soon = try_out(pki.files(box)).notes
    assert key.endswith(f"box.key can be read by everybody on this machine: chmod 600 {box.key}")
    assert "box.pem expires in 12 days, on 20" in soon
    assert try_out(pki.files(ca.issue("fine"))).notes == ()
    assert try_out(pki.files(ca.issue("server", purpose=pki.SERVER_ONLY))).notes == ()
    (purpose,) = try_out(pki.files(ca.issue("client", purpose=pki.CLIENT_ONLY))).notes
    assert "client.pem is not one for servers (extended key usage)" in purpose


def test_files_go_to_another_process_as_json(tmp_path: Path) -> None:
    files = pki.files(pki.authority(tmp_path).issue("box"), Path("/ca.pem"), "optional")
    assert TlsFiles(**json.loads(json.dumps(asdict(files)))) == files


# The settings


def test_settings_name_the_files(tmp_path: Path) -> None:
    given: dict[str, Value | None] = {
        "tls_port": 2762,
        "tls_certificate": "tls/box.pem",
        "tls_key": "/etc/box.key",
        "tls_ca": "tls/ca.pem",
    }
    settings = load(None, {}, {**given, "client_certificates": "required"}).settings
    assert tls_files(settings, tmp_path) == TlsFiles(
        str(tmp_path / "tls/box.pem"), "/etc/box.key", str(tmp_path / "tls/ca.pem"), "required"
    )
    assert tls_files(load(None, {}, {}).settings, tmp_path) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "tls_port is set, tls_certificate is not\ntls_port is set, tls_key is not"),
        ({"tls_certificate": "c", "tls_key": "k", "client_certificates": "optional"}, "tls_ca is not set"),
        ({"tls_certificate": "c", "tls_key": "k", "port": 2762}, "port and tls_port are both 2762"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, given: dict[str, str | int | None], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tls_files(load(None, {}, {"tls_port": 2762, **given}).settings, tmp_path)


def test_a_word_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be off, optional or required"):
        load(None, {}, {"client_certificates": "yes"})


# The command line


def check(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["check", "--data", str(root), *words])
    return code, capsys.readouterr().out


def options(files: TlsFiles) -> list[str]:
    return ["--tls-port", "0", "--tls-certificate", files.certificate, "--tls-key", files.key]


def test_check_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ca = pki.authority(tmp_path / "tls")
    box, root = ca.issue("box", days=(-1, 12.5)), tmp_path / "data"
    code, said = check(root, capsys, *options(pki.files(box)))
    assert code == 0
    assert "ok       tls: " in said
    assert "box, valid until 20" in said
    assert "ok       tls: note: tls_certificate: " in said
    assert "expires in 12 days" in said
    _other_key(ca, box)
    code, said = check(root, capsys, *options(pki.files(box)))
    assert code == 1
    assert "PROBLEM  tls: tls_key: " in said
    code, said = check(root, capsys, "--tls-port", "2762")
    assert code == 1
    assert "PROBLEM  tls: tls_port is set, tls_certificate is not" in said
    code, said = check(root, capsys, "--tls-key", "k")
    assert (code, "tls: note: there is no TLS without tls_port" in said) == (0, True)


def test_serve_refuses_files_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = pki.authority(tmp_path / "tls").issue("old", days=(-9, -2))
    command = ["serve", "--data", str(tmp_path / "data"), "--host", "127.0.0.1", "--port", "0"]
    assert main([*command, *options(pki.files(old))]) == 1
    assert "old.pem expired on 20" in capsys.readouterr().err


# New files without a restart


def test_new_files_are_taken_and_bad_ones_are_not(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    ca = pki.authority(tmp_path)
    box = ca.issue("first", "box")
    tls = ServerTls(pki.files(box), lambda level, text: told.append((level, text)))
    first = tls.context()
    assert first is tls.context()
    box.key.write_text("nothing")
    _wait_for_a_look(tls)
    assert tls.context() is first
    assert told[-1][0] == "error"
    assert "the last good ones stay: tls_key: " in told[-1][1]
    ca.issue("second", "box")
    _wait_for_a_look(tls)
    assert tls.context() is not first
    assert told[-1][0] == "info"
    assert "second, valid until" in told[-1][1]
    assert len(told) == 2


def _wait_for_a_look(tls: ServerTls) -> None:
    tls._looked -= 10.0
    tls.context()


def test_what_is_negotiated_is_what_the_profile_says(tmp_path: Path) -> None:
    context = ServerTls(pki.files(pki.authority(tmp_path).issue("box"))).context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    older = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert older == {
        f"ECDHE-{kind}-{cipher}"
        for kind in ("ECDSA", "RSA")
        for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")
    }  # fmt: skip
    for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION):
        assert context.options & option
