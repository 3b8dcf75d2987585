"""Deliveries in the ledger: the plan, responses, and what follows from an entry's end."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planned import ARCHIVE, PACS, QC, entry, job, new_items, routed

from magickbox.clock import now, to_text
from magickbox.delivery import UNDECIDED, DeliveryState, ItemState, NewDelivery, Progress
from magickbox.destination import (
    Delivered,
    Destination,
    DicomDestination,
    FolderDestination,
    Rejected,
    Result,
    Retry,
    Secret,
    StowDestination,
    Tls,
)
from magickbox.errors import ForbiddenMove, LedgerError, NotFound
from magickbox.job import JobState, Move
from magickbox.ledger import Ledger, deliveries, endings, jobs, queues, store
from magickbox.pathpattern import DEFAULT_PATTERN
from magickbox.queueing import lane_of

S = DeliveryState


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


def states(ledger: Ledger, name: str = "job") -> list[DeliveryState]:
    with ledger.reading() as tx:
        return [delivery.state for delivery in deliveries.listing(tx, name)]


def job_state(ledger: Ledger, name: str = "job") -> JobState:
    with ledger.reading() as tx:
        return jobs.get(tx, name).state


def chain() -> Sequence[NewDelivery]:
    """A gate, a gate behind it, and two entries behind that; and one that waits for nothing."""
    return (
        entry(PACS, gate=True, has_fallback=True),
        entry(ARCHIVE, gate=True, waits_for=0, has_fallback=True),
        entry(QC, waits_for=1),
        entry(QC, waits_for=1),
        entry(ARCHIVE, rule="other"),
    )


def test_a_plan_opens_what_waits_for_nothing_and_keeps_the_order(ledger: Ledger) -> None:
    ids = routed(ledger, *chain())
    assert ids == sorted(ids)
    assert states(ledger) == [S.OPEN, S.WAITING, S.WAITING, S.WAITING, S.OPEN]
    with ledger.reading() as tx:
        first, second, *_ = deliveries.listing(tx, "job")
        assert (first.destination, first.gate, first.has_fallback, first.instances) == (PACS, True, True, 2)
        assert second.waits_for == first.id
        assert [item.sop_instance for item in deliveries.instances_of(tx, first.id)] == ["1.2.3.1", "1.2.3.2"]
        assert deliveries.progress(tx, first.id) == Progress(pending=2)


@pytest.mark.parametrize("bad", [entry(PACS, ()), entry(PACS, waits_for=0), entry(PACS, waits_for=-1)])
def test_a_plan_that_makes_no_sense_is_a_fault(ledger: Ledger, bad: NewDelivery) -> None:
    job(ledger)
    with pytest.raises(ValueError, match="rule, entry 0"), ledger.transaction() as tx:
        deliveries.plan(tx, "job", 1, [bad])


def test_decisions_are_counted(ledger: Ledger) -> None:
    job(ledger)
    with ledger.transaction() as tx:
        assert [deliveries.record_decision(tx, "job", "digest", "{}") for _ in range(3)] == [1, 2, 3]


REFUSED, NO_WAY = Rejected("0xA900", 0xA900), Retry("gone")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([Delivered()], ItemState.SENT),
        ([Delivered(0xB000, "coercion")], ItemState.SENT),
        ([NO_WAY], ItemState.PENDING),
        ([REFUSED], ItemState.REFUSED),
        ([REFUSED, NO_WAY], ItemState.REFUSED),
        ([REFUSED, REFUSED], ItemState.REJECTED),
        ([REFUSED, NO_WAY, REFUSED], ItemState.REJECTED),
        ([REFUSED, Delivered()], ItemState.SENT),
    ],
)
def test_a_refusal_for_good_counts_when_it_is_the_second(
    ledger: Ledger, results: list[Result], expected: ItemState
) -> None:
    (number,) = routed(ledger, entry(PACS, new_items(1)))
    with ledger.transaction() as tx:
        seen = [deliveries.record_response(tx, number, 1, result) for result in results]
        assert seen[-1] is expected
        (item,) = deliveries.instances_of(tx, number)
        assert (item.state, item.reason) == (expected, results[-1].reason)


def test_what_failed_comes_last_so_that_it_blocks_no_other(ledger: Ledger) -> None:
    (number,) = routed(ledger, entry(PACS, new_items(3)))
    with ledger.transaction() as tx:
        deliveries.record_response(tx, number, 1, NO_WAY)
        assert [item.n for item in deliveries.pending_items(tx, number)] == [2, 3, 1]
        deliveries.record_response(tx, number, 2, Delivered())
        deliveries.record_response(tx, number, 3, REFUSED)
        assert [item.n for item in deliveries.pending_items(tx, number)] == [1, 3]


def test_a_gate_that_delivers_skips_all_that_waits_for_it_in_turn(ledger: Ledger) -> None:
    ids = routed(ledger, *chain())
    with ledger.transaction() as tx:
        endings.deliver(tx, ids[0])
    assert states(ledger) == [S.DELIVERED, S.SKIPPED, S.SKIPPED, S.SKIPPED, S.OPEN]
    assert job_state(ledger) is JobState.DELIVERING


def test_a_gate_that_fails_opens_the_next_and_what_is_behind_that_waits_on(ledger: Ledger) -> None:
    ids = routed(ledger, *chain())
    with ledger.transaction() as tx:
        endings.fail(tx, ids[0], "no")
    assert states(ledger) == [S.REPLACED, S.OPEN, S.WAITING, S.WAITING, S.OPEN]
    with ledger.transaction() as tx:
        endings.fail(tx, ids[1], "no")
    assert states(ledger) == [S.REPLACED, S.REPLACED, S.OPEN, S.OPEN, S.OPEN]
    with ledger.transaction() as tx:
        for number in ids[2:]:
            endings.deliver(tx, number)
        done = jobs.get(tx, "job")
    assert (done.state, done.delivered, done.reason) == (JobState.DONE, 3, "3 delivered, 2 replaced")


def test_a_delivery_that_nothing_stands_in_for_is_dead_and_the_job_says_which(ledger: Ledger) -> None:
    ids = routed(ledger, entry(PACS), entry(ARCHIVE, gate=True))
    with ledger.transaction() as tx:
        endings.deliver(tx, ids[0])
        endings.fail(tx, ids[1], "connection refused")
        alarmed = jobs.get(tx, "job")
    assert alarmed.state is JobState.ATTENTION
    assert alarmed.delivered == 1
    assert alarmed.reason == f"delivery {ids[1]} to ARCHIVE@127.0.0.1:105 is dead: connection refused"


def test_a_held_job_is_settled_after_its_release(ledger: Ledger) -> None:
    (number,) = routed(ledger, entry(PACS))
    with ledger.transaction() as tx:
        jobs.move(tx, "job", Move.HOLD, "wait", "me")
        assert not deliveries.is_wanted(tx, number)
        assert queues.lanes(tx) == []
        assert queues.due(tx, now(), now(), lane_of(PACS), None) == []
        endings.deliver(tx, number)
    assert job_state(ledger) is JobState.HELD
    with ledger.transaction() as tx:
        jobs.move(tx, "job", Move.RELEASE, "go on", "me")
        endings.settle_all(tx)
    assert job_state(ledger) is JobState.DONE


EVERY_KIND = (
    DicomDestination("10.0.0.5", 104, "BOX", "PACS", "pacs"),
    DicomDestination("10.0.0.5", 2762, "BOX", "PACS", "", Tls("/ca", "/c", "/k", Secret("env:KEY"), "pacs", False)),
    StowDestination("https://x/dicom-web", "web", Secret("env:TOKEN"), tls=Tls("/ca")),
    StowDestination("https://x/dicom-web", "web", None, "box", Secret("file:/run/pw")),
    FolderDestination("/mnt/f\u00fcr", DEFAULT_PATTERN, "research"),
)


@pytest.mark.parametrize("destination", EVERY_KIND, ids=str)
def test_a_destination_comes_back_as_it_was(ledger: Ledger, destination: Destination) -> None:
    (number,) = routed(ledger, entry(destination))
    with ledger.reading() as tx:
        assert deliveries.get(tx, number).destination == destination
        assert queues.lanes(tx) == [lane_of(destination)]


def test_a_ledger_from_before_there_were_kinds_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.executescript((Path(store.__file__).parent / "migrations" / "0001.sql").read_text())
        old.execute("PRAGMA user_version = 1")
        old.execute(
            "INSERT INTO jobs (id, state, since, calling_ae, called_ae, peer, study, received, born, instances, bytes)"
            " VALUES ('job', 'DELIVERING', ?, 'A', 'B', '', '', ?, ?, 1, 1)",
            [to_text(now())] * 3,
        )
        old.execute(
            "INSERT INTO deliveries (job, decision, rule, entry, host, port, calling_ae, called_ae, gate, fallback,"
            " state, opened, next_try, instances) VALUES ('job', 1, 'rule', 0, '127.0.0.1', 104, 'BOX', 'PACS', 0, 0,"
            " 'OPEN', ?, ?, 1)",
            [to_text(now())] * 2,
        )
        old.commit()
    with pytest.raises(LedgerError, match="brought up to date when the box starts"):
        Ledger(path, readonly=True)
    for _ in range(2):
        ledger = Ledger(path)
        with ledger.reading() as tx:
            (delivery,) = queues.due(tx, now(), now() + timedelta(hours=1), lane_of(PACS), None)
            assert delivery.destination == PACS
            assert queues.lanes(tx) == [lane_of(PACS)]
        ledger.close()
    Ledger(path, readonly=True).close()
    assert (tmp_path / "old.sqlite.version-1").exists()


def test_due_is_by_destination_and_by_time(ledger: Ledger) -> None:
    first, second, other = routed(ledger, entry(PACS), entry(PACS), entry(QC))
    moment = now()
    horizon = moment + timedelta(hours=1)
    pacs = lane_of(PACS)
    with ledger.transaction() as tx:
        assert [d.id for d in queues.due(tx, moment, horizon, pacs, None)] == [first, second]
        assert [d.id for d in queues.due(tx, moment, horizon, lane_of(QC), None)] == [other]
        deliveries.try_again_at(tx, first, moment + timedelta(seconds=9), 1, "no")
        assert [d.id for d in queues.due(tx, moment, horizon, pacs, None)] == [second]
        deliveries.try_again_at(tx, second, moment + timedelta(seconds=5), 1, "no")
        assert queues.due(tx, moment, horizon, pacs, None) == []
        assert queues.next_due(tx, pacs, None, moment) == moment + timedelta(seconds=5)
        assert sorted(queues.lanes(tx)) == [lane_of(PACS), lane_of(QC)]


def test_a_clock_that_was_set_back_keeps_nothing_waiting_for_years(ledger: Ledger) -> None:
    (number,) = routed(ledger, entry(PACS))
    with ledger.transaction() as tx:
        deliveries.try_again_at(tx, number, now() + timedelta(days=700), 1, "no")
        assert [d.id for d in queues.due(tx, now(), now() + timedelta(hours=1), lane_of(PACS), None)] == [number]


def test_retry_gives_a_new_budget_and_reopens_the_job(ledger: Ledger) -> None:
    (number,) = routed(ledger, entry(PACS, new_items(3)))
    with ledger.transaction() as tx:
        deliveries.record_response(tx, number, 1, Delivered())
        for _ in range(2):
            deliveries.record_response(tx, number, 2, REFUSED)
        deliveries.try_again_at(tx, number, now(), 7, "no")
        endings.fail(tx, number, "no")
    assert job_state(ledger) is JobState.ATTENTION
    with ledger.transaction() as tx:
        opened = endings.retry(tx, number, "anna")
        assert (opened.state, opened.tries, opened.ended) == (S.OPEN, 0, None)
        assert deliveries.progress(tx, number) == Progress(pending=2, sent=1)
    assert job_state(ledger) is JobState.DELIVERING
    with ledger.transaction() as tx:
        endings.deliver(tx, number)
    with ledger.transaction() as tx, pytest.raises(ForbiddenMove, match="only what is CANCELLED, DEAD, OPEN, REPLACED"):
        endings.retry(tx, number, "anna")
    with ledger.transaction() as tx, pytest.raises(NotFound):
        endings.retry(tx, 99, "anna")


def test_retry_of_an_open_delivery_is_tried_at_once_with_the_budget_it_has(ledger: Ledger) -> None:
    (number,) = routed(ledger, entry(PACS))
    with ledger.transaction() as tx:
        deliveries.try_again_at(tx, number, now() + timedelta(hours=6), 7, "no")
        again = endings.retry(tx, number, "anna")
        assert again.next_try is not None
        assert (again.state, again.tries, again.next_try <= now()) == (S.OPEN, 7, True)


def test_what_is_cancelled_with_its_job_says_so(ledger: Ledger) -> None:
    (number,) = routed(ledger, entry(PACS))
    with ledger.transaction() as tx:
        endings.cancel_open(tx, "job", "anna", "its job is deleted")
        assert deliveries.get(tx, number).reason == "its job is deleted, asked by anna"


def test_attempts_are_counted_over_all_budgets(ledger: Ledger) -> None:
    first, _ = routed(ledger, entry(PACS), entry(QC))
    with ledger.transaction() as tx:
        for _n in range(2):
            deliveries.begin_attempt(tx, first)
        endings.fail(tx, first, "no")
        endings.retry(tx, first, "anna")
        deliveries.begin_attempt(tx, first)
        assert deliveries.attempt_counts(tx) == {first: 3}


def test_a_retried_gate_that_arrives_takes_the_alarm_of_its_dead_fallback(ledger: Ledger) -> None:
    gate, behind = routed(ledger, entry(PACS, gate=True, has_fallback=True), entry(QC, waits_for=0))
    with ledger.transaction() as tx:
        endings.fail(tx, gate, "no")
        endings.fail(tx, behind, "no")
    assert job_state(ledger) is JobState.ATTENTION
    with ledger.transaction() as tx:
        endings.retry(tx, gate, "anna")
        endings.deliver(tx, gate)
    assert states(ledger) == [S.DELIVERED, S.SKIPPED]
    assert job_state(ledger) is JobState.DONE


def test_retry_of_a_deleted_jobs_delivery_is_refused(ledger: Ledger) -> None:
    (number,) = routed(ledger, entry(PACS))
    with ledger.transaction() as tx:
        endings.fail(tx, number, "no")
        jobs.move(tx, "job", Move.DELETE, "old")
    with pytest.raises(ForbiddenMove), ledger.transaction() as tx:
        endings.retry(tx, number, "anna")
    assert states(ledger) == [S.DEAD]


def test_cancelling_an_open_gate_opens_its_fallback(ledger: Ledger) -> None:
    ids = routed(ledger, *chain()[:3])
    with ledger.transaction() as tx:
        endings.cancel(tx, ids[0], "anna")
    assert states(ledger) == [S.CANCELLED, S.OPEN, S.WAITING]


def test_cancelling_a_waiting_gate_leaves_what_waits_for_it_behind_the_first(ledger: Ledger) -> None:
    ids = routed(ledger, *chain()[:3])
    with ledger.transaction() as tx:
        endings.cancel(tx, ids[1], "anna")
    assert states(ledger) == [S.OPEN, S.CANCELLED, S.WAITING]
    with ledger.transaction() as tx:
        endings.fail(tx, ids[0], "no")
    assert states(ledger) == [S.REPLACED, S.CANCELLED, S.OPEN]


def test_a_gate_whose_fallbacks_are_all_cancelled_is_dead_when_it_fails(ledger: Ledger) -> None:
    gate, behind = routed(ledger, entry(PACS, gate=True, has_fallback=True), entry(QC, waits_for=0))
    with ledger.transaction() as tx:
        endings.cancel(tx, behind, "anna")
        endings.fail(tx, gate, "no")
        with pytest.raises(ForbiddenMove, match="only what is OPEN, WAITING"):
            endings.cancel(tx, behind, "anna")
    assert states(ledger) == [S.DEAD, S.CANCELLED]


def test_cancelling_the_last_ends_the_job(ledger: Ledger) -> None:
    (number,) = routed(ledger, entry(PACS))
    with ledger.transaction() as tx:
        endings.cancel(tx, number, "anna")
        done = jobs.get(tx, "job")
    assert (done.state, done.delivered, done.reason) == (JobState.DONE, 0, "1 cancelled")


def test_a_new_decision_takes_back_the_open_and_the_dead(ledger: Ledger) -> None:
    ids = routed(ledger, entry(PACS), entry(ARCHIVE), entry(QC, gate=True), entry(QC, waits_for=2))
    with ledger.transaction() as tx:
        endings.deliver(tx, ids[0])
        endings.fail(tx, ids[1], "no")
        assert endings.cancel_open(tx, "job", "anna") == 3
    assert states(ledger) == [S.DELIVERED, S.CANCELLED, S.CANCELLED, S.CANCELLED]
    assert job_state(ledger) is JobState.DELIVERING


def test_attempts_are_numbered_and_a_cut_one_says_so(ledger: Ledger) -> None:
    (number,) = routed(ledger, entry(PACS))
    with ledger.transaction() as tx:
        assert deliveries.begin_attempt(tx, number) == 1
        deliveries.end_attempt(tx, number, 1, 1, 0, "aborted")
        assert deliveries.begin_attempt(tx, number) == 2
        assert endings.close_attempts(tx) == 1
        first, second = deliveries.attempts(tx, number)
    assert (first.sent, first.result) == (1, "aborted")
    assert second.ended is not None
    assert second.result == "cut short: the box ended"


PLAN = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(gates_and_ends=PLAN)
def test_any_chain_ends_and_the_selection_arrives_at_one_or_an_alarm_is_raised(
    tmp_path_factory: pytest.TempPathFactory, gates_and_ends: list[tuple[bool, bool]]
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    planned, gate = [], None
    for at, (is_gate, _) in enumerate(gates_and_ends):
        has_fallback = is_gate and at + 1 < len(gates_and_ends)
        planned.append(entry(PACS, new_items(1), gate=is_gate, waits_for=gate, has_fallback=has_fallback))
        gate = at if is_gate else gate
    ids = routed(ledger, *planned)
    arrives = dict(zip(ids, (arrives for _, arrives in gates_and_ends), strict=True))
    while any(state in UNDECIDED for state in states(ledger)):
        assert job_state(ledger) is JobState.DELIVERING
        with ledger.transaction() as tx:
            number = deliveries.listing(tx, "job", [S.OPEN])[0].id
            if arrives[number]:
                endings.deliver(tx, number)
            else:
                endings.fail(tx, number, "no")
    ended = states(ledger)
    assert (job_state(ledger) is JobState.ATTENTION) == (S.DEAD in ended)
    assert S.DELIVERED in ended or S.DEAD in ended
    _check_skipped(planned, ended)
    ledger.close()


def _check_skipped(planned: list[NewDelivery], ended: list[DeliveryState]) -> None:
    """Skipped is exactly what has a gate before it, however far, that arrived."""
    for at, new in enumerate(planned):
        gates, gate = [], new.waits_for
        while gate is not None:
            gates.append(ended[gate])
            gate = planned[gate].waits_for
        assert (ended[at] is S.SKIPPED) == (S.DELIVERED in gates)
