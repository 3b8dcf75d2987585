"""STOW-RS: what goes over the wire, what each answer comes to, and servers that misbehave."""

import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
import psutil
import pytest
import webpeers
from hypothesis import given
from hypothesis import strategies as st
from peers import ScriptedPeer, Talk
from pki import authority
from studies import study
from webpeers import at, read_head, read_request, reply, response

from magickbox.destination import Delivered, Rejected, Result, Retry, Secret, StowDestination, Tls
from magickbox.dicomweb.answer import Answer, judge_answer
from magickbox.dicomweb.connection import Limits
from magickbox.dicomweb.store import StowSender
from magickbox.sender import Item, Session

QUICK = Limits(connect=2.0, write=2.0, response=2.0)
HASTY = Limits(connect=0.3, write=0.5, response=0.4)


@pytest.fixture
def item(tmp_path: Path) -> Item:
    return study(tmp_path / "study", 1)[0]


def opened(destination: StowDestination, limits: Limits = QUICK) -> Session:
    session = StowSender(limits).connect(destination, [], "job")
    assert not isinstance(session, Retry), session
    return session


def sent(item: Item, script: Callable[[Talk], None], limits: Limits = QUICK) -> tuple[Result, bool]:
    """What came of one instance, and whether another may follow."""
    with ScriptedPeer([script]) as peer, opened(at(peer), limits) as session:
        return session.send(item), session.is_open


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[[Talk], None]:
    def script(talk: Talk) -> None:
        read_request(talk)
        reply(talk, status, body, **headers)

    return script


def test_a_request_is_as_the_standard_has_it_and_the_connection_is_kept(tmp_path: Path) -> None:
    items = study(tmp_path / "study", 3)
    requests = []

    def script(talk: Talk) -> None:
        while True:
            requests.append(read_request(talk))
            reply(talk, 200, response(items[len(requests) - 1].sop_instance))

    with ScriptedPeer([script]) as peer, opened(at(peer)) as session:
        assert [session.send(each) for each in items] == [Delivered()] * 3
        assert len(peer.talks) == 1
        assert {request.line for request in requests} == {"POST /dicom-web/studies HTTP/1.1"}
        assert requests[0].headers["host"] == f"127.0.0.1:{peer.port}"
    for request, each in zip(requests, items, strict=True):
        assert request.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
        assert "application/dicom+json" in request.headers["accept"]
        assert "authorization" not in request.headers
        (tmp_path / "got.dcm").write_bytes(request.dicom)
        got = peers.item_of(tmp_path / "got.dcm")
        assert (got.sop_class, got.sop_instance, got.transfer_syntax) == (
            each.sop_class,
            each.sop_instance,
            each.transfer_syntax,
        )
        assert peers.dataset_bytes(tmp_path / "got.dcm") == peers.dataset_bytes(each.path)
    assert len({request.headers["content-type"] for request in requests}) == 3


def test_the_file_meta_says_what_the_dataset_says(tmp_path: Path, item: Item) -> None:
    """Scripts that change UIDs often leave the file meta as it was."""
    changed = Item(item.path, item.sop_class, "1.2.3.4", item.transfer_syntax)
    got = []

    def script(talk: Talk) -> None:
        got.append(read_request(talk))
        reply(talk, 200, response("1.2.3.4"))

    assert sent(changed, script) == (Delivered(), True)
    assert webpeers.uid_in(got[0], tmp_path) == "1.2.3.4"


