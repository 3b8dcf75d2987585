"""Peers that misbehave on a raw socket: each is met without harm, and the same port then serves a good one.

``open_port`` checks for every test that no thread, descriptor, part or stray file stays and that nothing broke.
"""

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from boxes import LITTLE, MR, Image
from callers import COMMAND, IMAGES, LAST, VERIFICATION, Caller, OpenPort, command, open_port, pdu, store_pdus, value
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import wait_for

from magickbox.association import End
from magickbox.scp.upper import Timeouts
from magickbox.scu.command import c_echo_request, c_store_request
from magickbox.scu.pdu import ABORT_BY_USER, RELEASE_REQUEST, Context, associate_request

HASTY = Timeouts(request=0.3, message=0.3, idle=0.6)
REQUEST = associate_request("BOX", "TEST", [IMAGES])
IMAGE = Image("1.2.3.4.5")
STORE = c_store_request(1, MR, IMAGE.uid)
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(200)

Talk = Callable[[Caller], None]


# Before an association


@pytest.mark.parametrize(
    "opening",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: box\r\n\r\n", id="HTTP"),
        pytest.param(TLS_HELLO, id="TLS"),
        pytest.param(random.Random(1).randbytes(5000), id="noise"),
        pytest.param(b"\0" * 300, id="zeros"),
        pytest.param(b"\xff" * 300, id="ones"),
        pytest.param(struct.pack(">BxI", 1, 0xFFFFFFFF) + bytes(1000), id="request of 4 GB"),
        pytest.param(struct.pack(">BxI", 4, 0xFFFFFFFF) + bytes(1000), id="data of 4 GB"),
        pytest.param(pdu(4, value(1, 3, STORE)), id="data before the association"),
        pytest.param(pdu(2, bytes(68)), id="an acceptance"),
        pytest.param(pdu(3, bytes(4)), id="a reject"),
        pytest.param(RELEASE_REQUEST, id="a release"),
        pytest.param(pdu(6, bytes(4)), id="a release reply"),
        pytest.param(ABORT_BY_USER, id="an abort"),
        pytest.param(pdu(7, b""), id="an abort without a body"),
        pytest.param(pdu(1, b""), id="an empty request"),
        pytest.param(pdu(8, b"abcd"), id="an unknown type"),
        pytest.param(pdu(1, REQUEST[6:80] + b"\xff" * 200), id="a request with garbage items"),
    ],
)
def test_what_is_no_association_is_closed(tmp_path: Path, opening: bytes) -> None:
    with open_port(tmp_path) as port:
        with Caller(port.number) as caller:
            caller.say(opening)
            assert set(caller.kinds_to_the_end()) <= {7}
        assert port.intake.requests == []
        port.must_still_serve()


