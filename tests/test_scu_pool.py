"""Associations that are kept for the next delivery: when one is used again, and when it must not be."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from deliverbox import Box
from peers import ScriptedPeer, Talk
from planned import entry

from magickbox.delivery import NewItem
from magickbox.destination import Delivered, DicomDestination, Rejected, Retry
from magickbox.ledger import Ledger
from magickbox.owncalls import OwnCalls
from magickbox.scu.pool import PoolingSender
from magickbox.scu.store import StoreSender
from magickbox.sender import Item, Session
from magickbox.steps import Step

CT = peers.item_of(peers.sample("CT_small.dcm"))
MR = peers.item_of(peers.sample("MR_small.dcm"))


@contextmanager
def pool(idle: float = 30.0, calls: OwnCalls | None = None) -> Iterator[PoolingSender]:
    sender = PoolingSender(StoreSender(calls or OwnCalls(), peers.QUICK), idle)
    try:
        yield sender
    finally:
        sender.close()


def serve(talk: Talk) -> None:
    talk.accept()
    talk.serve()


def deliver(sender: PoolingSender, to: DicomDestination, *items: Item) -> list[object]:
    """One delivery, as the courier makes it."""
    session = sender.connect(to, items, "job")
    assert not isinstance(session, Retry), session
    return _sent(session, items)


def _sent(session: Session, items: tuple[Item, ...]) -> list[object]:
    with session:
        return [session.send(item) for item in items]


def test_the_next_delivery_goes_over_the_same_association() -> None:
    with ScriptedPeer([serve]) as peer, pool() as sender:
        for _ in range(3):
            assert deliver(sender, peer.destination, CT, CT) == [Delivered()] * 2
        assert len(peer.talks) == 1


def test_other_titles_are_other_associations() -> None:
    """Each has a connection of its own, so the second is let in only when the first peer script is over."""
    with ScriptedPeer([_beside]) as peer, pool() as sender:
        host, port = peer.destination.host, peer.destination.port
        for calling, called in (("BOX", "SCRIPTED"), ("CT1", "SCRIPTED"), ("BOX", "ARCHIVE"), ("BOX", "SCRIPTED")):
            assert deliver(sender, DicomDestination(host, port, calling, called), CT) == [Delivered()]
        assert len(peer.talks) == 3


def _beside(talk: Talk) -> None:
    """Serve in a thread of its own."""
    threading.Thread(target=serve_to_the_end, args=(talk,), daemon=True).start()


def serve_to_the_end(talk: Talk) -> None:
    with suppress(OSError, EOFError):
        serve(talk)


def test_a_context_that_was_not_accepted_means_another_association() -> None:
    def only_ct(sop_class: str, _syntax: str) -> int:
        return 0 if sop_class == CT.sop_class else 3

    def script(talk: Talk) -> None:
        talk.accept(only_ct)
        talk.serve()

    with ScriptedPeer([script, serve]) as peer, pool() as sender:
        assert deliver(sender, peer.destination, CT) == [Delivered()]
        assert deliver(sender, peer.destination, CT, MR) == [Delivered()] * 2
        assert len(peer.talks) == 2


@pytest.mark.parametrize("status", [0xA900, 0xA700, 0x0110])
def test_after_a_refusal_comes_another_association(status: int) -> None:
    def refuse(talk: Talk) -> None:
        talk.accept()
        talk.serve(lambda _n: status)

    with ScriptedPeer([refuse, serve]) as peer, pool() as sender:
        (first,) = deliver(sender, peer.destination, CT)
        assert isinstance(first, Rejected | Retry)
        assert deliver(sender, peer.destination, CT) == [Delivered()]
        assert len(peer.talks) == 2


def one_and_close(talk: Talk) -> None:
    talk.accept()
    request, _ = talk.message()
    talk.respond(request, 0)
    peers.close(talk)


def one_and_abort(talk: Talk) -> None:
    talk.accept()
    request, _ = talk.message()
    talk.respond(request, 0)
    talk.say(7, bytes(4))


def one_and_close_at_the_next(talk: Talk) -> None:
    talk.accept()
    request, _ = talk.message()
    talk.respond(request, 0)
    talk.pdu()
    peers.close(talk)


@pytest.mark.parametrize("script", [one_and_close, one_and_abort, one_and_close_at_the_next])
def test_what_the_peer_ended_meanwhile_costs_nothing(script: peers.Script) -> None:
    with ScriptedPeer([script, serve]) as peer, pool() as sender:
        assert deliver(sender, peer.destination, CT) == [Delivered()]
        time.sleep(0.05)
        assert deliver(sender, peer.destination, CT, CT) == [Delivered()] * 2
        assert len(peer.talks) == 2


def test_what_was_made_ready_for_an_association_that_was_gone_is_let_go(tmp_path: Path) -> None:
    """The file of the next instance is open while the response to this one is awaited, which never comes."""
    second = tmp_path / "second.dcm"
    second.write_bytes(CT.path.read_bytes())

    def is_open() -> bool:
        names = (os.readlink(each.path) for each in os.scandir("/proc/self/fd") if os.path.islink(each.path))
        return str(second) in names

    with ScriptedPeer([one_and_close_at_the_next, serve]) as peer, pool() as sender:
        assert deliver(sender, peer.destination, CT) == [Delivered()]
        assert deliver(sender, peer.destination, CT, replace(CT, path=second)) == [Delivered()] * 2
        assert len(peer.talks) == 2
        assert not is_open()


def test_a_break_after_the_first_instance_is_told() -> None:
    def two_more(talk: Talk) -> None:
        talk.accept()
        for _ in range(2):
            request, _ = talk.message()
            talk.respond(request, 0)
        talk.pdu()
        peers.close(talk)

    with ScriptedPeer([two_more, serve]) as peer, pool() as sender:
        assert deliver(sender, peer.destination, CT) == [Delivered()]
        delivered, broken = deliver(sender, peer.destination, CT, CT)
        assert delivered == Delivered()
        assert isinstance(broken, Retry)


def test_an_idle_association_is_released_and_so_is_one_at_the_end() -> None:
    released = threading.Semaphore(0)

    def until_release(talk: Talk) -> None:
        talk.accept()
        talk.serve()  # comes back at A-RELEASE only
        released.release()

    with ScriptedPeer([until_release]) as peer, pool(idle=0.05) as sender:
        deliver(sender, peer.destination, CT)
        assert released.acquire(timeout=5)
        deliver(sender, peer.destination, CT)
        assert released.acquire(timeout=5)
    with ScriptedPeer([until_release]) as peer, pool() as sender:
        deliver(sender, peer.destination, CT)
        sender.close()
        assert released.acquire(timeout=5)
        deliver(sender, peer.destination, CT)  # still works, and is released at once
        assert released.acquire(timeout=5)


def test_an_exception_or_an_abort_keeps_nothing() -> None:
    with ScriptedPeer([serve]) as peer, pool() as sender:
        with pytest.raises(RuntimeError):
            _stumble(sender, peer.destination)
        session = sender.connect(peer.destination, [CT], "job")
        assert not isinstance(session, Retry)
        with session:
            session.abort()
            assert isinstance(session.send(CT), Retry)
        assert len(peer.talks) == 2


def test_an_association_with_the_box_itself_belongs_to_one_job() -> None:
    """The receiver asked whose call that is: another job must not come under this one's name."""
    calls = OwnCalls()

    def recognized(talk: Talk) -> None:
        talk.accept(lambda _class, _syntax: 0 if calls.job_of(talk.sock.getpeername()) == "job" else 1)
        talk.serve()

    with ScriptedPeer([recognized]) as peer, pool(calls=calls) as sender:
        for _ in range(2):
            assert deliver(sender, peer.destination, CT) == [Delivered()]
        assert len(peer.talks) == 2


