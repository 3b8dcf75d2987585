"""The deliver stage: what becomes of entries, and that one destination never waits for another."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import peers
import pytest
from deliverbox import BUSY, GONE, REFUSED, Box, answers, fake, unreachable
from planned import ARCHIVE, PACS, QC, entry, new_items

from magickbox.delivery import DeliveryState, ItemState
from magickbox.destination import Delivered, DicomDestination, Result, Retry
from magickbox.job import JobState
from magickbox.ledger import Ledger, deliveries, jobs
from magickbox.pace import Pace
from magickbox.sender import FakeSender, Item

S = DeliveryState


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield Box(ledger, tmp_path / "jobs", FakeSender())


# What becomes of entries


def test_everything_arrives_and_the_job_is_done(box: Box) -> None:
    (number,) = box.routed(entry(PACS, new_items(3)))
    with box.running():
        box.ends()
    assert [item.sop_instance for _, item in fake(box).sent] == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    with box.ledger.reading() as tx:
        assert jobs.get(tx, "job").delivered == 1
        (attempt,) = deliveries.attempts(tx, number)
    assert (attempt.sent, attempt.refused, attempt.result) == (3, 0, "")
    assert attempt.ended is not None


def test_a_fallback_takes_the_whole_selection_after_three_attempts(box: Box) -> None:
    def half(destination: DicomDestination, item: Item) -> Result:
        return BUSY if destination == PACS and item.sop_instance == "1.2.3.2" else Delivered()

    fake(box).answer = half
    gate, behind = box.routed(entry(PACS, gate=True, has_fallback=True), entry(QC, waits_for=0))
    with box.running():
        box.ends()
    assert box.states() == [S.REPLACED, S.DELIVERED]
    assert [call.destination for call in fake(box).calls] == [PACS, PACS, PACS, QC]
    assert [item.sop_instance for to, item in fake(box).sent if to == QC] == ["1.2.3.1", "1.2.3.2"]
    with box.ledger.reading() as tx:
        assert deliveries.get(tx, gate).reason == "given up after 3 attempts: 0x0110 processing failure"
        assert jobs.get(tx, "job").delivered == 1
        assert deliveries.get(tx, behind).tries == 0


def test_a_gate_that_arrives_skips_its_fallback(box: Box) -> None:
    box.routed(entry(PACS, gate=True, has_fallback=True), entry(QC, waits_for=0))
    with box.running():
        box.ends()
    assert box.states() == [S.DELIVERED, S.SKIPPED]
    assert {call.destination for call in fake(box).calls} == {PACS}


def test_a_chain_of_fallbacks_that_all_fail_ends_in_one_dead_entry(box: Box) -> None:
    fake(box).refusal = unreachable("PACS", "ARCHIVE", "QC")
    box.pace = Pace(patience=0.0).scaled(0.01)
    box.routed(
        entry(PACS, gate=True, has_fallback=True),
        entry(ARCHIVE, gate=True, waits_for=0, has_fallback=True),
        entry(QC, waits_for=1),
    )
    with box.running():
        box.ends(JobState.ATTENTION)
    assert box.states() == [S.REPLACED, S.REPLACED, S.DEAD]
    assert [call.destination.called_ae for call in fake(box).calls] == ["PACS"] * 3 + ["ARCHIVE"] * 3 + ["QC"]
    with box.ledger.reading() as tx:
        assert "to QC@127.0.0.1:106 is dead: given up after 0.0 days: connection refused" in jobs.get(tx, "job").reason


def test_a_refusal_for_good_is_asked_once_more_on_a_second_association(box: Box) -> None:
    fake(box).answer = answers({"1.2.3.1": [REFUSED], "1.2.3.2": [REFUSED, Delivered()]})
    (number,) = box.routed(entry(PACS, new_items(3)))
    with box.running():
        box.ends(JobState.ATTENTION)
    assert box.items(number) == [ItemState.REJECTED, ItemState.SENT, ItemState.SENT]
    assert [len(call.items) for call in fake(box).calls] == [3, 2]
    with box.ledger.reading() as tx:
        reason = deliveries.get(tx, number).reason
    assert reason == "1 of 3 instances refused for good, for example: 0xA900 dataset does not match its SOP class"


def test_a_refusal_is_asked_again_soon_though_the_pauses_are_long(box: Box) -> None:
    fake(box).answer = answers({"1.2.3.1": [REFUSED, Delivered()]})
    box.pace = Pace(first=600.0, confirm=0.05)
    box.routed(entry(PACS, new_items(1)))
    with box.running():
        box.ends()


def test_one_instance_that_breaks_every_association_does_not_keep_the_others(box: Box) -> None:
    fake(box).answer = answers({"1.2.3.1": [GONE]})
    (number,) = box.routed(entry(PACS, new_items(4)))
    with box.running():
        peers.wait_for(lambda: box.items(number).count(ItemState.SENT) == 3)
    assert box.items(number)[0] is ItemState.PENDING
    assert box.states() == [S.OPEN]


def test_out_of_resources_ends_the_attempt_another_status_does_not(box: Box) -> None:
    full = Retry("0xA700", 0xA700)
    fake(box).answer = answers({"1.2.3.1": [BUSY, Delivered()], "1.2.3.3": [full, Delivered()]})
    box.routed(entry(PACS, new_items(4)))
    with box.running():
        box.ends()
    assert [item.sop_instance[-1] for _, item in fake(box).sent] == ["2", "4", "1", "3"]


def test_a_warning_counts_as_stored_and_is_noted(box: Box) -> None:
    fake(box).answer = answers({"1.2.3.1": [Delivered(0xB000, "0xB000 Doe^Jane was renamed")]})
    box.routed(entry(PACS))
    with box.running():
        box.ends()
    (facts,) = [facts for _, event, facts in box.notes if event == "instance"]
    assert facts["said"] == "0xB000"
    assert "Jane" not in str(box.notes)


def test_a_file_that_is_gone_is_refused_and_said(box: Box) -> None:
    (number,) = box.routed(entry(PACS))
    (box.folder / "job" / "OUTPUT" / "1.dcm").unlink()
    with box.running():
        box.ends(JobState.ATTENTION)
    assert box.items(number) == [ItemState.REJECTED, ItemState.SENT]


def test_an_internal_error_is_noted_once_and_tried_again(box: Box) -> None:
    failures = [ValueError("surprise")]

    def answer(_destination: DicomDestination, _item: Item) -> Result:
        if failures:
            raise failures.pop()
        return Delivered()

    fake(box).answer = answer
    (number,) = box.routed(entry(PACS))
    with box.running():
        box.ends()
        with box.ledger.reading() as tx:
            first, _ = deliveries.attempts(tx, number)
    assert first.result == "internal error: ValueError"
    assert [event for level, event, _ in box.notes if level == "error"] == ["attempt-broke"]


# One destination and the other


def test_a_destination_that_hangs_keeps_nobody_else_waiting(box: Box) -> None:
    hanging = threading.Event()

    def answer(destination: DicomDestination, _item: Item) -> Result:
        if destination == PACS:
            assert hanging.wait(10)
        return Delivered()

    fake(box).answer = answer
    box.routed(entry(PACS), name="slow")
    box.routed(entry(QC), name="quick")
    with box.running():
        box.ends(name="quick")
        assert box.job("slow") is JobState.DELIVERING
        hanging.set()
        box.ends(name="slow")


def test_from_wake_to_the_association_in_100_ms(box: Box) -> None:
    waits = []
    with box.running() as stage:
        for n in range(10):
            box.routed(entry(PACS, new_items(1)), name=f"job-{n}")
            before = time.monotonic()
            stage.wake()
            peers.wait_for(lambda n=n: len(fake(box).calls) > n)  # type: ignore[misc]
            waits.append(time.monotonic() - before)
            box.ends(name=f"job-{n}")
    assert sorted(waits)[5] < 0.1


def test_an_idle_stage_does_nothing(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    box.pace = Pace()
    box.routed(entry(PACS))
    with box.running():
        peers.wait_for(lambda: fake(box).calls)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1
    assert len(fake(box).calls) == 1