@pytest.mark.parametrize(
    ("more", "header"),
    [
        ({"bearer": Secret("env:TOKEN")}, "Bearer s3cret.t0ken"),
        ({"user": "box", "password": Secret("env:TOKEN")}, "Basic Ym94OnMzY3JldC50MGtlbg=="),
    ],
)
def test_credentials_are_sent_and_shown_to_nobody(
    item: Item, more: dict[str, Any], header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = []

    def script(talk: Talk) -> None:
        got.append(read_request(talk))
        reply(talk, 401)

    monkeypatch.setenv("TOKEN", "s3cret.t0ken")
    with ScriptedPeer([script]) as peer, opened(at(peer, **more)) as session:
        result = session.send(item)
        shown = f"{result} {at(peer, **more)!r} {at(peer, **more)}"
    assert got[0].headers["authorization"] == header
    assert "s3cret" not in shown


def test_credentials_that_cannot_be_found_are_a_retry_and_a_problem(
    item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_TOKEN", "two words")
    for source, said in (
        ("env:NO_SUCH_TOKEN", "NO_SUCH_TOKEN is not set"),
        ("env:ODD_TOKEN", "no blanks (env:ODD_TOKEN)"),
    ):
        there = StowDestination("http://127.0.0.1:9", "web", bearer=Secret(source))
        result = StowSender().connect(there, [item], "job")
        assert isinstance(result, Retry)
        assert said in result.reason
        assert StowSender().problems(there) == [result.reason]
        assert "words" not in result.reason
    gone = StowDestination("https://127.0.0.1:9", "web", tls=Tls(ca="/nowhere.pem"))
    assert StowSender().problems(gone) == ["/nowhere.pem: No such file or directory"]


UID = "1.2.3"
XML = b"""<?xml version="1.0"?><NativeDicomModel xml:space="preserve"><DicomAttribute tag="00081198" vr="SQ"
keyword="FailedSOPSequence"><Item number="1"><DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.3</Value>
</DicomAttribute><DicomAttribute tag="00081197" vr="US"><Value number="1">290</Value></DicomAttribute></Item>
</DicomAttribute></NativeDicomModel>"""
STORED_XML = XML.replace(b"00081198", b"00081199").replace(b"00081197", b"00081196").replace(b">290<", b">45056<")


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Answer(200, response(UID)), Delivered()),
        (Answer(200, b"[" + response(UID) + b"]"), Delivered()),
        (Answer(202, response(UID)), Delivered()),
        (Answer(200, response("9.9.9")), Delivered()),  # it gave the instance a UID of its own
        (Answer(202, response(warned={UID: 0xB000})), Delivered(0xB000, "0xB000")),
        (Answer(202, STORED_XML), Delivered(0xB000, "0xB000")),
        (Answer(202, response("9.9", failed={UID: 0xA700})), Retry("0xA700", 0xA700)),
        (Answer(202, response(UID, failed={"9.9": 0xA700})), Delivered()),
        (Answer(409, response(failed={UID: 0xA700})), Retry("0xA700", 0xA700)),
        (Answer(409, response(failed={UID: 0x0110})), Retry("0x0110", 0x0110)),
        (Answer(409, response(failed={UID: 0x0122})), Rejected("0x0122", 0x0122)),
        (Answer(409, response(failed={UID: 0xC122})), Rejected("0xC122", 0xC122)),
        (Answer(409, response(failed={UID: 0xA900})), Rejected("0xA900", 0xA900)),
        (Answer(409, XML), Rejected("0x0122", 0x0122)),
        (Answer(409, response(failed={"9.9.9": 0xC000})), Rejected("0xC000", 0xC000)),
        (Answer(409, response(failed={UID: None})), Rejected("HTTP 409 Conflict: it failed without a reason")),
        (Answer(409, b"<html>no</html>"), Rejected("HTTP 409 Conflict, without a reason that can be read")),
        (Answer(400), Rejected("HTTP 400 Bad Request: it takes this for malformed")),
        (Answer(413), Rejected("HTTP 413 Request Entity Too Large: too large for it")),
        (Answer(415), Rejected("HTTP 415 Unsupported Media Type: not supported by it")),
        (Answer(599), Retry("HTTP 599", answered=True)),
        (Answer(503, after=7.0), Retry("HTTP 503 Service Unavailable, it asks to wait 7 s", answered=True, after=7.0)),
    ],
)
def test_what_an_answer_comes_to(answer: Answer, result: Result) -> None:
    assert judge_answer(answer, UID) == result


