"""The SCU with a scripted peer that misbehaves as asked: every trouble is a value, and in time."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from peers import QUICK, ScriptedPeer, Talk
from scusends import CT, HASTY, connect, made

from magickbox.destination import Delivered, Rejected, Result, Retry
from magickbox.owncalls import OwnCalls
from magickbox.scu.store import StoreSender
from magickbox.scu.upperlayer import Timeouts
from magickbox.sender import Item


def met_by(script: Callable[[Talk], None], timeouts: Timeouts = HASTY, item: Item = CT) -> Result:
    """What comes of sending one instance to such a peer."""
    with ScriptedPeer([script]) as peer:
        session = StoreSender(OwnCalls(), timeouts).connect(peer.destination, [item], "job")
        if isinstance(session, Retry):
            return session
        with session:
            return session.send(item)


def answering(status: int, comment: bytes = b"") -> Callable[[Talk], None]:
    def script(talk: Talk) -> None:
        talk.accept()
        request, _ = talk.message()
        talk.respond(request, status, comment)
        with contextlib.suppress(EOFError):
            talk.message()

    return script


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, Delivered),
        (0xB000, Delivered),
        (0xB007, Delivered),
        (0xA700, Retry),
        (0x0110, Retry),
        (0x0124, Retry),
        (0x7777, Retry),
        (0xA900, Rejected),
        (0xC123, Rejected),
        (0x0122, Rejected),
    ],
)
def test_each_class_of_status(status: int, kind: type[Result]) -> None:
    result = met_by(answering(status), QUICK)
    assert isinstance(result, kind)
    assert result.status == status


def test_a_peers_comment_is_shown_with_its_status() -> None:
    assert met_by(answering(0xC001, b"cannot \x1bparse\0")) == Rejected("0xC001 cannot ?parse", 0xC001)


def test_a_session_goes_on_after_a_refusal() -> None:
    def script(talk: Talk) -> None:
        talk.accept()
        talk.serve(lambda n: 0xA900 if n == 0 else 0)

    with ScriptedPeer([script]) as peer, connect(peer.destination, [CT]) as session:
        assert isinstance(session.send(CT), Rejected)
        assert session.send(CT) == Delivered()


REJECTS = [
    ((1, 1, 3), "association rejected permanently: calling AE title not recognized (1/1/3)"),
    ((1, 1, 7), "association rejected permanently: called AE title not recognized (1/1/7)"),
    ((2, 3, 2), "association rejected transiently: local limit exceeded (2/3/2)"),
    ((9, 9, 9), "association rejected: a reason that the standard does not name (9/9/9)"),
]


@pytest.mark.parametrize(("numbers", "words"), REJECTS)
def test_every_reject_is_passing_and_said_in_words(numbers: tuple[int, int, int], words: str) -> None:
    def script(talk: Talk) -> None:
        talk.pdu()
        talk.say(3, bytes((0, *numbers)))

    assert met_by(script) == Retry(words, answered=True)


def silent(talk: Talk) -> None:
    talk.pdu()


def silent_after_accept(talk: Talk) -> None:
    talk.accept()


def closes_at_once(talk: Talk) -> None:
    peers.close(talk)


def closes_after_the_request(talk: Talk) -> None:
    talk.accept()
    talk.message()
    peers.close(talk)


def half_a_pdu(talk: Talk) -> None:
    talk.accept()
    talk.message()
    talk.sock.sendall(b"\x04\0\0\0\0\x40half")
    peers.close(talk)


def a_web_server(talk: Talk) -> None:
    talk.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def releases(talk: Talk) -> None:
    talk.accept()
    talk.message()
    talk.say(5, bytes(4))
    talk.pdu()


def aborts(talk: Talk) -> None:
    talk.accept()
    talk.message()
    talk.say(7, bytes((0, 0, 2, 6)))


def answers_another(talk: Talk) -> None:
    talk.accept()
    request, _ = talk.message()
    talk.respond({**request, 0x0110: b"\x77\x07"}, 0)


def a_torn_command(talk: Talk) -> None:
    talk.accept()
    talk.message()
    talk.say(4, struct.pack(">IBB", 9, 1, 3) + b"\0\0\0\x09\x02\0\0")


def a_torn_value(talk: Talk) -> None:
    talk.accept()
    talk.message()
    talk.say(4, struct.pack(">IBB", 900, 1, 3))


def an_odd_pdu(talk: Talk) -> None:
    talk.accept()
    talk.message()
    talk.say(2, bytes(80))


def takes_nothing(talk: Talk) -> None:
    talk.accept(longest=6)


def a_torn_accept(talk: Talk) -> None:
    talk.pdu()
    talk.say(2, bytes(68) + b"\x21\0\xff\xff")


def an_endless_command(talk: Talk) -> None:
    talk.accept()
    talk.message()
    with contextlib.suppress(OSError):
        for _ in range(20):
            talk.say(4, struct.pack(">IBB", 8002, 1, 1) + bytes(8000))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (silent, "the peer did not answer within 0.2 s"),
        (silent_after_accept, "the peer did not answer within 0.2 s"),
        (closes_at_once, "closed the connection|connection broke"),
        (closes_after_the_request, "the peer closed the connection"),
        (half_a_pdu, "the peer closed the connection in the middle of a PDU"),
        (a_web_server, "announces a PDU of 1414541105 bytes: this is not DICOM"),
        (releases, "released the association before it answered"),
        (aborts, "the peer's upper layer aborted the association: invalid PDU parameter value"),
        (answers_another, "answered something that was not asked"),
        (a_torn_command, "its response cannot be read: the command set is cut off"),
        (a_torn_value, "a data value's length does not fit its PDU"),
        (an_odd_pdu, "a PDU of type 0x02 where none may come"),
        (takes_nothing, "PDUs of at most 6 bytes, into which nothing fits"),
        (a_torn_accept, "longer than the answer"),
        (an_endless_command, "the command set of its response is longer than 65536 bytes"),
    ],
)
def test_a_peer_that_misbehaves_is_tried_again(script: Callable[[Talk], None], words: str) -> None:
    result = met_by(script)
    assert isinstance(result, Retry)
    assert any(word in result.reason for word in words.split("|")), result.reason


def test_a_peer_that_drips_is_not_waited_for_longer_than_one_that_is_silent() -> None:
    def script(talk: Talk) -> None:
        talk.accept()
        talk.message()
        with contextlib.suppress(OSError):
            for byte in b"\x04\0\0\0\x01\0" + bytes(200):
                talk.sock.sendall(bytes((byte,)))
                time.sleep(0.02)

    began = time.monotonic()
    assert isinstance(met_by(script), Retry)
    assert time.monotonic() - began < 1.0


def test_a_peer_that_stops_reading_is_given_up(tmp_path: Path) -> None:
    big = made(tmp_path, CT.sop_class, CT.transfer_syntax, "1.2.3", bytes(32 * 1024 * 1024))

    def script(talk: Talk) -> None:
        talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        talk.accept()

    assert met_by(script, HASTY, big) == Retry("the peer took nothing for 0.5 s")


def test_a_peer_that_takes_an_image_in_drips_is_given_up(tmp_path: Path) -> None:
    """It takes each piece in time, but all of it would take too long."""
    big = made(tmp_path, CT.sop_class, CT.transfer_syntax, "1.2.3", bytes(32 * 1024 * 1024))

    def script(talk: Talk) -> None:
        talk.accept()
        while talk.sock.recv(32768):
            time.sleep(0.005)

    timeouts = replace(HASTY, slowest=1e9)
    assert met_by(script, timeouts, big) == Retry("the peer takes less than 1e+09 bytes/s")


def test_no_context_at_all_is_a_rejection_of_each_item() -> None:
    def script(talk: Talk) -> None:
        talk.accept(lambda _class, _syntax: 3)
        talk.serve()

    result = met_by(script)
    assert isinstance(result, Rejected)
    assert result.reason.endswith("Explicit VR Little Endian: SOP class not supported")


@pytest.mark.parametrize("longest", [0, 16, 17, 100, 1 << 20])
def test_any_maximum_length_is_kept_to(longest: int) -> None:
    seen: list[int] = []

    def script(talk: Talk) -> None:
        talk.accept(longest=longest)
        read = talk.pdu

        def measured() -> tuple[int, bytes]:
            kind, body = read()
            seen.append(len(body))
            return kind, body

        talk.pdu = measured  # type: ignore[method-assign]
        request, dataset = talk.message()
        assert dataset == peers.dataset_bytes(CT.path)
        talk.respond(request, 0)
        talk.message()

    assert met_by(script, QUICK) == Delivered()
    assert max(seen) <= (longest or max(seen))
    assert not any(length % 2 for length in seen)


def test_a_dataset_without_a_byte_is_a_message_too(tmp_path: Path) -> None:
    assert met_by(answering(0), QUICK, made(tmp_path, CT.sop_class, CT.transfer_syntax, "1.2.3", b"")) == Delivered()


@pytest.mark.parametrize("uid", ["1." * 50 + "1", "not a uid", "ü\udcff", ""])
def test_odd_uids_are_sent_as_they_are(tmp_path: Path, uid: str) -> None:
    wanted = uid.encode("utf-8", "surrogateescape")

    def script(talk: Talk) -> None:
        talk.accept()
        request, _ = talk.message()
        assert request[0x1000] == wanted + b"\0" * (len(wanted) % 2)
        talk.respond(request, 0)
        talk.message()

    item = replace(made(tmp_path, CT.sop_class, CT.transfer_syntax, "1.2", b"\0" * 8), sop_instance=uid)
    assert met_by(script, QUICK, item) == Delivered()


def test_an_odd_sop_class_does_not_crash(tmp_path: Path) -> None:
    odd = "private/class " * 10
    assert met_by(answering(0), QUICK, made(tmp_path, odd, CT.transfer_syntax, "1.2.3", b"")) == Delivered()


def test_a_file_that_is_no_longer_what_was_selected(tmp_path: Path) -> None:
    changed = replace(made(tmp_path, CT.sop_class, "1.2.840.10008.1.2", "1.2", b""), transfer_syntax=CT.transfer_syntax)
    junk, fifo = replace(CT, path=tmp_path / "junk"), replace(CT, path=tmp_path / "fifo")
    junk.path.write_bytes(b"junk")
    os.mkfifo(fifo.path)
    folder = replace(CT, path=tmp_path)

    def script(talk: Talk) -> None:
        talk.accept()
        talk.serve()

    with ScriptedPeer([script]) as peer, connect(peer.destination, [CT]) as session:
        results = [session.send(item) for item in (changed, junk, fifo, folder)]
        assert all(isinstance(result, Rejected) for result in results), results
        assert session.send(CT) == Delivered()


def test_abort_from_another_thread_wakes_who_waits() -> None:
    with ScriptedPeer([silent_after_accept]) as peer, connect(peer.destination, [CT], Timeouts()) as session:
        threading.Timer(0.1, session.abort).start()
        began = time.monotonic()
        assert session.send(CT) == Retry("the box ended the association")
        assert time.monotonic() - began < 5
