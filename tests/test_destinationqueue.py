"""One destination's queue: unreachable, paused, drained, several at a time; and that it is kept over a restart."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import peers
import pytest
from deliverbox import QUICK, Box, fake, unreachable
from planned import PACS, QC, entry, new_items

from magickbox.clock import now
from magickbox.delivery import DeliveryState, NewItem
from magickbox.destination import Delivered, DicomDestination, Result
from magickbox.job import JobState
from magickbox.ledger import Ledger, deliveries, queues
from magickbox.owncalls import OwnCalls
from magickbox.queueing import DestinationPolicy, Mode, QueueState, lane_of
from magickbox.schedule import DAY, Hours, Rate
from magickbox.scu.store import StoreSender
from magickbox.sender import FakeSender, Item

S = DeliveryState


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield Box(ledger, tmp_path / "jobs", FakeSender())


def state(box: Box, to: DicomDestination = PACS) -> QueueState:
    with box.ledger.reading() as tx:
        return queues.state_of(tx, lane_of(to))


def set_mode(box: Box, mode: Mode, to: DicomDestination = PACS) -> None:
    with box.ledger.transaction() as tx:
        queues.set_mode(tx, lane_of(to), mode, "anna")


def unreachable_and_known(box: Box) -> None:
    """Wait until the box knows that nobody is at the PACS."""
    peers.wait_for(lambda: state(box).circuit.is_open, f"the circuit to open: {box.notes}")


def events(box: Box, *names: str) -> list[str]:
    return [event for _, event, _ in box.notes if event in names]


# Unreachable


def test_a_dead_destination_costs_three_connections_however_many_deliveries_wait(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    numbers = [box.routed(entry(PACS), name=f"job-{n}")[0] for n in range(20)]
    with box.running():
        unreachable_and_known(box)
        peers.wait_for(lambda: len(fake(box).probes) >= 3)
    assert len(fake(box).calls) == 3
    with box.ledger.reading() as tx:
        assert sum(deliveries.get(tx, number).tries for number in numbers) == 3
    assert events(box, "unreachable") == ["unreachable"]


def test_what_waits_goes_on_at_once_when_the_probe_is_answered(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    box.pace = replace(QUICK, first=600.0, longest=600.0, probe=0.05, longest_probe=0.05)
    for n in range(5):
        box.routed(entry(PACS), name=f"job-{n}")
    with box.running():
        unreachable_and_known(box)
        fake(box).refusal = unreachable()
        for n in range(5):
            box.ends(name=f"job-{n}")
    assert events(box, "unreachable", "reachable") == ["unreachable", "reachable"]
    assert state(box) == QueueState()


def test_while_unreachable_a_fallback_still_takes_over_in_time(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    box.routed(*[entry(PACS)] * 3, name="before")
    with box.running() as stage:
        unreachable_and_known(box)
        box.routed(entry(PACS, gate=True, has_fallback=True), entry(QC, waits_for=0))
        stage.wake()
        box.ends()
    assert box.states() == [S.REPLACED, S.DELIVERED]
    assert len(fake(box).calls) == 4
    with box.ledger.reading() as tx:
        assert "unreachable since" in deliveries.listing(tx, "job")[0].reason


def test_while_unreachable_a_delivery_dies_when_its_days_are_over(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    box.pace = replace(QUICK, patience=0.3)
    box.routed(*[entry(PACS)] * 5)
    with box.running():
        box.ends(JobState.ATTENTION)
    assert set(box.states()) == {S.DEAD}
    assert len(fake(box).calls) < 15


def test_it_stays_unreachable_over_a_restart_and_is_asked_at_once(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    box.pace = replace(QUICK, probe=600.0, longest_probe=600.0)
    for n in range(5):
        box.routed(entry(PACS), name=f"job-{n}")
    with box.running():
        unreachable_and_known(box)
    since, calls = state(box).circuit.open_since, len(fake(box).calls)
    with box.running():
        peers.wait_for(lambda: fake(box).probes)
        time.sleep(0.05)
        assert state(box).circuit.open_since == since
        assert len(fake(box).calls) == calls
    fake(box).refusal = unreachable()
    with box.running():
        for n in range(5):
            box.ends(name=f"job-{n}")
    assert len(fake(box).calls) == calls + 5


def test_who_asks_for_another_try_has_the_destination_asked_at_once(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    box.pace = replace(QUICK, probe=600.0, longest_probe=600.0)
    number, *_ = box.routed(*[entry(PACS)] * 3)
    with box.running() as stage:
        unreachable_and_known(box)
        fake(box).refusal = unreachable()
        stage.retry(number, "anna")
        box.ends()


@pytest.mark.parametrize("kind", ["dead", "silent"])
@pytest.mark.peer
def test_real_peers_that_are_gone_and_come_back(tmp_path: Path, kind: str) -> None:
    """Nothing listens, or who listens takes the connection and says nothing; then DCMTK's storescp is there."""
    hole = socket.create_server(("127.0.0.1", 0))
    port = int(hole.getsockname()[1])
    if kind == "dead":
        hole.close()
    to = DicomDestination("127.0.0.1", port, "BOX", "STORESCP")
    items = [_real(tmp_path, n) for n in range(4)]
    sender = StoreSender(OwnCalls(), replace(peers.QUICK, associate=0.2))
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        box = Box(ledger, tmp_path / "jobs", sender)
        for n, item in enumerate(items):
            box.routed(entry(to, [item]), name=f"job-{n}")
        with box.running():
            peers.wait_for(lambda: state(box, to).circuit.is_open, f"the circuit to open: {box.notes}")
            hole.close()
            with peers.storescp(tmp_path / "stored", "-aet", "STORESCP", port=port) as scp:
                for n in range(len(items)):
                    box.ends(name=f"job-{n}")
                assert len(list(scp.folder.iterdir())) == 1  # four times the same instance
    assert events(box, "unreachable", "reachable") == ["unreachable", "reachable"]