@pytest.mark.parametrize(
    "answer",
    [
        *(Answer(n) for n in (201, 204, 301, 308, 401, 403, 404, 405, 407, 408, 429, 500, 502, 503, 504, 507)),
        *(Answer(200, body) for body in (b"", b"<html>Sign in</html>", b"{}", b"[]", b"null", b"\xff")),
        Answer(200, b'{"00081199": 7}'),
        Answer(200, b"[" * 100_000),
        Answer(200, b"<a>" * 100_000),
        Answer(200, b'<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><NativeDicomModel>&c;</NativeDicomModel>'),
        Answer(200, b"<NativeDicomModel><DicomAttribute/></Item></NativeDicomModel>"),
        Answer(200, response(UID), cut_off=True),
        Answer(200, response(failed={UID: 0xB000})),
    ],
)  # fmt: skip
def test_what_is_no_clear_word_is_tried_again(answer: Answer) -> None:
    result = judge_answer(answer, UID)
    assert isinstance(result, Retry), result
    assert result.answered


KEYS = st.sampled_from(["00081198", "00081199", "0008119A", "Value", "00081155", "00081197"])
ODD_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
).map(lambda value: json.dumps(value).encode())


@given(st.binary() | ODD_JSON, st.integers(100, 999))
def test_any_answer_is_judged(body: bytes, status: int) -> None:
    assert isinstance(judge_answer(Answer(status, body), UID), Delivered | Retry | Rejected)


def test_refusals_of_one_instance_do_not_stop_the_others_and_those_of_all_do(item: Item) -> None:
    for status, goes_on in (
        (400, True),
        (413, True),
        (415, True),
        (401, False),
        (403, False),
        (503, False),
        (302, False),
    ):
        assert sent(item, answering(status))[1] is goes_on, status
    failed = response(failed={item.sop_instance: 0x0110})
    assert sent(item, answering(409, failed)) == (Retry("0x0110", 0x0110), True)