def _stumble(sender: PoolingSender, to: DicomDestination) -> None:
    session = sender.connect(to, [CT], "job")
    assert not isinstance(session, Retry)
    with session:
        session.send(CT)
        raise RuntimeError("a bug")


@pytest.mark.peer
def test_many_deliveries_over_one_association_of_a_real_peer(tmp_path: Path) -> None:
    """Ten jobs to DCMTK's storescp by the whole stage; each response is committed before the next request."""
    order: list[Step] = []
    connected: list[str] = []

    class Counting(StoreSender):
        def connect(self, destination, items, job):  # type: ignore[no-untyped-def]  # only counts
            connected.append(job)
            return super().connect(destination, items, job)

    with peers.storescp(tmp_path / "stored") as scp, closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        box = Box(ledger, tmp_path / "jobs", PoolingSender(Counting(OwnCalls(), peers.QUICK)))
        box.reached = lambda step: order.append(step) if step.name.startswith("RESPONSE") else None
        for n in range(10):
            folder = tmp_path / "jobs" / f"job-{n}"
            (folder / "OUTPUT").mkdir(parents=True)
            (folder / "OUTPUT" / "1.dcm").write_bytes(CT.path.read_bytes())
            item = NewItem("OUTPUT/1.dcm", CT.sop_instance, CT.sop_class, CT.transfer_syntax)
            box.routed(entry(scp.destination, [item]), name=f"job-{n}")
        with box.running():
            for n in range(10):
                box.ends(name=f"job-{n}")
    assert connected == ["job-0"]
    assert order == [Step.RESPONSE, Step.RESPONSE_COMMITTED] * 10
