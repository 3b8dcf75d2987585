"""Lists page by page, against plain Python; by which tables they are answered; and what they cost, without a clock."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from bigledger import CALLED, CALLING, STATES, fill
from boxes import Image, new_box
from hypothesis import given, settings
from hypothesis import strategies as st

from magickbox.delivery import DeliveryState, ItemState
from magickbox.errors import LedgerError
from magickbox.job import Job, JobState
from magickbox.ledger import Ledger, Transaction, alarms, deliveries, jobs, listings, queues
from magickbox.ledger.listings import Among, DeliveryFilter, JobFilter, JobKey
from magickbox.ledger.reader import Reader
from magickbox.ledger.runtimes import processors_that_ran, run_times

T = TypeVar("T")
MANY, FEW = 5000, 600
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A ledger that plain Python can look through again and again."""
    yield from _filled(tmp_path_factory.mktemp("few") / "ledger.sqlite", FEW)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A ledger with as many jobs as a busy box has in a month."""
    yield from _filled(tmp_path_factory.mktemp("many") / "ledger.sqlite", MANY)


def _filled(path: Path, count: int) -> Iterator[Reader]:
    fill(path, count, 500, recorded=3)
    reader = Reader(path)
    yield reader
    reader.close()


def everything(reader: Reader) -> list[Job]:
    with reader.reading() as tx:
        return jobs.newest(tx, -1)


def like(title: str, pattern: str) -> bool:
    """Plain Python's idea of how an AE title is compared: by going through all ways to stand for ``*``."""
    if not pattern:
        return not title
    if pattern[0] == "*":
        return like(title, pattern[1:]) or bool(title and like(title[1:], pattern))
    return bool(title) and title[0].casefold() == pattern[0].casefold() and like(title[1:], pattern[1:])


def fits(job: Job, wanted: JobFilter) -> bool:
    return (
        (not wanted.states or job.state in wanted.states)
        and (not wanted.calling_ae or like(job.calling_ae, wanted.calling_ae))
        and (not wanted.called_ae or like(job.called_ae, wanted.called_ae))
        and (wanted.since is None or job.born >= wanted.since)
        and (wanted.until is None or job.born < wanted.until)
    )


MOMENTS = st.none() | st.integers(-5, FEW + 5).map(lambda minutes: BEGIN + timedelta(minutes=minutes))
TITLES = st.sampled_from(["", *CALLING, "scanner*", "*_*", "*2", "p%", "pacs", "*", "pacsXold", "!"])
FILTERS = st.builds(
    JobFilter,
    states=st.lists(st.sampled_from(sorted(set(map(JobState, STATES)))), max_size=3, unique=True).map(tuple),
    calling_ae=TITLES,
    called_ae=st.sampled_from(["", *CALLED, "proc*", "*p*"]),
    since=MOMENTS,
    until=MOMENTS,
)


@settings(deadline=None, max_examples=60)
@given(wanted=FILTERS, size=st.integers(7, 200))
def test_pages_are_what_plain_python_finds(few: Reader, wanted: JobFilter, size: int) -> None:
    every = everything(few)
    expected = [job for job in every if fits(job, wanted)]
    found: list[Job] = []
    after = None
    with few.reading() as tx:
        while page := listings.page_of_jobs(tx, wanted, after, size):
            assert len(page) <= size
            found += page
            after = JobKey(page[-1].born, page[-1].id)
        counts = listings.count_jobs(tx, wanted)
        among = replace(wanted, among=(Among("SELECT id FROM jobs"),))
        both = listings.page_and_counts(tx, wanted, None, size), listings.page_and_counts(tx, among, None, size)
        later = listings.page_and_counts(tx, among, JobKey(found[3].born, found[3].id), size)[0] if found[3:] else None
    assert found == expected
    assert both == ((expected[:size], counts),) * 2
    assert later in (None, expected[4 : 4 + size])
    assert counts == Counter(job.state for job in every if fits(job, replace(wanted, states=())))


def test_a_job_may_be_chosen_by_what_is_known_elsewhere(few: Reader) -> None:
    chosen = everything(few)[10::50]
    among = Among("SELECT value FROM json_each(?)", ('["' + '","'.join(job.id for job in chosen) + '"]',))
    with few.reading() as tx:
        assert listings.page_of_jobs(tx, JobFilter(among=(among,)), None, 100) == chosen
        study = listings.with_uid(chosen[3].study)
        assert listings.page_of_jobs(tx, JobFilter(among=(among, study)), None, 100) == [chosen[3]]
        (held, *_) = jobs.held_by(tx, chosen[5].id)
        one = listings.with_uid(held.instance.sop_instance)
        assert listings.page_of_jobs(tx, JobFilter(among=(one,)), None, 100) == [chosen[5]]
        assert listings.page_of_jobs(tx, JobFilter(among=(listings.with_uid("1.2.3"),)), None, 100) == []


