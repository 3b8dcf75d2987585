"""What a destination's line has to keep up with: its own stall and least speed."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import peers
import pytest
from peers import Talk
from scusends import CT, made
from webpeers import read_request

from magickbox.destination import Destination, DicomDestination, Line, Retry, StowDestination
from magickbox.dicomweb.store import StowSender
from magickbox.ledger.destinations import from_row, to_row
from magickbox.owncalls import OwnCalls
from magickbox.rules.file import RulesRefused, parse
from magickbox.scu.store import StoreSender
from magickbox.sender import Item, Sender

LARGE = 32 * 1024 * 1024


@pytest.fixture
def big(tmp_path: Path) -> Item:
    return made(tmp_path, CT.sop_class, CT.transfer_syntax, "1.2.3", bytes(LARGE))


def few(talk: Talk) -> None:
    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def takes_nothing(talk: Talk) -> None:
    few(talk)
    talk.accept()


def drips(talk: Talk) -> None:
    talk.accept()
    while talk.sock.recv(32768):
        time.sleep(0.005)


def says_nothing(talk: Talk) -> None:
    talk.accept()
    talk.message()


def web_takes_nothing(talk: Talk) -> None:
    few(talk)
    time.sleep(1.0)


def web_drips(talk: Talk) -> None:
    while talk.sock.recv(32768):
        time.sleep(0.005)


def web_says_nothing(talk: Talk) -> None:
    read_request(talk)
    talk.read(1)


def said(sender: Sender, to: Destination, item: Item) -> str:
    session = sender.connect(to, [item], "job")
    assert not isinstance(session, Retry), session
    with session:
        result = session.send(item)
    assert isinstance(result, Retry), result
    return result.reason


@pytest.mark.parametrize(
    ("script", "line", "words"),
    [
        (takes_nothing, Line(stall=0.3), "the peer took nothing for 0.3 s"),
        (says_nothing, Line(stall=0.3), "0.3 s"),
        (drips, Line(0.3, 1e9), "the peer takes less than 1e+09 bytes/s"),
    ],
)
def test_a_station_is_given_up_as_its_line_says(
    big: Item, script: Callable[[Talk], None], line: Line, words: str
) -> None:
    with peers.ScriptedPeer([script]) as peer:
        to = DicomDestination("127.0.0.1", peer.port, "BOX", "PEER", line=line)
        reason = said(StoreSender(OwnCalls()), to, big if script is not says_nothing else CT)
    assert words in reason


@pytest.mark.parametrize(
    ("script", "line", "words"),
    [
        (web_takes_nothing, Line(stall=0.3), "the server took nothing for 0.3 s"),
        (web_says_nothing, Line(stall=0.3), "no answer within 0.3 s"),
        (web_drips, Line(0.3, 1e9), "the server takes less than 1e+09 bytes/s"),
    ],
)
def test_a_service_is_given_up_as_its_line_says(
    big: Item, script: Callable[[Talk], None], line: Line, words: str
) -> None:
    with peers.ScriptedPeer([script]) as peer:
        to = StowDestination(f"http://127.0.0.1:{peer.port}/dicom-web", line=line)
        assert words in said(StowSender(), to, big if script is not web_says_nothing else CT)


STATION = {"IP": "10.0.0.5", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS"}


def test_the_line_is_read_from_the_queue_and_kept_in_the_ledger() -> None:
    rules = parse(
        """{ "routing": [], "destinations": {
          "far": { "IP": "10.0.0.5", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS",
                   "queue": { "stall": 30, "least_speed": 50000 } },
          "web": { "kind": "stow", "URL": "https://web.example.org/dicom-web", "queue": { "stall": 20.5 } },
          "near": { "IP": "10.0.0.6", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS" } } }""",
        "routing.json",
    )
    far, web, near = (rules.destinations[name] for name in ("far", "web", "near"))
    assert isinstance(far, DicomDestination)
    assert isinstance(web, StowDestination)
    assert isinstance(near, DicomDestination)
    assert (far.line, web.line, near.line) == (Line(30, 50000), Line(20.5, None), Line())
    assert [from_row(*to_row(each)) for each in (far, web, near)] == [far, web, near]


def test_a_folder_has_no_line() -> None:
    with pytest.raises(RulesRefused) as caught:
        parse(
            '{ "routing": [],\n'
            '"destinations": { "f": { "kind": "folder", "path": "/mnt",\n'
            '"queue": { "stall": 5 } } } }',
            "x.json",
        )
    assert caught.value.problems[0].startswith("x.json, line 3, column 21, destinations.f.queue.stall: a folder has no")