def _real(tmp_path: Path, n: int) -> NewItem:
    source = peers.sample("CT_small.dcm")
    folder = tmp_path / "jobs" / f"job-{n}" / "OUTPUT"
    folder.mkdir(parents=True)
    (folder / "1.dcm").write_bytes(source.read_bytes())
    item = peers.item_of(source)
    return NewItem("OUTPUT/1.dcm", item.sop_instance, item.sop_class, item.transfer_syntax)


@pytest.mark.peer
def test_a_peer_that_rejects_is_there(tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "stored", "--refuse") as scp, closing(Ledger(tmp_path / "l.sqlite")) as ledger:
        box = Box(ledger, tmp_path / "jobs", StoreSender(OwnCalls(), peers.QUICK), pace=QUICK)
        box.routed(entry(scp.destination))
        with box.running():
            peers.wait_for(lambda: events(box, "attempt").count("attempt") >= 5)
        assert not state(box, scp.destination).circuit.is_open
        assert "association rejected" in state(box, scp.destination).trouble
    assert events(box, "unreachable") == []


# Paused, drained


def test_nothing_is_sent_to_a_paused_destination_also_after_a_restart(box: Box) -> None:
    box.routed(entry(PACS), name="paused")
    set_mode(box, Mode.PAUSED)
    for _ in range(2):
        box.routed(entry(QC), name=f"other-{_}")
        with box.running():
            box.ends(name=f"other-{_}")
    assert {to for to, _ in fake(box).sent} == {QC}
    set_mode(box, Mode.RUNNING)
    with box.running():
        box.ends(name="paused")


def test_a_pause_stops_after_the_instance_in_hand_and_costs_no_try(box: Box) -> None:
    arrived, go = threading.Event(), threading.Event()

    def answer(_destination: DicomDestination, item: Item) -> Result:
        if item.sop_instance.endswith(".2"):
            arrived.set()
            assert go.wait(10)
        return Delivered()

    fake(box).answer = answer
    (number,) = box.routed(entry(PACS, new_items(4)))
    with box.running() as stage:
        assert arrived.wait(10)
        set_mode(box, Mode.PAUSED)
        stage.wake()
        peers.wait_for(lambda: stage.hindrance(lane_of(PACS)))
        go.set()
        peers.wait_for(lambda: events(box, "attempt"))
        assert len(fake(box).sent) == 2
        with box.ledger.reading() as tx:
            assert deliveries.get(tx, number).tries == 0
        set_mode(box, Mode.RUNNING)
        stage.wake()
        box.ends()
    assert len(fake(box).sent) == 4


def test_a_drained_destination_gets_what_was_open_and_nothing_that_came_later(box: Box) -> None:
    box.routed(entry(PACS), name="before")
    set_mode(box, Mode.DRAINING)
    box.routed(entry(PACS), name="after")
    box.routed(entry(QC), name="other")
    with box.running() as stage:
        box.ends(name="before")
        box.ends(name="other")
        time.sleep(0.05)
        assert box.states("after") == [S.OPEN]
        set_mode(box, Mode.RUNNING)
        stage.wake()
        box.ends(name="after")


# Several at a time