@settings(deadline=None, max_examples=40)
@given(
    states=st.lists(st.sampled_from(["OPEN", "DEAD", "DELIVERED", "WAITING"]), max_size=3, unique=True),
    lane=st.sampled_from(["", "PACS@10.0.0.5:104", "PACS@10.0.0.5:105", "nobody"]),
    of_job=st.booleans(),
    size=st.integers(20, 400),
)
def test_pages_of_deliveries_are_what_plain_python_finds(
    few: Reader, states: list[str], lane: str, of_job: bool, size: int
) -> None:
    job = next(job.id for job in everything(few) if job.state == "ATTENTION") if of_job else ""
    wanted = DeliveryFilter(tuple(map(DeliveryState, states)), lane, job)
    with few.reading() as tx:
        expected = [
            each.id
            for each in reversed(deliveries.listing(tx))
            if (not states or each.state in states)
            and (not lane or f"PACS@10.0.0.5:{104 + each.entry}" == lane)
            and (not job or each.job == job)
        ]
        found, after = [], None
        while page := listings.page_of_deliveries(tx, wanted, after, size):
            assert len(page) <= size
            found += [each.id for each in page]
            after = found[-1]
    assert found == expected


def test_instances_of_a_delivery_come_by_pages(tmp_path: Path) -> None:
    fill(tmp_path / "ledger.sqlite", 1, 1)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with ledger.transaction() as tx:
        tx.executemany(
            "INSERT INTO delivery_instances (delivery, n, file, sop_instance, sop_class, transfer_syntax, state)"
            " VALUES (1, ?, 'f', 'u', 'c', 't', ?)",
            [(n, "SENT" if n % 3 else "PENDING") for n in range(1, 41)],
        )
        found = [each.n for each in listings.page_of_items(tx, 1, [ItemState.SENT], 10, 5)]
        every = [each.n for each in listings.page_of_items(tx, 1, [], 0, 100)]
    ledger.close()
    assert found == [11, 13, 14, 16, 17]
    assert every == list(range(1, 41))


def test_counts_of_deliveries_are_those_of_the_jobs_asked_for(few: Reader) -> None:
    asked = everything(few)[:100]
    with few.reading() as tx:
        found = listings.delivery_counts(tx, (job.id for job in asked))
        expected = {job.id: Counter(each.state for each in deliveries.listing(tx, job.id)) for job in asked}
        tries = listings.tries_of(tx, page := listings.page_of_deliveries(tx, DeliveryFilter(), None, 10))
        assert tries == {each.id: deliveries.attempt_counts(tx)[each.id] for each in page}
    assert found == {job: counts for job, counts in expected.items() if counts}


def test_titles_are_told_once_each(few: Reader) -> None:
    with few.reading() as tx:
        assert listings.titles(tx, "calling_ae") == sorted(CALLING)
        assert listings.titles(tx, "called_ae", 2) == sorted(CALLED)[:2]
        with pytest.raises(ValueError, match="no such column"):
            listings.titles(tx, "study")


def test_times_of_runs_are_those_of_the_last_runs(few: Reader) -> None:
    with few.reading() as tx:
        assert processors_that_ran(tx) == sorted(f"proc{n}" for n in range(20))
        assert processors_that_ran(tx)[0] == "proc0"
        times = run_times(tx, "proc7", recent=20)
        nobody = run_times(tx, "nobody")
        expected = []
        for job in [job for job in everything(few) if job.processor == "proc7"][:20]:
            (attempt,) = jobs.attempts(tx, job.id)
            assert attempt.ended is not None
            expected.append((attempt.ended - attempt.began).total_seconds())
    assert times.runs == 20
    assert times.mean == pytest.approx(sum(expected) / 20)
    assert times.longest == max(expected)
    assert times.spread == pytest.approx((sum((each - sum(expected) / 20) ** 2 for each in expected) / 19) ** 0.5)
    assert (nobody.runs, nobody.mean, nobody.spread, nobody.last, nobody.failures) == (0, None, None, None, ())


def test_failures_are_told_with_their_jobs(few: Reader) -> None:
    with few.reading() as tx:
        every = [run_times(tx, name, recent=1000) for name in processors_that_ran(tx)]
    assert sum(each.failed for each in every) == FEW // 40
    assert all(run.outcome == "failed" for each in every for run in each.failures)


