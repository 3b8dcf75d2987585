"""DICOM over TLS to DCMTK's storescp and to peers that do it wrong."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from cryptography import x509
from pki import Authority, Pair, authority, write_key

from magickbox.destination import Delivered, DicomDestination, Result, Retry, Secret, Tls
from magickbox.owncalls import OwnCalls
from magickbox.scu.echo import echo
from magickbox.scu.store import StoreSender
from magickbox.scu.upperlayer import Timeouts

pytestmark = pytest.mark.peer
HASTY = Timeouts(connect=0.3, associate=0.3, response=0.3, write=0.3)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def box(ca: Authority) -> Pair:
    return ca.issue("box")


@contextmanager
def station(folder: Path, ca: Authority, own: Pair, *options: str) -> Iterator[DicomDestination]:
    """A storescp that wants a certificate of the box."""
    files = ("+tls", str(own.key), str(own.pem), "+cf", str(ca.pem), *(options or ("-rc",)))
    with peers.storescp(folder, *files) as scp:
        yield scp.destination


def tls(ca: Authority, own: Pair | None, **more: object) -> Tls:
    mine = {} if own is None else {"certificate": str(own.pem), "key": str(own.key)}
    return Tls(**{"ca": str(ca.pem), **mine, **more})  # type: ignore[arg-type]


def test_instances_go_over_tls_with_a_certificate_on_both_sides(tmp_path: Path, ca: Authority, box: Pair) -> None:
    items = [peers.item_of(peers.sample(name)) for name in ("CT_small.dcm", "MR_small_RLE.dcm")]
    with station(tmp_path / "stored", ca, ca.issue("station")) as there:
        session = StoreSender(OwnCalls(), peers.QUICK).connect(replace(there, tls=tls(ca, box)), items, "job")
        assert not isinstance(session, Retry), session
        with session:
            assert {session.send(item) for item in items} == {Delivered()}
    stored = {peers.item_of(path).sop_instance: path for path in (tmp_path / "stored").iterdir()}
    for item in items:
        assert peers.dataset_bytes(stored[item.sop_instance]) == peers.dataset_bytes(item.path)


def said(there: DicomDestination, how: Tls) -> str:
    result = echo(replace(there, tls=how), peers.QUICK)
    assert isinstance(result, Retry), result
    return result.reason


def test_who_is_not_whom_we_expect_is_not_talked_to(tmp_path: Path, ca: Authority, box: Pair) -> None:
    with station(tmp_path / "stored", ca, ca.issue("other", hosts=(x509.DNSName("pacs.example.org"),))) as there:
        assert "certificate is not accepted: IP address mismatch" in said(there, tls(ca, box))
        assert echo(replace(there, tls=tls(ca, box, server_name="pacs.example.org")), peers.QUICK) == Delivered()
        assert echo(replace(there, tls=tls(ca, box, check_name=False)), peers.QUICK) == Delivered()
        stranger = authority(tmp_path / "stranger", "Stranger CA")
        assert "certificate is not accepted" in said(there, tls(stranger, box, check_name=False))
        assert "certificate is not accepted" in said(there, Tls("", str(box.pem), str(box.key)))
    with station(tmp_path / "again", ca, ca.issue("old", days=(-9, -1))) as there:
        assert "certificate is not accepted: certificate has expired" in said(there, tls(ca, box))


def test_a_station_that_wants_a_certificate_says_so(tmp_path: Path, ca: Authority) -> None:
    with station(tmp_path / "stored", ca, ca.issue("station")) as there:
        assert "TLS failed" in said(there, tls(ca, None)) or "closed" in said(there, tls(ca, None))


def test_an_encrypted_key_is_opened_by_a_secret_and_asks_nobody(
    tmp_path: Path, ca: Authority, box: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = str(write_key(tmp_path / "sealed.key", box.private, b"Kw8-pass"))
    (tmp_path / "password").write_text("Kw8-pass\n")
    monkeypatch.setenv("BOX_KEY", "Kw8-pass")
    monkeypatch.setenv("WRONG_KEY", "Kw9-pass")
    with station(tmp_path / "stored", ca, ca.issue("station")) as there:
        for source in ("env:BOX_KEY", f"file:{tmp_path}/password"):
            how = tls(ca, box, key=sealed, key_password=Secret(source))
            assert echo(replace(there, tls=how), peers.QUICK) == Delivered()
        for secret in (None, Secret("env:WRONG_KEY"), Secret("env:NOT_SET_ANYWHERE")):
            why = said(there, tls(ca, box, key=sealed, key_password=secret))
            assert "pass" not in why or "password" in why
            assert "Kw" not in why
        assert "environment variable NOT_SET_ANYWHERE is not set" in why


def test_files_that_are_not_there_or_no_pem_are_named(tmp_path: Path, ca: Authority, box: Pair) -> None:
    (tmp_path / "empty.pem").write_text("")
    nobody = DicomDestination("127.0.0.1", 104, "BOX", "PACS")
    sender = StoreSender(OwnCalls())
    assert sender.problems(nobody) == sender.problems(replace(nobody, tls=tls(ca, box))) == []
    (gone,) = sender.problems(replace(nobody, tls=Tls(ca="/nowhere/ca.pem")))
    assert gone == "/nowhere/ca.pem: No such file or directory"
    (empty,) = sender.problems(replace(nobody, tls=Tls(ca=str(tmp_path / "empty.pem"))))
    assert "empty.pem: " in empty
    (other,) = sender.problems(replace(nobody, tls=tls(ca, box, key=str(ca.pair.key))))
    assert "key values mismatch" in other


def test_a_station_without_tls_and_one_that_says_nothing(tmp_path: Path, ca: Authority, box: Pair) -> None:
    with peers.storescp(tmp_path / "stored") as scp:
        assert "TLS" in said(scp.destination, tls(ca, box)) or "closed" in said(scp.destination, tls(ca, box))
    with peers.ScriptedPeer([lambda _talk: None]) as silent:
        result = echo(replace(silent.destination, tls=tls(ca, box)), HASTY)
        assert result == Retry(f"127.0.0.1:{silent.port}: no TLS within 0.3 s")


def test_old_protocols_are_not_spoken(tmp_path: Path, ca: Authority, box: Pair) -> None:
    with station(
        tmp_path / "stored", ca, ca.issue("station"), "-ic", "+pa", "+cs", "TLS_RSA_WITH_AES_128_CBC_SHA"
    ) as old:
        assert "TLS failed" in said(old, tls(ca, box)) or "closed" in said(old, tls(ca, box))


def test_an_abort_from_another_thread_wakes_who_waits(tmp_path: Path, ca: Authority, box: Pair) -> None:
    """A peer that goes silent after the association: the waiting send comes back at once."""
    own = ca.issue("silent")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.pem, own.key)

    def script(talk: peers.Talk) -> None:
        talk.sock = context.wrap_socket(talk.sock, server_side=True)
        talk.accept()
        talk.message()

    item = peers.item_of(peers.sample("CT_small.dcm"))
    results: list[Result] = []
    with peers.ScriptedPeer([script]) as silent:
        there = replace(silent.destination, tls=tls(ca, box))
        session = StoreSender(OwnCalls(), Timeouts(response=30.0)).connect(there, [item], "job")
        assert not isinstance(session, Retry), session
        with session:
            thread = threading.Thread(target=lambda: results.append(session.send(item)))
            thread.start()
            time.sleep(0.2)
            began = time.monotonic()
            session.abort()
            thread.join(5)
        assert time.monotonic() - began < 4
    assert results == [Retry("the box ended the association")]


def test_an_address_that_nobody_knows_is_not_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = DicomDestination("", listener.getsockname()[1], "BOX", "PACS")
        assert echo(nobody, HASTY) == Retry("the address of the original's sender is not known")
