"""The SCU with DCMTK's storescp, and where it calls."""

import socket
import time
from pathlib import Path

import peers
import pytest
from peers import QUICK, SAMPLES
from scusends import CT, HASTY, PLAN, connect, made, send_all

from magickbox.destination import Delivered, DicomDestination, Rejected, Retry
from magickbox.owncalls import OwnCalls
from magickbox.scu.echo import echo
from magickbox.scu.store import StoreSender
from magickbox.scu.upperlayer import Timeouts


@pytest.mark.peer
@pytest.mark.parametrize("name", SAMPLES)
def test_every_transfer_syntax_arrives_byte_for_byte(tmp_path: Path, name: str) -> None:
    item = peers.item_of(peers.sample(name))
    with peers.storescp(tmp_path / "stored") as scp:
        assert send_all(scp.destination, [item]) == [Delivered()]
        there = scp.stored()[item.sop_instance]
    assert peers.item_of(there).transfer_syntax == item.transfer_syntax
    sent = peers.dataset_bytes(item.path)
    odd = len(sent) % 2  # only a deflated one may be, and it is padded (PS3.5 A.5)
    assert peers.dataset_bytes(there) == sent + b"\0" * odd


@pytest.mark.peer
def test_private_sop_classes_are_sent(tmp_path: Path) -> None:
    private = made(tmp_path, "1.3.12.2.1107.5.9.1", "1.2.840.10008.1.2.1", "1.2.3.4", peers.dataset_bytes(CT.path))
    with peers.storescp(tmp_path / "stored") as scp:
        assert send_all(scp.destination, [private]) == [Delivered()]
        assert list(scp.stored()) == ["1.2.3.4"]


@pytest.mark.peer
def test_a_transfer_syntax_that_the_peer_lacks_is_named(tmp_path: Path) -> None:
    private = made(tmp_path, CT.sop_class, "1.2.3.4.5", "1.2.3.4", b"")
    with peers.storescp(tmp_path / "stored") as scp:
        ours, theirs = send_all(scp.destination, [private, CT])
    assert ours == Rejected(
        "no acceptable presentation context for CT Image Storage in 1.2.3.4.5: transfer syntax not supported"
    )
    assert theirs == Delivered()


@pytest.mark.peer
def test_a_peer_that_refuses_associations_is_tried_again(tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "stored", "--refuse") as scp:
        result = StoreSender(OwnCalls(), QUICK).connect(scp.destination, [CT], "job")
    assert isinstance(result, Retry)
    assert result.reason.startswith("association rejected permanently: no reason given")


@pytest.mark.peer
@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_an_abort_is_a_retry_and_ends_the_session(tmp_path: Path, option: str) -> None:
    with peers.storescp(tmp_path / "stored", option) as scp, connect(scp.destination, [CT]) as session:
        result = session.send(CT)
        assert isinstance(result, Retry)
        assert "abort" in result.reason
        assert not session.is_open
        assert session.send(CT) == Retry("the association is over")


@pytest.mark.peer
def test_a_slow_peer_is_waited_for_and_a_slower_one_is_not(tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "stored", "--sleep-during", "1") as scp:
        assert send_all(scp.destination, [PLAN], Timeouts()) == [Delivered()]
        (result,) = send_all(scp.destination, [PLAN], HASTY)
    assert result == Retry("the peer did not answer within 0.2 s")


@pytest.mark.peer
def test_echo(tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "stored") as scp:
        assert echo(scp.destination, QUICK) == Delivered()
    assert isinstance(echo(scp.destination, QUICK), Retry)


@pytest.mark.peer
def test_more_than_128_contexts_take_several_associations(tmp_path: Path) -> None:
    items = []
    for n in range(130):
        folder = tmp_path / str(n)
        folder.mkdir()
        items.append(made(folder, f"1.2.3.{n}", "1.2.840.10008.1.2.1", f"1.2.{n}", b""))
    sender = StoreSender(OwnCalls(), QUICK)
    groups = sender.split(DicomDestination("127.0.0.1", 104, "BOX", "PEER"), [*items, items[0]])
    assert [len(group) for group in groups] == [129, 2]
    with peers.storescp(tmp_path / "stored") as scp:
        for group in groups:
            with connect(scp.destination, group) as session:
                assert {type(session.send(item)) for item in group} == {Delivered}
        assert len(scp.stored()) == 130


# Where to


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("no-such-host.invalid", 104, "the host name 'no-such-host.invalid' does not resolve"),
        ("a..b", 104, "'a..b:104' is not a name and a port that can be called"),
        ("x" * 70 + ".example", 104, "is not a name and a port|does not resolve"),
        ("nul\0", 104, "is not a name and a port|does not resolve"),
        ("127.0.0.1", 70000, "is not a name and a port"),
    ],
)
def test_an_address_that_cannot_be_called_is_named(host: str, port: int, words: str) -> None:
    result = StoreSender(OwnCalls(), QUICK).connect(DicomDestination(host, port, "BOX", "PEER"), [CT], "job")
    assert isinstance(result, Retry)
    assert any(word in result.reason for word in words.split("|")), result.reason


def test_a_port_that_nobody_listens_on() -> None:
    nobody = DicomDestination("127.0.0.1", peers.free_port(), "BOX", "PEER")
    assert echo(nobody, QUICK) == Retry(f"connection refused: nothing listens on 127.0.0.1:{nobody.port}")


def test_a_connection_that_nobody_takes_ends_in_time() -> None:
    with socket.socket() as full:  # a backlog of none that one connection already fills: further SYNs go unanswered
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        filling = [socket.socket() for _ in range(4)]
        for sock in filling:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        result = echo(DicomDestination("127.0.0.1", port, "BOX", "PEER"), HASTY)
        for sock in filling:
            sock.close()
    assert result == Retry(f"no connection to 127.0.0.1:{port} within 1 s")


@pytest.mark.peer
def test_no_piece_waits_for_an_acknowledgement_of_the_one_before(tmp_path: Path) -> None:
    """With Nagle's algorithm on, each of these messages of several pieces would wait some 40 ms."""
    with peers.storescp(tmp_path / "stored", "--ignore") as scp, connect(scp.destination, [CT]) as session:
        began = time.monotonic()
        assert {type(session.send(CT)) for _ in range(50)} == {Delivered}
        assert time.monotonic() - began < 1.0