PAGES: list[Callable[[Transaction], object]] = [
    lambda tx: listings.page_of_jobs(tx, JobFilter(), None, 50),
    lambda tx: listings.page_of_jobs(tx, JobFilter(), JobKey(BEGIN + timedelta(minutes=60), "2026"), 50),
    lambda tx: listings.page_of_jobs(tx, JobFilter((JobState.LOST,), "nobody", "COPY"), None, 50),
    lambda tx: listings.count_jobs(tx, JobFilter()),
    lambda tx: listings.page_of_deliveries(tx, DeliveryFilter((DeliveryState.DEAD,)), None, 50),
    lambda tx: listings.page_of_deliveries(tx, DeliveryFilter((DeliveryState.SKIPPED,)), None, 50),
    lambda tx: listings.page_of_deliveries(tx, DeliveryFilter((), "PACS@10.0.0.5:104"), 100, 50),
    lambda tx: run_times(tx, "proc3"),
    processors_that_ran,
    lambda tx: listings.titles(tx, "calling_ae"),
    lambda tx: alarms.newest_in_attention(tx, 20),
    queues.overview,
]


@pytest.mark.parametrize("page", PAGES)
def test_a_list_looks_at_no_instances(many: Reader, page: Callable[[Transaction], object]) -> None:
    seen = set()

    def authorize(action: int, table: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_READ and table:
            seen.add(table)
        return sqlite3.SQLITE_OK

    with many.reading() as tx:
        tx.set_authorizer(authorize)
        try:
            page(tx)
        finally:
            tx.set_authorizer(None)
    assert seen
    assert not seen & {"instances", "delivery_instances"}


@pytest.mark.parametrize("page", PAGES)
def test_a_list_costs_no_more_than_a_look_at_an_index(many: Reader, page: Callable[[Transaction], object]) -> None:
    """Counted in steps of SQLite's machine: 20 for each of the jobs are a few milliseconds, with a full ledger too."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 10
        return 0

    with many.reading() as tx:
        tx.set_progress_handler(count, 10)
        page(tx)
    assert 0 < steps < 20 * MANY


def test_a_reader_sees_what_a_box_writes_meanwhile(tmp_path: Path) -> None:
    box = new_box(tmp_path)
    reader = Reader(box.data.ledger)
    try:
        with reader.reading() as tx:
            assert jobs.newest(tx) == []
        job = box.job(Image("1.2.3.1"))
        with reader.reading() as tx, reader.reading() as other:
            assert [each.id for each in jobs.newest(tx)] == [job.id]
            with box.ledger.transaction() as writing:
                jobs.note(writing, job.id, "while it is read")
            assert jobs.get(tx, job.id).reason == job.reason  # one consistent view
            assert jobs.get(other, job.id).reason == "while it is read"
    finally:
        reader.close()
        box.ledger.close()


def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "ledger.sqlite", 1, 1)
    reader = Reader(tmp_path / "ledger.sqlite")
    with pytest.raises(LedgerError, match="readonly"), reader.reading() as tx:
        tx.execute("DELETE FROM history")
    reader.close()
    with pytest.raises(LedgerError, match="closed"), reader.reading():
        pass


def test_a_reader_opens_no_ledger_that_is_not_there_or_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "led ger?.sqlite"
    with pytest.raises(LedgerError, match="no ledger there"), Reader(path).reading():
        pass
    fill(path, 1, 1)
    connection = sqlite3.connect(path)
    for version, said in ((9, "older"), (9999, "newer")):
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()
        with pytest.raises(LedgerError, match=said), Reader(path).reading():
            pass
    connection.close()


def test_a_question_that_takes_too_long_is_ended_and_the_reader_goes_on(few: Reader) -> None:
    reader = Reader(few.path, limit=0.2, most=1)
    endless = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(LedgerError, match="not found within"), reader.reading() as tx:
        tx.execute(endless).fetchone()
    with reader.reading() as tx:
        assert sum(jobs.count_by_state(tx).values()) == FEW
        with pytest.raises(LedgerError, match="too many"), reader.reading():
            pass
    reader.close()


def test_many_threads_read_at_once(few: Reader) -> None:
    found: list[int] = []

    def read() -> None:
        for _ in range(5):
            with few.reading() as tx:
                found.append(len(listings.page_of_jobs(tx, JobFilter(), None, 50)))

    threads = [threading.Thread(target=read) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [50] * 100
