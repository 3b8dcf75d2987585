"""What every sender keeps to: C-STORE to DCMTK's storescp (also with TLS), STOW-RS, folders, the fake."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import peers
import pytest
import webpeers
from pki import authority

from magickbox.destination import (
    Delivered,
    Destination,
    DicomDestination,
    FolderDestination,
    Rejected,
    Retry,
    Secret,
    StowDestination,
    Tls,
)
from magickbox.dicomweb.connection import Limits
from magickbox.dicomweb.store import StowSender
from magickbox.folders.store import FolderSender
from magickbox.owncalls import OwnCalls
from magickbox.pathpattern import DEFAULT_PATTERN
from magickbox.scu.store import StoreSender
from magickbox.sender import FakeSender, Item, Sender


@dataclass
class Bench:
    """A sender and two destinations: one that takes everything, one that nobody is at; ``why`` is what is said then."""

    sender: Sender
    there: Destination
    nowhere: Destination
    why: str = "connection refused"


def refuse_nowhere(destination: DicomDestination) -> str | None:
    return "connection refused" if destination.called_ae == "NOWHERE" else None


@contextmanager
def fake(_folder: Path) -> Iterator[Bench]:
    there, nowhere = (DicomDestination("127.0.0.1", 104, "BOX", title) for title in ("THERE", "NOWHERE"))
    yield Bench(FakeSender(refusal=refuse_nowhere), there, nowhere)


@contextmanager
def storescp(folder: Path) -> Iterator[Bench]:
    nowhere = DicomDestination("127.0.0.1", peers.free_port(), "BOX", "NOWHERE")
    with peers.storescp(folder / "stored") as scp:
        yield Bench(StoreSender(OwnCalls(), peers.QUICK), scp.destination, nowhere)


@contextmanager
def storescp_tls(folder: Path) -> Iterator[Bench]:
    ca = authority(folder / "ca")
    own = ca.issue("station")
    tls = Tls(ca=str(ca.pem))
    nowhere = DicomDestination("127.0.0.1", peers.free_port(), "BOX", "NOWHERE", "", tls)
    with peers.storescp(folder / "stored", "+tls", str(own.key), str(own.pem), "-ic") as scp:
        yield Bench(StoreSender(OwnCalls(), peers.QUICK), replace(scp.destination, tls=tls), nowhere)


@contextmanager
def folder(folder: Path) -> Iterator[Bench]:
    (folder / "share").mkdir()
    there, nowhere = (FolderDestination(str(folder / name), DEFAULT_PATTERN) for name in ("share", "gone"))
    yield Bench(FolderSender(), there, nowhere, "No such file or directory")


@contextmanager
def stow(folder: Path) -> Iterator[Bench]:
    nowhere = StowDestination(f"http://127.0.0.1:{peers.free_port()}", "nowhere")
    with peers.ScriptedPeer([webpeers.take_all(folder)]) as peer:
        yield Bench(StowSender(Limits(2.0, 2.0, 2.0)), webpeers.at(peer), nowhere)


@contextmanager
def orthanc(folder: Path) -> Iterator[Bench]:
    (folder / "password").write_text("s3cret")
    who: dict[str, Any] = {"user": "box", "password": Secret(f"file:{folder}/password")}
    nowhere = StowDestination(f"http://127.0.0.1:{peers.free_port()}", "nowhere", **who)
    with webpeers.orthanc(folder / "orthanc") as server:
        yield Bench(StowSender(Limits()), StowDestination(server.url, "orthanc", **who), nowhere)


PEER = pytest.mark.peer
KINDS = [
    fake,
    pytest.param(storescp, marks=PEER),
    pytest.param(storescp_tls, marks=PEER),
    stow,
    pytest.param(orthanc, marks=PEER),
    folder,
]


@pytest.fixture(params=KINDS, scope="module")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One destination of each kind for all tests: starting some of them takes longer than what is tried there."""
    with request.param(tmp_path_factory.mktemp("bench")) as made:
        yield made


@pytest.fixture
def items() -> list[Item]:
    return [peers.item_of(peers.sample(name)) for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm")]


def test_each_instance_is_delivered(bench: Bench, items: list[Item]) -> None:
    with _session(bench, items) as session:
        assert session.is_open
        assert [session.send(item) for item in items] == [Delivered()] * 3
    assert not session.is_open


def test_no_way_to_connect_is_a_retry_with_a_reason(bench: Bench, items: list[Item]) -> None:
    result = bench.sender.connect(bench.nowhere, items, "job")
    assert isinstance(result, Retry)
    assert bench.why in result.reason


def test_a_file_that_is_gone_is_rejected_and_the_next_goes_on(bench: Bench, items: list[Item], tmp_path: Path) -> None:
    gone = replace(items[0], path=tmp_path / "gone.dcm")
    with _session(bench, [gone, *items]) as session:
        assert session.send(gone) == Rejected("the file cannot be read: No such file or directory")
        assert session.send(items[1]) == Delivered()


def test_an_aborted_session_says_retry(bench: Bench, items: list[Item]) -> None:
    with _session(bench, items) as session:
        session.abort()
        assert not session.is_open
        assert isinstance(session.send(items[0]), Retry)


def test_an_exception_inside_ends_the_session(bench: Bench, items: list[Item]) -> None:
    with pytest.raises(RuntimeError), _session(bench, items) as session:
        raise RuntimeError("not sent any further")
    assert not session.is_open


def test_groups_keep_every_item_once(bench: Bench, items: list[Item]) -> None:
    many = [replace(items[n % 3], sop_class=f"1.2.3.{n % 150}", sop_instance=f"1.2.{n}") for n in range(600)]
    groups = bench.sender.split(bench.there, many)
    assert sorted(item.sop_instance for group in groups for item in group) == sorted(i.sop_instance for i in many)


def test_what_is_delivered_again_is_delivered(bench: Bench, items: list[Item]) -> None:
    for _ in range(2):
        with _session(bench, items) as session:
            assert session.send(items[0]) == Delivered()


def test_a_file_that_is_no_dicom_harms_nobody(bench: Bench, items: list[Item], tmp_path: Path) -> None:
    (tmp_path / "no.dcm").write_bytes(b"no DICOM at all")
    os.mkfifo(tmp_path / "pipe.dcm")
    with _session(bench, items) as session:
        for name in ("no.dcm", "pipe.dcm"):
            session.send(replace(items[0], path=tmp_path / name))
        assert session.send(items[1]) == Delivered()


def test_a_good_destination_has_no_problems(bench: Bench) -> None:
    assert bench.sender.problems(bench.there) == []


def test_a_destination_that_is_there_can_be_asked_and_one_that_is_not_says_why(bench: Bench) -> None:
    assert bench.sender.probe(bench.there) is None
    said = bench.sender.probe(bench.nowhere)
    assert said is not None
    assert bench.why in said.reason


def test_no_items_no_groups(bench: Bench) -> None:
    assert bench.sender.split(bench.there, []) == []


def _session(bench: Bench, items: list[Item]):  # type: ignore[no-untyped-def]  # Session, narrowed
    session = bench.sender.connect(bench.there, items, "job")
    assert not isinstance(session, Retry), session
    return session
