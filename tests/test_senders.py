"""What every sender keeps to: the real one against DCMTK's storescp, and the fake that stands in for it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import peers
import pytest

from magickbox.destination import Delivered, DicomDestination, Rejected, Retry
from magickbox.owncalls import OwnCalls
from magickbox.scu.store import StoreSender
from magickbox.sender import FakeSender, Item, Sender


@dataclass
class Bench:
    """A sender and two destinations: one that takes everything, one that nobody is at."""

    sender: Sender
    there: DicomDestination
    nowhere: DicomDestination


def refuse_nowhere(destination: DicomDestination) -> str | None:
    return "connection refused" if destination.called_ae == "NOWHERE" else None


@pytest.fixture(params=["fake", pytest.param("storescp", marks=pytest.mark.peer)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    nowhere = DicomDestination("127.0.0.1", peers.free_port(), "BOX", "NOWHERE")
    if request.param == "fake":
        yield Bench(FakeSender(refusal=refuse_nowhere), DicomDestination("127.0.0.1", 104, "BOX", "THERE"), nowhere)
        return
    with peers.storescp(tmp_path / "stored") as scp:
        yield Bench(StoreSender(OwnCalls(), peers.QUICK), scp.destination, nowhere)


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
    assert "connection refused" in result.reason


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
    groups = bench.sender.split(many)
    assert len(groups) > 1
    assert sorted(item.sop_instance for group in groups for item in group) == sorted(i.sop_instance for i in many)


def test_no_items_no_groups(bench: Bench) -> None:
    assert bench.sender.split([]) == []


def _session(bench: Bench, items: list[Item]):  # type: ignore[no-untyped-def]  # Session, narrowed
    session = bench.sender.connect(bench.there, items, "job")
    assert not isinstance(session, Retry), session
    return session