def test_a_redirect_is_not_followed_and_tells_the_other_host_nothing(
    item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    with ScriptedPeer([lambda _talk: None]) as elsewhere:
        for location in (f"http://127.0.0.1:{elsewhere.port}/x?PatientName=Doe", "/other", "http://[", "\xff" * 300):
            with ScriptedPeer([answering(307, Location=location)]) as peer:
                with opened(at(peer, bearer=Secret("env:TOKEN"))) as session:
                    result = session.send(item)
                assert isinstance(result, Retry)
                assert "redirects to" in result.reason
                assert "Doe" not in result.reason
                assert len(result.reason) < 200
        assert elsewhere.talks == []


@pytest.mark.parametrize(
    ("text", "after"),
    [("120", 120.0), ("-1", None), ("soon", None), ("9" * 40, 86400.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_what_retry_after_asks_for(item: Item, text: str, after: float | None) -> None:
    result, _ = sent(item, answering(503, Retry_After=text))
    assert isinstance(result, Retry)
    assert result.after == after


def endless(talk: Talk) -> None:
    read_request(talk)
    talk.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        talk.sock.sendall(b"x" * 65536)


def endless_chunks(talk: Talk) -> None:
    read_request(talk)
    talk.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        talk.sock.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def endless_headers(talk: Talk) -> None:
    read_request(talk)
    talk.sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        talk.sock.sendall(b"X: y\r\n" * 1000)


def drip(talk: Talk) -> None:
    read_request(talk)
    talk.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        talk.sock.sendall(b"x")
        time.sleep(0.05)


def continues(talk: Talk) -> None:
    read_request(talk)
    while True:
        talk.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


def silent(talk: Talk) -> None:
    read_request(talk)
    talk.read(1)


def resets(talk: Talk) -> None:
    talk.read(100)
    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    talk.sock.close()


def garbage(talk: Talk) -> None:
    read_request(talk)
    talk.sock.sendall(os.urandom(5000) + b"\r\n\r\n")
    talk.read(1)


def half(talk: Talk) -> None:
    read_request(talk)
    talk.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + response("1.2.3"))
    peers.close(talk)


def closes(talk: Talk) -> None:
    read_request(talk)
    peers.close(talk)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (endless, "far too long"),
        (endless_chunks, "far too long"),
        (endless_headers, "not HTTP"),
        (drip, "no answer within 0.4 s"),
        (continues, "no answer within 0.4 s"),
        (silent, "no answer within 0.4 s"),
        (resets, "the connection broke"),
        (garbage, "not HTTP"),
        (half, "in the middle of its answer"),
        (closes, "closed the connection before it answered"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_servers_that_misbehave(item: Item, script: Callable[[Talk], None], said: str) -> None:
    began = time.monotonic()
    result, goes_on = sent(item, script, HASTY)
    assert isinstance(result, Retry), result
    assert said in result.reason or (script is resets and "closed" in result.reason), result
    assert not goes_on
    assert time.monotonic() - began < 10


def test_a_server_that_reads_nothing_is_left(tmp_path: Path) -> None:
    (large,) = study(tmp_path / "large", 1, pixels=4096)
    result, _ = sent(large, lambda talk: read_head(talk) and None, HASTY)
    assert result == Retry("the server took nothing for 0.5 s")


def test_a_refusal_before_the_whole_body_came_is_heard(tmp_path: Path) -> None:
    (large,) = study(tmp_path / "large", 1, pixels=4096)

    def script(talk: Talk) -> None:
        read_head(talk)
        reply(talk, 413)
        talk.read(100_000_000)

    assert sent(large, script) == (Rejected("HTTP 413 Request Entity Too Large: too large for it"), True)


def test_a_kept_connection_that_the_server_has_closed_is_made_anew(tmp_path: Path) -> None:
    items = study(tmp_path / "study", 3)

    def once(talk: Talk) -> None:
        reply(talk, 200, response(webpeers.uid_in(read_request(talk), tmp_path)))
        peers.close(talk)

    with ScriptedPeer([once]) as peer, opened(at(peer)) as session:
        for each in items:
            assert session.send(each) == Delivered()
            time.sleep(0.05)
        assert len(peer.talks) == 3


def test_an_abort_from_another_thread_wakes_who_waits(item: Item) -> None:
    results: list[Result] = []
    with ScriptedPeer([silent]) as peer, opened(at(peer), Limits(response=30.0)) as session:
        thread = threading.Thread(target=lambda: results.append(session.send(item)))
        thread.start()
        time.sleep(0.2)
        began = time.monotonic()
        session.abort()
        thread.join(5)
        assert time.monotonic() - began < 4
    assert results == [Retry("the box ended the connection")]


def test_a_large_object_is_streamed_from_disk(tmp_path: Path, item: Item) -> None:
    size = 300 * 1024 * 1024
    with item.path.open("r+b") as file:  # the tail is sparse: nobody parses it here
        file.truncate(size)
    got = []

    def script(talk: Talk) -> None:
        _, headers = read_head(talk)
        left, buffer = int(headers["content-length"]), bytearray(1 << 20)
        while left:
            left -= talk.sock.recv_into(buffer, min(left, len(buffer)))
        got.append(int(headers["content-length"]))
        reply(talk, 200, response(item.sop_instance))

    before = psutil.Process().memory_info().rss
    assert sent(item, script, Limits()) == (Delivered(), True)
    assert got[0] > size
    assert psutil.Process().memory_info().rss - before < 40 * 1024 * 1024


def test_a_file_that_becomes_shorter_is_never_taken_for_whole(tmp_path: Path) -> None:
    (large,) = study(tmp_path / "large", 1, pixels=2048)
    bodies = []

    def script(talk: Talk) -> None:
        _, headers = read_head(talk)
        os.truncate(large.path, 100_000)
        bodies.append(talk.read(int(headers["content-length"])))

    result, goes_on = sent(large, script)
    assert isinstance(result, Retry)
    assert "shorter" in result.reason
    assert not goes_on
    assert bodies == []


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[ScriptedPeer, Path]]:
    ca = authority(tmp_path / "ca")
    own = ca.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.pem, own.key)
    inside = webpeers.take_all(tmp_path)

    def script(talk: Talk) -> None:
        try:
            talk.sock = context.wrap_socket(talk.sock, server_side=True)
        except (ssl.SSLError, OSError):
            return
        inside(talk)

    with ScriptedPeer([script]) as peer:
        yield peer, ca.pem


def test_https_with_an_authority_of_ones_own(tls_server: tuple[ScriptedPeer, Path], item: Item) -> None:
    peer, ca = tls_server
    url = f"https://127.0.0.1:{peer.port}/dicom-web"
    with opened(StowDestination(url, "web", tls=Tls(ca=str(ca)))) as session:
        assert session.send(item) == Delivered()
    stranger = StowSender(QUICK).connect(StowDestination(url, "web"), [item], "job")
    assert isinstance(stranger, Retry)
    assert "certificate is not accepted" in stranger.reason
    name = StowSender(QUICK).connect(StowDestination(url, tls=Tls(ca=str(ca), server_name="pacs.org")), [item], "job")
    assert isinstance(name, Retry)
    assert "certificate is not accepted: Hostname mismatch" in name.reason


@pytest.mark.peer
def test_orthanc_takes_instances_and_says_what_it_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "s3cret")
    monkeypatch.setenv("WRONG", "guess")
    items = [
        peers.item_of(peers.sample(name))
        for name in ("CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "test-SR.dcm")
    ]
    with webpeers.orthanc(tmp_path / "orthanc") as server:
        there = StowDestination(server.url, "orthanc", user="box", password=Secret("env:PASSWORD"))
        assert StowSender(QUICK).probe(there) is None
        with opened(there, Limits()) as session:
            assert [session.send(each) for each in items] == [Delivered()] * len(items)
            assert session.send(items[0]) == Delivered()
        assert server.stored() == {each.sop_instance for each in items}
        with opened(StowDestination(server.url, "orthanc", user="box", password=Secret("env:WRONG"))) as session:
            assert session.send(items[0]) == Retry(
                "HTTP 401 Unauthorized: it does not accept the credentials", answered=True
            )
        with opened(StowDestination(f"{server.url}/nothing", user="box", password=Secret("env:PASSWORD"))) as session:
            result = session.send(items[0])
            assert isinstance(result, Retry)
            assert "HTTP 4" in result.reason


@pytest.mark.peer
def test_orthanc_behind_nginx_with_certificates_on_both_sides(
    tmp_path: Path, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "s3cret")
    ca = authority(tmp_path / "ca")
    mine, (large,) = ca.issue("box"), study(tmp_path / "large", 1, pixels=1024)
    shown = Tls(ca=str(ca.pem), certificate=str(mine.pem), key=str(mine.key))
    more: dict[str, Any] = {"user": "box", "password": Secret("env:PASSWORD")}
    with (
        webpeers.orthanc(tmp_path / "orthanc") as server,
        webpeers.nginx(tmp_path / "nginx", server.url, ca.issue("nginx"), ca.pem) as url,
    ):
        with opened(StowDestination(url, "web", tls=shown, **more)) as session:
            assert session.send(item) == Delivered()
            assert session.send(large) == Rejected("HTTP 413 Request Entity Too Large: too large for it")
            assert session.send(item) == Delivered()
        assert server.stored() == {item.sop_instance}
        with opened(StowDestination(url, "web", tls=Tls(ca=str(ca.pem)), **more)) as session:
            assert isinstance(session.send(item), Rejected)  # nginx says 400: no certificate was sent