def test_as_many_deliveries_at_a_time_as_the_destination_wants_and_none_twice(box: Box) -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    full = threading.Event()

    def answer(_destination: DicomDestination, _item: Item) -> Result:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if at_once == 3:
                full.set()
        assert full.wait(10)
        with lock:
            at_once -= 1
        return Delivered()

    fake(box).answer = answer
    box.policy_of = lambda _lane: DestinationPolicy(connections=3)
    for n in range(9):
        box.routed(entry(PACS), name=f"job-{n}")
    with box.running():
        for n in range(9):
            box.ends(name=f"job-{n}")
    assert most == 3
    assert len(fake(box).calls) == 9
    assert len(fake(box).sent) == 18


# When, and how much


def test_outside_its_hours_nothing_is_sent_and_no_try_is_used_up(box: Box) -> None:
    closed = threading.Event()
    closed.set()
    local = now().astimezone()
    open_now = Hours((((local.hour * 60 + local.minute - 60) % DAY, (local.hour * 60 + local.minute + 60) % DAY),))
    shut_now = Hours((((local.hour * 60 + local.minute + 120) % DAY, (local.hour * 60 + local.minute + 180) % DAY),))
    box.policy_of = lambda lane: DestinationPolicy(
        hours=None if lane != lane_of(PACS) else shut_now if closed.is_set() else open_now
    )
    (number,) = box.routed(entry(PACS), name="later")
    box.routed(entry(QC), name="other")
    with box.running() as stage:
        box.ends(name="other")
        time.sleep(0.05)
        with box.ledger.reading() as tx:
            assert deliveries.attempts(tx, number) == []
        closed.clear()
        stage.wake()
        box.ends(name="later")


def test_hours_that_end_stop_after_the_instance_in_hand(box: Box) -> None:
    local = now().astimezone()
    minute = local.hour * 60 + local.minute
    hours = [None]

    def answer(_destination: DicomDestination, item: Item) -> Result:
        if item.sop_instance.endswith(".2"):
            hours[0] = Hours((((minute + 120) % DAY, (minute + 180) % DAY),))  # type: ignore[call-overload]
        return Delivered()

    fake(box).answer = answer
    box.policy_of = lambda _lane: DestinationPolicy(hours=hours[0])
    (number,) = box.routed(entry(PACS, new_items(4)))
    with box.running():
        peers.wait_for(lambda: events(box, "attempt"))
        assert len(fake(box).sent) == 2
    with box.ledger.reading() as tx:
        (attempt,) = deliveries.attempts(tx, number)
        assert attempt.result == "outside its destination's hours"
        assert deliveries.get(tx, number).tries == 0


def test_no_more_than_the_rate_over_all_connections_and_others_are_not_slowed(box: Box) -> None:
    began: list[float] = []

    def answer(destination: DicomDestination, _item: Item) -> Result:
        if destination == PACS:
            began.append(time.monotonic())
        return Delivered()

    fake(box).answer = answer
    slow = DestinationPolicy(connections=2, rate=Rate(instances_per_minute=600))
    box.policy_of = lambda lane: slow if lane == lane_of(PACS) else DestinationPolicy()
    for n in range(3):
        box.routed(entry(PACS, new_items(3)), name=f"slow-{n}")
    box.routed(entry(QC, new_items(50)), name="other")
    with box.running():
        box.ends(name="other")
        assert len(began) < 9
        for n in range(3):
            box.ends(name=f"slow-{n}")
    assert len(began) == 9
    assert began[-1] - began[0] >= 8 * 0.1 - 0.05  # nine instances at ten a second, less a thread's lateness


def test_a_stop_does_not_wait_for_a_turn(box: Box) -> None:
    box.policy_of = lambda _lane: DestinationPolicy(rate=Rate(instances_per_minute=0.1))
    (number,) = box.routed(entry(PACS, new_items(3)))
    with box.running():
        peers.wait_for(lambda: fake(box).sent)
    with box.ledger.reading() as tx:
        (attempt,) = deliveries.attempts(tx, number)
        assert (attempt.sent, attempt.result) == (1, "the box stops")


# Listing


def test_the_overview_counts_what_waits(box: Box) -> None:
    box.routed(entry(PACS), entry(PACS), entry(QC))
    with box.ledger.transaction() as tx:
        queues.set_mode(tx, lane_of(QC), Mode.PAUSED, "anna")
        first, second = queues.overview(tx)
    assert [(line.name, line.open, line.dead, line.state.word) for line in (first, second)] == [
        ("PACS@127.0.0.1:104", 2, 0, "RUNNING"),
        ("QC@127.0.0.1:106", 1, 0, "PAUSED"),
    ]
    assert first.oldest is not None
    assert now() - first.oldest < timedelta(minutes=1)
    assert second.reason == "by anna"