def test_a_request_cut_off_at_every_byte(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        for end in range(len(REQUEST)):
            with Caller(port.number) as caller:
                caller.say(REQUEST[:end])
        port.must_still_serve()
        assert len(port.intake.requests) == 1


def test_a_request_whose_length_says_less_at_every_byte(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        for end in range(6, len(REQUEST)):
            with Caller(port.number) as caller:
                caller.say(pdu(1, REQUEST[6:end]))
                caller.sock.shutdown(socket.SHUT_WR)
                assert set(caller.kinds_to_the_end()) <= {2, 7}
        port.must_still_serve()


@pytest.mark.parametrize("opening", [b"", b"\1", REQUEST[:40]], ids=["nothing", "a byte", "half a request"])
def test_a_silent_peer_is_closed(tmp_path: Path, opening: bytes) -> None:
    with open_port(tmp_path, timeouts=HASTY) as port:
        with Caller(port.number) as caller:
            began = time.monotonic()
            caller.say(opening)
            assert caller.kinds_to_the_end() == []
            assert time.monotonic() - began < 3
        port.must_still_serve()


def _trickle(caller: Caller, stream: bytes, pause: float) -> None:
    for byte in stream:
        caller.say(bytes((byte,)))
        time.sleep(pause)


def test_slowness_before_the_association_is_bounded(tmp_path: Path) -> None:
    with open_port(tmp_path, timeouts=HASTY) as port:
        with Caller(port.number) as caller, pytest.raises(ConnectionError):
            _trickle(caller, REQUEST, 0.02)
        port.must_still_serve()


def test_a_peer_that_goes_at_once_holds_nothing(tmp_path: Path) -> None:
    with open_port(tmp_path, max_associations=1) as port:
        for _ in range(300):
            Caller(port.number).sock.close()
        port.must_still_serve()


def test_a_flood_of_connections_is_bounded(tmp_path: Path) -> None:
    with open_port(tmp_path, max_associations=5) as port:
        callers = [Caller(port.number) for _ in range(120)]
        closed = [caller for caller in callers[60:] if _is_closed(caller)]
        for caller in callers:
            caller.sock.close()
        assert len(closed) == 60
        wait_for(lambda: _serves(port), "the port to serve again")


def _is_closed(caller: Caller) -> bool:
    return caller.kinds_to_the_end() == []


def _serves(port: OpenPort) -> bool:
    try:
        port.must_still_serve()
    except (EOFError, ConnectionError):
        return False
    return True


# On an association


def say(*pieces: bytes) -> Talk:
    return lambda caller: caller.say(*pieces)


def data(*values: bytes) -> bytes:
    return pdu(4, b"".join(values))


BEGUN = data(value(1, 3, STORE)) + data(value(1, 0, IMAGE.dataset()[:50]))
ABORTS = {
    "a command in the middle of a dataset": say(BEGUN, data(value(1, 3, STORE))),
    "an echo in the middle of a dataset": say(BEGUN, data(value(3, 3, c_echo_request(1, "1.2.840.10008.1.1")))),
    "a dataset without a command": say(data(value(1, 2, IMAGE.dataset()))),
    "a dataset of another context": say(data(value(1, 3, STORE)), data(value(3, 2, IMAGE.dataset()))),
    "a command that goes on in another context": say(data(value(1, 1, STORE[:20])), data(value(3, 3, STORE[20:]))),
    "a command that begins with an empty piece in another context": say(data(value(3, 1, b""), value(1, 3, STORE))),
    "a release after an empty piece of a command": say(data(value(1, 1, b"")), RELEASE_REQUEST),
    "a context that was not accepted": say(data(value(9, 3, STORE))),
    "a context of id 0": say(data(value(0, 3, STORE))),
    "a command set of 100 KB": say(*(data(value(1, 1, bytes(10_000))) for _ in range(10))),
    "a garbage command set": say(data(value(1, 3, b"\xff" * 60))),
    "a command set that is cut off": say(data(value(1, 3, STORE[:-3]))),
    "an empty command set": say(data(value(1, 3, b""))),
    "a command without a field": say(data(value(1, 3, command(_0110=b"\1\0", _0800=b"\1\1")))),
    "a response that nobody asked for": say(data(value(1, 3, command(_0100=b"\1\x80", _0120=b"\1\0", _0800=b"\1\1")))),
    "a data value longer than its PDU": say(pdu(4, struct.pack(">IBB", 5000, 1, 3) + STORE)),
    "a data value of length 0": say(pdu(4, struct.pack(">IBB", 0, 1, 3) + STORE)),
    "a data value of length 1": say(pdu(4, struct.pack(">IB", 1, 1))),
    "a data value cut off in its length": say(pdu(4, b"\0\0")),
    "a PDU longer than announced": say(struct.pack(">BxI", 4, 300_000) + bytes(1000)),
    "a PDU of 4 GB": say(struct.pack(">BxI", 4, 0xFFFFFFFF) + bytes(1000)),
    "an unknown PDU": say(BEGUN, pdu(0x47, b"ET / HTTP")),
    "a second request": say(REQUEST),
    "a second request in the middle of an instance": say(BEGUN, REQUEST),
    "an acceptance": say(pdu(2, bytes(68))),
    "a release in the middle of an instance": say(BEGUN, RELEASE_REQUEST),
    "a release reply": say(pdu(6, bytes(4))),
    "an abort in the middle of an instance": say(BEGUN, ABORT_BY_USER),
    "an abort in the middle of a command": say(data(value(1, 1, STORE[:30])), ABORT_BY_USER),
}


@pytest.mark.parametrize("name", ABORTS)
def test_what_breaks_the_protocol_is_aborted(tmp_path: Path, name: str) -> None:
    with open_port(tmp_path) as port:
        with Caller(port.number) as caller:
            caller.associate(IMAGES, VERIFICATION)
            ABORTS[name](caller)
            assert caller.kinds_to_the_end() in ([7], [])
        assert port.wait_for_end() is End.ABORTED
        assert port.files() == {}
        assert port.troubles
        port.must_still_serve()


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("said", [b"", BEGUN, BEGUN + b"\4\0\0\0"], ids=["idle", "in an instance", "in a PDU"])
def test_a_connection_that_breaks(tmp_path: Path, leave: str, said: bytes) -> None:
    with open_port(tmp_path) as port:
        caller = Caller(port.number)
        caller.associate(IMAGES)
        caller.say(said)
        caller.sock.close() if leave == "close" else caller.reset()
        assert port.wait_for_end() is End.CLOSED
        assert port.files() == {}
        port.must_still_serve()


@pytest.mark.parametrize("said", [b"", BEGUN, BEGUN + b"\4\0\0\0"], ids=["idle", "in an instance", "in a PDU"])
def test_silence_on_an_association_ends_it(tmp_path: Path, said: bytes) -> None:
    with open_port(tmp_path, timeouts=HASTY) as port:
        with Caller(port.number) as caller:
            caller.associate(IMAGES)
            caller.say(said)
            assert caller.kinds_to_the_end() == [7]
        assert port.wait_for_end() is End.TIMEOUT
        assert port.files() == {}
        port.must_still_serve()


def test_a_slow_sender_is_served(tmp_path: Path) -> None:
    with open_port(tmp_path, timeouts=Timeouts(request=5, message=0.25, idle=5)) as port:
        with Caller(port.number) as caller:
            caller.associate(IMAGES)
            _trickle(caller, store_pdus(1, IMAGE), 0.003)  # more than a second in all
            assert caller.response().status == 0
        port.must_still_serve()


def test_a_peer_that_never_reads_answers_is_ended(tmp_path: Path) -> None:
    echo = data(value(1, 3, c_echo_request(1, VERIFICATION.sop_class)))
    with open_port(tmp_path, timeouts=Timeouts(request=5, message=0.3, idle=5)) as port:
        with Caller(port.number) as caller:
            caller.associate(VERIFICATION)
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with pytest.raises(ConnectionError):
                caller.say(echo * 1_000_000)
        assert port.wait_for_end().is_abort
        port.must_still_serve()


# Odd, and to be served all the same


def fragments(size: int) -> bytes:
    raw = IMAGE.dataset()
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    commands = [STORE[at : at + size] for at in range(0, len(STORE), size)]
    return b"".join(
        [data(value(1, COMMAND | (LAST * (n + 1 == len(commands))), piece)) for n, piece in enumerate(commands)]
        + [data(value(1, LAST * (n + 1 == len(pieces)), piece)) for n, piece in enumerate(pieces)]
    )


ODD = {
    "fragments of 1 byte": fragments(1),
    "fragments of 7 bytes": fragments(7),
    "command and dataset in one PDU": data(value(1, 3, STORE), value(1, 2, IMAGE.dataset())),
    "empty fragments": data(value(1, 1, b""), value(1, 3, STORE), value(1, 0, b""), value(1, 2, IMAGE.dataset())),
    "an empty last fragment": data(value(1, 3, STORE), value(1, 0, IMAGE.dataset()), value(1, 2, b"")),
    "an empty PDU": pdu(4, b"") + data(value(1, 3, STORE)) + pdu(4, b"") + data(value(1, 2, IMAGE.dataset())),
    "reserved bits in the control header": data(value(1, 0xF3, STORE), value(1, 0xF2, IMAGE.dataset())),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_fragments_are_put_together(tmp_path: Path, name: str) -> None:
    with open_port(tmp_path) as port:
        with Caller(port.number) as caller:
            caller.associate(IMAGES)
            caller.say(ODD[name])
            assert caller.response().status == 0
            caller.release()
        assert port.files()[f"{IMAGE.uid}.dcm"].read_bytes().endswith(IMAGE.dataset())


def unknown(field: int, has_dataset: bool) -> bytes:
    kind = b"\1\0" if has_dataset else b"\1\1"
    request = command(_0002=MR.encode(), _0100=struct.pack("<H", field), _0110=b"\5\0", _0800=kind)
    return data(value(1, 3, request)) + (data(value(1, 2, b"x" * 100)) if has_dataset else b"")


@pytest.mark.parametrize("field", [0x0020, 0x0010, 0x0021, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150, 0x4242])
@pytest.mark.parametrize("has_dataset", [True, False])
def test_other_services_are_refused(tmp_path: Path, field: int, has_dataset: bool) -> None:
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        caller.say(unknown(field, has_dataset))
        response = caller.response()
        assert (response.field, response.answers, response.status) == (field | 0x8000, 5, 0x0211)
        assert caller.store(IMAGE).status == 0
        caller.release()


def test_a_cancel_has_no_answer(tmp_path: Path) -> None:
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        caller.say(unknown(0x0FFF, has_dataset=False))
        assert caller.store(IMAGE).status == 0
        caller.release()


def test_a_store_that_says_it_has_no_dataset_is_refused(tmp_path: Path) -> None:
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        request = command(_0002=MR.encode(), _0100=b"\1\0", _0110=b"\5\0", _0800=b"\1\1", _1000=b"1.2.3.4.")
        caller.say(data(value(1, 3, request)))
        assert caller.response().status == 0xC000
        assert caller.store(IMAGE).status == 0
        caller.release()


# Hostile datasets


def sequences(levels: int) -> bytes:
    """A sequence (0008,1140) in a sequence in a sequence …, without an end."""
    return struct.pack("<HH2sxxLHHL", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * levels


def element(tag: int, vr: bytes, raw: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(raw)) + raw


IDENTITY = element(0x00080016, b"UI", MR.encode() + b"\0") + element(0x00080018, b"UI", b"1.2.3.4.5\0")
STUDY = element(0x0020000D, b"UI", b"1.2.3.6\0") + element(0x0020000E, b"UI", b"1.2.3.7\0")
PIXELS = struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", 32) + bytes(32)


def send_raw(port: OpenPort, dataset: bytes, uid: str = IMAGE.uid, syntax: str = LITTLE) -> tuple[int, str]:
    with Caller(port.number) as caller:
        caller.associate(Context(MR, syntax))
        caller.say(data(value(1, 3, c_store_request(1, MR, uid))))
        for at in range(0, max(len(dataset), 1), 60_000):
            caller.say(data(value(1, LAST * (at + 60_000 >= len(dataset)), dataset[at : at + 60_000])))
        response = caller.response()
        caller.release()
    return response.status, response.comment


UNREADABLE = {
    "nothing at all": b"",
    "sequences without end before the series": IDENTITY + sequences(50_000),
    "a value longer than the dataset": IDENTITY + struct.pack("<HH2sxxL", 0x0009, 0x1010, b"OB", 0xFFFFFF00) + b"abc",
    "cut off in the middle of an element": IDENTITY + STUDY[:11],
    "noise": random.Random(2).randbytes(3000),
    "a text": b"This is not a dataset. " * 20,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_kept_and_refused(tmp_path: Path, name: str) -> None:
    with open_port(tmp_path) as port:
        status, comment = send_raw(port, UNREADABLE[name])
        assert status == 0xC000
        assert comment
        assert port.files() == {}
        kept = list((tmp_path / "quarantine").glob("*.dcm"))
        assert len(kept) == len(port.reasons()) == 1
        assert kept[0].read_bytes().endswith(UNREADABLE[name])
        port.must_still_serve()


def test_what_comes_behind_the_series_is_not_judged(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        assert send_raw(port, IDENTITY + STUDY + sequences(50_000)) == (0, "")
        assert send_raw(port, IDENTITY + STUDY + b"\xff" * 99, "1.2.3.4.5") == (0, "")
        assert len([*tmp_path.rglob("1.2.3.4.5.dcm")]) == 2


def test_closed_sequences_in_front_are_walked_without_recursion(tmp_path: Path) -> None:
    ends = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * 50_000
    with open_port(tmp_path) as port:
        assert send_raw(port, IDENTITY + sequences(50_000) + ends + STUDY + PIXELS) == (0, "")


def test_a_deflated_bomb_is_refused(tmp_path: Path) -> None:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    huge = struct.pack("<HH2sxxL", 0x0009, 0x1010, b"OB", 300_000_000)
    bomb = packer.compress(IDENTITY + huge) + b"".join(packer.compress(bytes(1_000_000)) for _ in range(300))
    with open_port(tmp_path) as port:
        status, comment = send_raw(port, bomb + packer.flush(), syntax="1.2.840.10008.1.2.1.99")
        assert status == 0xC000
        assert "deflated" in comment


@pytest.mark.parametrize(
    "uid",
    ["../../etc/passwd", "/etc/passwd", "1." * 40 + "1", "1.2.3\n4", "..", ".", "1..2", "a" * 200, "1.2\0.3", "ü.1",
     "-", ".part-1", "association.json", "1.2.840\udcff"],
)  # fmt: skip
def test_uids_never_become_paths_as_they_are(tmp_path: Path, uid: str) -> None:
    raw = uid.encode("utf-8", "surrogateescape")
    said = raw + b"\0" * (len(raw) % 2)
    dataset = element(0x00080016, b"UI", MR.encode() + b"\0") + element(0x00080018, b"UI", said) + STUDY + PIXELS
    with open_port(tmp_path) as port:
        status, _ = send_raw(port, dataset, uid)
        assert status in (0, 0xA900, 0xC000)
        port.wait_for_end()
        names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
        assert all(name == "association.json" or name.startswith("uid-") or "-uid-" in name for name in names), names
        port.must_still_serve()


def test_a_second_request_changes_no_title(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        with Caller(port.number) as caller:
            caller.say(REQUEST, associate_request("OTHER", "OTHER", [IMAGES]))
            assert caller.kinds_to_the_end() == [2, 7]
        assert port.wait_for_end() is End.ABORTED
        assert [request.calling_ae for request in port.intake.requests] == ["TEST"]


@pytest.mark.parametrize("length", [257, 5000, 60_000])
def test_an_endless_uid_is_refused_and_kept(tmp_path: Path, length: int) -> None:
    with open_port(tmp_path) as port:
        status, comment = send_raw(port, IMAGE.dataset(), "1" * length)
        assert status == 0xC000
        assert str(length) in comment
        assert len(port.reasons()) == 1


# Streams that nobody thought of

GOOD = REQUEST + store_pdus(1, IMAGE) + RELEASE_REQUEST


def test_a_good_stream_cut_off_at_every_byte(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        for end in range(len(REQUEST), len(GOOD)):
            with Caller(port.number) as caller:
                caller.say(GOOD[:end])
        ended = len(GOOD) - len(REQUEST)
        wait_for(lambda: len(port.intake.ends) == ended, "all to end")
        assert {how for _, how in port.intake.ends} == {End.CLOSED}
        port.must_still_serve()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPort]:
    with open_port(tmp_path_factory.mktemp("lasting")) as port:
        yield port
        port.must_still_serve()


@given(stream=st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_streams_harm_nobody(lasting: OpenPort, stream: st.DataObject) -> None:
    mutated = bytearray(GOOD)
    for _ in range(stream.draw(st.integers(1, 6))):
        at = stream.draw(st.integers(0, len(mutated) - 1))
        how = stream.draw(st.sampled_from(("change", "insert", "remove", "repeat")))
        if how == "change":
            mutated[at] = stream.draw(st.integers(0, 255))
        elif how == "insert":
            mutated[at:at] = stream.draw(st.binary(min_size=1, max_size=8))
        elif how == "remove":
            del mutated[at : at + stream.draw(st.integers(1, 40))]
        else:
            mutated[at:at] = mutated[at : at + stream.draw(st.integers(1, 300))]
    with Caller(lasting.number) as caller, suppress(ConnectionError):
        caller.say(mutated)
        caller.sock.shutdown(socket.SHUT_WR)
        assert set(caller.kinds_to_the_end()) <= {2, 3, 4, 6, 7}
    assert not [text for text in lasting.troubles if "Traceback" in text], lasting.troubles
