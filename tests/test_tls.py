"""The port with TLS: who is let in, what is told of who is not, new certificates without a restart, real peers."""

import os
import random
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import peers
import pki
import pydicom
import pytest
from boxes import MR, Image
from boxprocess import BoxProcess, running, until
from callers import COMMAND, IMAGES, LAST, VERIFICATION, Caller, OpenPort, open_port, pdu, store_pdus, value
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import wait_for
from pydicom.uid import UID

from magickbox.association import End
from magickbox.destination import Delivered, DicomDestination, Retry, Tls
from magickbox.dicom.header import read_file_meta
from magickbox.incoming.quarantine import Quarantine
from magickbox.intake import RecordingIntake
from magickbox.owncalls import OwnCalls
from magickbox.scp.server import TLS_PORT, Port, Receiver
from magickbox.scp.upper import Timeouts
from magickbox.scu.command import c_echo_request, c_store_request
from magickbox.scu.pdu import RELEASE_REQUEST, associate_request
from magickbox.scu.store import StoreSender

HASTY = Timeouts(request=0.3, message=0.3, idle=0.6)
REQUEST = associate_request("BOX", "TEST", [IMAGES])
IMAGE = Image("1.2.3.4.5")
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def client(ca: Path | None, pair: pki.Pair | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """What a peer brings: the CA that it trusts (None: it looks at nothing), a certificate, one version only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.load_verify_locations(ca)
    if pair is not None:
        context.load_cert_chain(pair.pem, pair.key)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def number(port: OpenPort) -> int:
    """The number of the port with TLS."""
    address = port.receiver.tls_address
    assert address is not None
    return address[1]


class SecureCaller(Caller):
    """A peer that speaks TLS."""

    def __init__(self, port: OpenPort, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        super().__init__(number(port))
        self.sock = context.wrap_socket(
            self.sock, server_hostname="localhost", suppress_ragged_eofs=False, session=session
        )

    @property
    def secured(self) -> ssl.SSLSocket:
        """The connection as Python's TLS has it."""
        assert isinstance(self.sock, ssl.SSLSocket)
        return self.sock


@pytest.fixture
def ca(tmp_path_factory: pytest.TempPathFactory) -> pki.Authority:
    return pki.authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def box(ca: pki.Authority) -> pki.Pair:
    return ca.issue("box")


def must_serve(port: OpenPort, context: ssl.SSLContext, uid: str = "1.2.3.9999") -> None:
    """A good peer is served on each port as if nothing had happened, and hears the end of TLS (RFC 8446, 6.1)."""
    port.must_still_serve()
    with SecureCaller(port, context) as caller:
        caller.associate(IMAGES)
        assert caller.store(Image(uid)).status == 0
        caller.release()
        assert caller.sock.recv(1) == b""
    assert f"{uid}.dcm" in port.files()


# Who is let in


def _certificates(ca: pki.Authority, folder: Path) -> dict[str, pki.Pair | None]:
    """What peers present."""
    return {
        "none": None,
        "good": ca.issue("CT1"),
        "expired": ca.issue("CT2", days=(-9, -2)),
        "new": ca.issue("CT3", days=(2, 9)),
        "foreign": pki.authority(folder, "Another CA").issue("CT4"),
        "self-signed": pki.authority(folder, "CT5").pair,
        "of a server": ca.issue("CT6", purpose=pki.SERVER_ONLY),
    }


OLD, NEW = "the peer's certificate has expired", "the peer's certificate is not valid yet"
STRANGE, SERVERS = (
    "the peer's certificate is of none of the CAs in tls_ca",
    "the peer's certificate is not one for clients",
)
NONE = "the peer presented no certificate, and client_certificates is required"
# By client_certificates and certificate: the name that the box then knows, or why it does not let the peer in.
TABLE: list[tuple[str, str, str | None]] = [
    ("off", "none", None), ("off", "good", None), ("off", "expired", None), ("off", "foreign", None),
    ("optional", "none", None), ("optional", "good", "CT1"), ("optional", "expired", OLD),
    ("optional", "foreign", STRANGE),
    ("required", "none", NONE), ("required", "good", "CT1"), ("required", "expired", OLD), ("required", "new", NEW),
    ("required", "foreign", STRANGE), ("required", "self-signed", STRANGE), ("required", "of a server", SERVERS),
]  # fmt: skip


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("mode", ["off", "optional", "required"])
def test_client_certificates(
    tmp_path: Path, ca: pki.Authority, box: pki.Pair, mode: str, version: ssl.TLSVersion
) -> None:
    presented = _certificates(ca, ca.folder)
    with open_port(tmp_path, tls=pki.files(box, ca.pem, mode)) as port:
        for _, which, said in (row for row in TABLE if row[0] == mode):
            context = client(ca.pem, presented[which], version)
            if said is None or said.startswith("CT"):
                must_serve(port, context, f"1.2.3.{len(port.files())}000")
                assert (port.intake.requests[-1].tls, port.intake.requests[-1].certificate) == (_name(version), said)
            else:
                before = len(port.troubles)
                with pytest.raises(ssl.SSLError, match="ALERT"), SecureCaller(port, context) as caller:
                    caller.associate(IMAGES)
                wait_for(lambda before=before: len(port.troubles) > before, which)  # type: ignore[misc]
                assert said in port.troubles[-1]
                assert port.troubles[-1].startswith("127.0.0.1:")
        must_serve(port, client(ca.pem, presented["good"], version))


def _name(version: ssl.TLSVersion) -> str:
    return {V12: "TLSv1.2", V13: "TLSv1.3"}[version]


def test_1_3_is_taken_where_both_know_it(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    with open_port(tmp_path, tls=pki.files(box)) as port:
        with SecureCaller(port, client(ca.pem)) as caller:
            assert caller.secured.version() == "TLSv1.3"
            assert caller.secured.compression() is None
        must_serve(port, client(ca.pem))


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_a_resumed_session_is_still_known(
    tmp_path: Path, ca: pki.Authority, box: pki.Pair, version: ssl.TLSVersion
) -> None:
    context = client(ca.pem, ca.issue("CT1"), version)
    with open_port(tmp_path, tls=pki.files(box, ca.pem, "required")) as port:
        session = None
        for _ in range(2):
            with SecureCaller(port, context, session) as caller:
                caller.associate(IMAGES)
                session, resumed = caller.secured.session, caller.secured.session_reused
                caller.release()
        assert resumed
        assert [request.certificate for request in port.intake.requests] == ["CT1", "CT1"]


# Who is not


def _older(context: ssl.SSLContext) -> ssl.SSLContext:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _with_ciphers(context: ssl.SSLContext, names: str) -> ssl.SSLContext:
    context.maximum_version = V12
    context.set_ciphers(names)
    return context


def test_what_bcp_195_advises_against_is_refused(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    refused = [
        (_older(client(ca.pem)), "the peer speaks nothing newer than TLS 1.1"),
        (_with_ciphers(client(ca.pem), "ECDHE-ECDSA-AES128-SHA256"), "the peer knows no cipher suite that BCP 195"),
        (_with_ciphers(client(ca.pem), "AES128-GCM-SHA256"), "the peer knows no cipher suite that BCP 195"),
    ]
    with open_port(tmp_path, tls=pki.files(box)) as port:
        for n, (context, said) in enumerate(refused, 1):
            with pytest.raises(ssl.SSLError, match="ALERT"):
                SecureCaller(port, context)
            wait_for(lambda n=n: len(port.troubles) == n, said)  # type: ignore[misc]
            assert said in port.troubles[-1]
        must_serve(port, client(ca.pem))


def test_a_peer_that_does_not_trust_the_box_is_told_of(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    with open_port(tmp_path, tls=pki.files(box)) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            SecureCaller(port, client(pki.authority(ca.folder, "Another CA").pem))
        wait_for(lambda: port.troubles, "the line")
        assert "the peer does not know the CA of the box's certificate" in port.troubles[0]
        must_serve(port, client(ca.pem))


FOREIGN = [
    pytest.param(REQUEST, "plain DICOM on the TLS port", id="plain DICOM"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: box\r\n\r\n", "neither TLS nor DICOM on the TLS port", id="HTTP"),
    pytest.param(bytes(300), "neither TLS nor DICOM on the TLS port", id="zeros"),
    pytest.param(b"\x16\x03\x01\x00\x05hello" + bytes(300), "TLS: the handshake failed: ", id="nearly TLS"),
    pytest.param(b"\x16\x03\x01\xff\xff" + bytes(70000), "TLS: the handshake failed: ", id="a record too long"),
    pytest.param(b"\x16" + random.Random(1).randbytes(5000), "TLS: ", id="noise"),
]


@pytest.mark.parametrize(("opening", "said"), FOREIGN)
def test_what_is_no_tls_ends_its_own_connection(
    tmp_path: Path, ca: pki.Authority, box: pki.Pair, opening: bytes, said: str
) -> None:
    with open_port(tmp_path, tls=pki.files(box)) as port:
        with Caller(number(port)) as caller, suppress(ConnectionError):
            caller.say(opening)
            while caller.sock.recv(4096):
                pass
        wait_for(lambda: port.troubles, "the line")
        assert said in port.troubles[0]
        assert port.intake.requests == []
        must_serve(port, client(ca.pem))
        assert len(port.troubles) == 1


def test_tls_on_the_plain_port_is_named(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    with open_port(tmp_path, tls=pki.files(box)) as port:
        with Caller(port.number) as caller, pytest.raises(OSError):
            client(ca.pem).wrap_socket(caller.sock, server_hostname="localhost")
        wait_for(lambda: port.troubles, "the line")
        assert "TLS on the port without TLS: the peer must use tls_port" in port.troubles[0]
        must_serve(port, client(ca.pem))


@pytest.mark.parametrize("opening", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a byte", "six bytes"])
def test_a_peer_that_stalls_in_the_handshake(tmp_path: Path, ca: pki.Authority, box: pki.Pair, opening: bytes) -> None:
    with open_port(tmp_path, tls=pki.files(box), timeouts=HASTY) as port:
        with Caller(number(port)) as caller:
            caller.say(opening)
            assert caller.sock.recv(1) == b""
        wait_for(lambda: port.troubles, "the line")
        assert "the TLS handshake was not over after 0.3 s" in port.troubles[0]
        must_serve(port, client(ca.pem))


def test_a_peer_that_goes_in_the_handshake(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    hello = _hello(ca)
    with open_port(tmp_path, tls=pki.files(box)) as port:
        for end in range(0, len(hello) + 1, 5):
            with Caller(number(port)) as caller:
                caller.say(hello[:end])
        must_serve(port, client(ca.pem))
        assert {text.partition(": ")[2].partition(" the TLS handshake")[0] for text in port.troubles} == {
            "the connection was closed before",
            "the connection was closed in the middle of",
        }


def _hello(ca: pki.Authority) -> bytes:
    """A good ClientHello."""
    read, written = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client(ca.pem).wrap_bio(read, written, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    return written.read()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenPort, bytes]]:
    """A port that must serve at the end, and a good ClientHello."""
    ca = pki.authority(tmp_path_factory.mktemp("pki"))
    with open_port(tmp_path_factory.mktemp("lasting"), tls=pki.files(ca.issue("box"))) as port:
        yield port, _hello(ca)
        must_serve(port, client(ca.pem))
        assert port.intake.requests[0].calling_ae == "GOOD1"  # nobody came in


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_handshakes_harm_nobody(lasting: tuple[OpenPort, bytes], data: st.DataObject) -> None:
    port, hello = lasting
    mutated = bytearray(hello)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        if data.draw(st.booleans()):
            mutated[at] = data.draw(st.integers(0, 255))
        else:
            mutated[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    with Caller(number(port)) as caller, suppress(OSError):
        caller.say(mutated)
        caller.sock.shutdown(socket.SHUT_WR)
        while caller.sock.recv(65536):
            pass


def test_a_stop_does_not_wait_for_a_handshake(tmp_path: Path, box: pki.Pair) -> None:
    with open_port(tmp_path, tls=pki.files(box)) as port, Caller(number(port)) as caller:
        caller.say(b"\x16\x03\x01")
        wait_for(lambda: len(_connections()) == 1, "the connection")
        began = time.monotonic()
        port.receiver.stop(10.0)
        assert time.monotonic() - began < 5


def _connections() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("association from")]


def test_a_certificate_name_of_any_length_and_sort(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    name = 'Röntgen "1"\n' + "x" * 50
    with open_port(tmp_path, tls=pki.files(box, ca.pem, "required")) as port:
        must_serve(port, client(ca.pem, ca.issue(name, "odd")))
        assert port.intake.requests[-1].certificate == name


# Records and PDUs do not know each other


def test_a_whole_association_in_one_record(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    with open_port(tmp_path, tls=pki.files(box), timeouts=HASTY) as port:
        with SecureCaller(port, client(ca.pem)) as caller:
            caller.say(REQUEST, *(store_pdus(1, Image(f"1.2.3.{n}"), n) for n in range(1, 20)), RELEASE_REQUEST)
            assert caller.kinds_to_the_end() == [2, *[4] * 19, 6]
        assert len(port.intake.instances) == 19
        assert port.wait_for_end() is End.RELEASED


def test_records_of_a_byte_and_pieces_of_records(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    with open_port(tmp_path, tls=pki.files(box)) as port:
        with SecureCaller(port, client(ca.pem)) as caller:
            for byte in REQUEST + store_pdus(1, IMAGE):
                caller.say(bytes((byte,)))
            assert [caller.pdu()[0], caller.pdu()[0]] == [2, 4]
        with _Piecemeal(port, ca) as slow:
            slow.say(REQUEST + store_pdus(1, Image("1.2.3.4.6")) + RELEASE_REQUEST)
            wait_for(lambda: "1.2.3.4.6.dcm" in port.files(), "the image")


class _Piecemeal(Caller):
    """A peer whose encrypted bytes leave one by one."""

    def __init__(self, port: OpenPort, ca: pki.Authority) -> None:
        super().__init__(number(port))
        self._read, self._written = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client(ca.pem).wrap_bio(self._read, self._written, server_hostname="localhost")
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._read.write(self.sock.recv(65536))

    def say(self, *pieces: bytes | bytearray) -> None:
        self._tls.write(b"".join(pieces))
        self._flush()

    def _flush(self) -> None:
        for byte in self._written.read():
            self.sock.sendall(bytes((byte,)))


def test_a_record_that_stays_half_ends_its_association(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    with open_port(tmp_path, tls=pki.files(box), timeouts=Timeouts(request=5.0, message=0.3, idle=60.0)) as port:
        with _Piecemeal(port, ca) as slow:
            slow.say(REQUEST)
            wait_for(lambda: port.intake.requests, "the association")
            slow._tls.write(store_pdus(1, IMAGE))
            slow.sock.sendall(slow._written.read()[:-7])
            assert port.wait_for_end() is End.TIMEOUT
        must_serve(port, client(ca.pem))


def test_a_record_that_was_changed_ends_its_association(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    with open_port(tmp_path, tls=pki.files(box)) as port:
        with _Piecemeal(port, ca) as forger:
            forger.say(REQUEST)
            wait_for(lambda: port.intake.requests, "the association")
            forger._tls.write(store_pdus(1, IMAGE))
            record = bytearray(forger._written.read())
            record[-1] ^= 1
            forger.sock.sendall(record)
            assert port.wait_for_end() is End.CLOSED
        assert port.files() == {}
        must_serve(port, client(ca.pem))


def test_a_peer_that_never_reads_answers_is_ended(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    echoes = pdu(4, value(1, COMMAND | LAST, c_echo_request(7, VERIFICATION.sop_class))) * 1000
    with open_port(tmp_path, tls=pki.files(box), timeouts=Timeouts(request=5.0, message=0.3, idle=60.0)) as port:
        with SecureCaller(port, client(ca.pem)) as caller:
            caller.associate(VERIFICATION)
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.sock.settimeout(2)  # with so small a window the end of the connection may never come through
            with pytest.raises(OSError):
                list(map(caller.say, [echoes] * 300))  # each has two seconds: the box may be slow before it is stuck
            assert port.wait_for_end().is_abort
        must_serve(port, client(ca.pem))


def test_large_objects(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    head, piece = IMAGE.dataset()[: -8 - 32 - 4], random.Random(1).randbytes(100_000)
    with open_port(tmp_path, tls=pki.files(box)) as port, SecureCaller(port, client(ca.pem)) as caller:
        caller.associate(IMAGES)
        caller.say(pdu(4, value(1, COMMAND | LAST, c_store_request(1, MR, IMAGE.uid))), pdu(4, value(1, 0, head)))
        for n in range(300):
            caller.say(pdu(4, value(1, LAST * (n == 299), piece)))
        assert caller.response().status == 0
        caller.release()
        assert port.files()[f"{IMAGE.uid}.dcm"].read_bytes().endswith(head + piece * 300)


# Limits, and new certificates


def test_connections_are_counted_over_both_ports(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    with open_port(tmp_path, tls=pki.files(box), max_associations=1) as port:
        idle = [Caller(port.number if n % 2 else number(port)) for n in range(51)]
        wait_for(lambda: len(_connections()) == 51, "51 connections")
        for last in (port.number, number(port)):
            with Caller(last) as caller:
                assert caller.sock.recv(1) == b""
        for caller in idle:
            caller.sock.close()
        wait_for(lambda: not _connections(), "all to end")
        must_serve(port, client(ca.pem))


def test_a_second_port_that_is_taken(tmp_path: Path, box: pki.Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = Port(tmp_path, Quarantine(tmp_path), tls=pki.files(box), tls_port=taken.getsockname()[1])
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError) as told:
            Receiver(port, RecordingIntake()).start()
        assert len(os.listdir("/proc/self/fd")) == before
    assert told.value.filename == TLS_PORT


def test_new_certificates_while_an_association_is_open(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    trusting = client(ca.pem)
    with open_port(tmp_path, tls=pki.files(box)) as port:
        with SecureCaller(port, trusting) as before:
            before.associate(IMAGES)
            assert before.store(IMAGE).status == 0
            ca.issue("renewed", "box")
            wait_for(lambda: _name_of_the_box(port, trusting) == "renewed", "the new certificate")
            assert before.store(Image("1.2.3.4.6")).status == 0
            box.key.write_text("nothing")
            time.sleep(1.1)  # the files are looked at once a second
            assert _name_of_the_box(port, trusting) == "renewed"
            assert before.store(Image("1.2.3.4.7")).status == 0
            before.release()
        must_serve(port, trusting)


def _name_of_the_box(port: OpenPort, context: ssl.SSLContext) -> str:
    with SecureCaller(port, context) as caller:
        subject = (caller.secured.getpeercert() or {})["subject"]
    return str(dict(part[0] for part in subject)["commonName"])  # type: ignore[misc]


# The box's own sender, DCMTK, and a whole box


def test_the_boxs_own_sender(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> None:
    own, item = ca.issue("BOX"), peers.item_of(peers.sample("CT_small.dcm"))
    with open_port(tmp_path, tls=pki.files(box, ca.pem, "required")) as port:
        there = DicomDestination("127.0.0.1", number(port), "BOX", "BOX")
        trusted = Tls(str(ca.pem), str(own.pem), str(own.key), server_name="localhost")
        session = StoreSender(OwnCalls(), peers.QUICK).connect(replace(there, tls=trusted), [item], "job")
        assert not isinstance(session, Retry), session
        with session:
            assert session.send(item) == Delivered()
        assert port.intake.requests[0].certificate == "BOX"
        nameless = replace(trusted, certificate="", key="")
        refused = StoreSender(OwnCalls(), peers.QUICK).connect(replace(there, tls=nameless), [item], "job")
        assert isinstance(refused, Retry), refused
        wait_for(lambda: port.troubles, "the line")
        assert NONE in port.troubles[0]


@pytest.fixture
def whole(tmp_path: Path, ca: pki.Authority, box: pki.Pair) -> Iterator[tuple[BoxProcess, int]]:
    """A box in a process of its own that wants certificates; the number of its port with TLS."""
    chosen = {
        "tls_port": 0, "tls_certificate": str(box.pem), "tls_key": str(box.key), "tls_ca": str(ca.pem),
        "client_certificates": "required",
    }  # fmt: skip
    with running(tmp_path / "data", settings=chosen) as process:
        assert process.port is not None
        yield process, process.status()["listening_tls"][1]


def dcmtk(tool: str, port: int, ca: Path, pair: pki.Pair | None, *options: str) -> "subprocess.CompletedProcess[str]":
    """Call with TLS, with a certificate or none."""
    own = ("+tls", str(pair.key), str(pair.pem)) if pair else ("+tla",)
    command = [peers.dcmtk(tool), *own, "+cf", str(ca), "-aec", "BOX", "127.0.0.1", str(port), *options]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


@pytest.mark.peer
def test_dcmtk_with_and_without_a_certificate(tmp_path: Path, ca: pki.Authority) -> None:
    rsa_box = ca.issue("box", private=pki.new_rsa_key())
    stations = ca.issue("STORESCU", private=pki.new_rsa_key())
    path = peers.sample("CT_small.dcm")
    for mode, pair, taken in [("off", None, True), ("optional", None, True), ("optional", stations, True),
                              ("required", stations, True), ("required", None, False)]:  # fmt: skip
        root = tmp_path / f"{mode}-{pair is not None}"
        root.mkdir()
        with open_port(root, tls=pki.files(rsa_box, ca.pem, mode)) as port:
            for tool, options in (("echoscu", ()), ("storescu", (str(path),))):
                said = dcmtk(tool, number(port), ca.pem, pair, *options)
                assert (said.returncode == 0) is taken, said.stderr
            if taken:
                assert [instance.sop_instance for _, instance in port.intake.instances] == [
                    peers.item_of(path).sop_instance
                ]
                known = "STORESCU" if pair and mode != "off" else None
                assert {(request.tls, request.certificate) for request in port.intake.requests} <= {
                    (version, known) for version in ("TLSv1.2", "TLSv1.3")
                }
            else:
                wait_for(lambda port=port: len(port.troubles) == 2, "the lines")  # type: ignore[misc]
                assert all(NONE in text for text in port.troubles)


@pytest.mark.peer
@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtk_with_its_older_profiles(tmp_path: Path, ca: pki.Authority, profile: str) -> None:
    with open_port(tmp_path, tls=pki.files(ca.issue("box", private=pki.new_rsa_key()))) as port:
        said = dcmtk("echoscu", number(port), ca.pem, None, profile)
        assert said.returncode == 0, said.stderr


@pytest.mark.peer
def test_a_whole_box(tmp_path: Path, ca: pki.Authority, box: pki.Pair, whole: tuple[BoxProcess, int]) -> None:
    process, port = whole
    large = tmp_path / "large.dcm"
    ds = pydicom.dcmread(peers.sample("CT_small.dcm"))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID("1.2.826.0.1.3680043.10.8.1")
    ds.Rows, ds.Columns, ds.PixelData = 3200, 3200, random.Random(2).randbytes(3200 * 3200 * 2)
    del ds.DataSetTrailingPadding  # DCMTK leaves it out
    ds.save_as(large)
    assert large.stat().st_size > 20_000_000
    said = dcmtk("storescu", port, ca.pem, ca.issue("CT1"), str(large))
    assert said.returncode == 0, said.stderr
    root, log = process.root, process.root / "logs" / "receive.log"
    until(lambda: bool(list(root.glob("jobs/*/INPUT/*.dcm"))), what="the job")
    (received,) = root.glob("jobs/*/INPUT/*.dcm")
    assert _dataset(received) == _dataset(large)
    (accepted,) = (line for line in log.read_text().splitlines() if " accepted " in line)
    assert accepted.endswith(" tls=TLSv1.3 certificate=CT1")

    assert dcmtk("echoscu", port, ca.pem, None).returncode != 0
    until(lambda: NONE in log.read_text(), what="the line of who has no certificate")
    assert dcmtk("echoscu", port, ca.pem, ca.issue("CT2", days=(-9, -2))).returncode != 0
    until(lambda: OLD in log.read_text(), what="the line of who has an old one")
    box.key.write_text("nothing")
    until(lambda: "the last good ones stay: tls_key" in log.read_text(), what="the line of the bad file")
    assert dcmtk("echoscu", port, ca.pem, ca.issue("CT1")).returncode == 0
    ca.issue("renewed", "box")
    until(lambda: "were read again: " in log.read_text(), what="the line of the good file")
    assert dcmtk("echoscu", port, ca.pem, ca.issue("CT1")).returncode == 0
    assert "Traceback" not in log.read_text()


def _dataset(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(read_file_meta(stream).offset)
        return stream.read()
