"""The deliver stage with real peers: DCMTK's storescp, and one that never answers."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import peers
import pytest
from deliverbox import Box
from planned import entry

from magickbox.delivery import DeliveryState, ItemState, NewItem
from magickbox.destination import DicomDestination
from magickbox.ledger import Ledger
from magickbox.owncalls import OwnCalls
from magickbox.scu.store import StoreSender
from magickbox.sender import FakeSender

S = DeliveryState


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield Box(ledger, tmp_path / "jobs", FakeSender())


# With real peers


def real(box: Box, *names: str) -> tuple[NewItem, ...]:
    """Real files as a job's OUTPUT."""
    items = []
    for name in names:
        item = peers.item_of(peers.sample(name))
        target = box.folder / "job" / "OUTPUT" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(item.path.read_bytes())
        items.append(NewItem(f"OUTPUT/{name}", item.sop_instance, item.sop_class, item.transfer_syntax))
    return tuple(items)


@pytest.mark.peer
def test_a_dead_pacs_is_replaced_by_a_living_one(box: Box, tmp_path: Path) -> None:
    box.sender = StoreSender(OwnCalls(), peers.QUICK)
    items = real(box, "CT_small.dcm", "MR_small_RLE.dcm", "test-SR.dcm")
    nobody = DicomDestination("127.0.0.1", peers.free_port(), "BOX", "PACS")
    with peers.storescp(tmp_path / "stored") as scp:
        box.routed(entry(nobody, items, gate=True, has_fallback=True), entry(scp.destination, items, waits_for=0))
        with box.running():
            box.ends()
        assert sorted(scp.stored()) == sorted(item.sop_instance for item in items)
    assert box.states() == [S.REPLACED, S.DELIVERED]


@pytest.mark.peer
def test_a_pacs_that_comes_back_gets_everything(box: Box, tmp_path: Path) -> None:
    box.sender = StoreSender(OwnCalls(), peers.QUICK)
    items = real(box, "CT_small.dcm", "rtplan.dcm")
    port = peers.free_port()
    with box.running() as stage:
        with peers.storescp(tmp_path / "stored", "--abort-after", port=port) as scp:
            (number,) = box.routed(entry(scp.destination, items))
            stage.wake()
            peers.wait_for(lambda: len([n for n in box.notes if n[1] == "attempt"]) > 1)
        with peers.storescp(tmp_path / "stored", port=port) as scp:
            box.ends()
            assert sorted(scp.stored()) == sorted(item.sop_instance for item in items)
    assert box.items(number) == [ItemState.SENT] * 2


@pytest.mark.peer
def test_a_thousand_small_instances_are_the_boxs_own_matter_for_a_second(box: Box, tmp_path: Path) -> None:
    """The limit here leaves room for storescp itself and for a busy machine."""
    box.sender = StoreSender(OwnCalls(), peers.QUICK)
    (small,) = real(box, "rtplan.dcm")
    items = [NewItem(small.file, f"1.2.3.{n}", small.sop_class, small.transfer_syntax) for n in range(1000)]
    with peers.storescp(tmp_path / "stored", "--ignore") as scp:
        box.routed(entry(scp.destination, items))
        began = time.monotonic()
        with box.running():
            box.ends()
        assert time.monotonic() - began < 5.0


def test_a_stop_breaks_off_a_peer_that_never_answers(box: Box) -> None:
    def never(talk: peers.Talk) -> None:
        talk.accept()

    box.sender = StoreSender(OwnCalls())
    with peers.ScriptedPeer([never]) as peer:
        (number,) = box.routed(entry(peer.destination, real(box, "CT_small.dcm")))
        stage = box.stage()
        stage.start()
        peers.wait_for(lambda: peer.talks and peer.talks[0].contexts)
        began = time.monotonic()
        assert stage.stop(0.2)
        assert time.monotonic() - began < 2.0
    assert box.items(number) == [ItemState.PENDING]
    assert box.states() == [S.OPEN]
