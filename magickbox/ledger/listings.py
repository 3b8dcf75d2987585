"""The statements behind lists for people: jobs and deliveries page by page, newest first, however many there are.

A page begins after the last line of the page before (its key), so that the thousandth costs no more than the first.
What is left out is left out by an index alone; the instances of a job are never looked at.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from magickbox.clock import to_text
from magickbox.delivery import Delivery, DeliveryItem, DeliveryState, ItemState
from magickbox.job import Job, JobState
from magickbox.ledger import deliveries
from magickbox.ledger.jobs import select as select_jobs
from magickbox.ledger.store import Transaction

_NEWEST = 5000


@dataclass(frozen=True)
class Among:
    """A statement that selects ids of jobs, with its values: what is known of jobs outside the ledger."""

    statement: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows: those to which everything applies that is given.

    AE titles are compared without regard to case, and ``*`` in them stands for anything. ``since`` and ``until`` are
    about the job's birth; ``until`` itself is not in it.
    """

    states: tuple[JobState, ...] = ()
    calling_ae: str = ""
    called_ae: str = ""
    since: datetime | None = None
    until: datetime | None = None
    among: tuple[Among, ...] = ()


@dataclass(frozen=True)
class JobKey:
    """Where a job stands in the list."""

    born: datetime
    id: str


def page_of_jobs(tx: Transaction, wanted: JobFilter, after: JobKey | None, limit: int) -> list[Job]:
    """At most ``limit`` jobs, newest first, from the one after ``after`` on."""
    where, values = _conditions(wanted)
    if after is not None:
        where.append("(born, id) < (?, ?)")
        values += [to_text(after.born), after.id]
    return select_jobs(
        tx,
        f"id IN (SELECT id FROM jobs INDEXED BY jobs_newest WHERE {' AND '.join(where)}"
        " ORDER BY born DESC, id DESC LIMIT ?) ORDER BY born DESC, id DESC",
        (*values, limit),
    )


def count_jobs(tx: Transaction, wanted: JobFilter) -> dict[JobState, int]:
    """How many jobs there are in each state; ``states`` of the filter does not count."""
    where, values = _conditions(replace(wanted, states=()))
    rows = tx.execute(
        f"SELECT state, count(*) FROM jobs INDEXED BY jobs_newest WHERE {' AND '.join(where)} GROUP BY state", values
    )
    return {JobState(str(row[0])): int(row[1]) for row in rows}


def page_and_counts(
    tx: Transaction, wanted: JobFilter, after: JobKey | None, limit: int
) -> tuple[list[Job], dict[JobState, int]]:
    """What ``page_of_jobs`` and ``count_jobs`` say, with one look for what is known outside the ledger."""
    if not wanted.among:
        return page_of_jobs(tx, wanted, after, limit), count_jobs(tx, wanted)
    where, values = _conditions(replace(wanted, states=()))
    states = wanted.states or tuple(JobState)
    behind, key = ("AND (born, id) < (?, ?)", (to_text(after.born), after.id)) if after is not None else ("", ())
    rows = tx.execute(
        "WITH fit AS MATERIALIZED (SELECT born, id, state FROM jobs INDEXED BY jobs_newest"
        f" WHERE {' AND '.join(where)})"
        " SELECT 'state', state, count(*) FROM fit GROUP BY state UNION ALL SELECT * FROM (SELECT 'job', id, 0 FROM fit"
        f" WHERE state IN ({', '.join('?' * len(states))}) {behind} ORDER BY born DESC, id DESC LIMIT ?)",
        (*values, *states, *key, limit),
    ).fetchall()
    ids = json.dumps([row[1] for row in rows if row[0] == "job"])
    found = select_jobs(tx, "id IN (SELECT value FROM json_each(?)) ORDER BY born DESC, id DESC", (ids,))
    return found, {JobState(str(row[1])): int(row[2]) for row in rows if row[0] == "state"}


def _conditions(wanted: JobFilter) -> tuple[list[str], list[object]]:
    where, values = ["1"], list[object]()
    if wanted.states:
        where.append(f"state IN ({', '.join('?' * len(wanted.states))})")
        values += wanted.states
    for column, title in (("calling_ae", wanted.calling_ae), ("called_ae", wanted.called_ae)):
        if title:
            where.append(f"{column} LIKE ? ESCAPE '!'")
            values.append(_as_like(title))
    if wanted.since is not None:
        where.append("born >= ?")
        values.append(to_text(wanted.since))
    if wanted.until is not None:
        where.append("born < ?")
        values.append(to_text(wanted.until))
    for each in wanted.among:
        where.append(f"id IN ({each.statement})")
        values += each.values
    return where, values


def _as_like(title: str) -> str:
    plain = title.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return plain.replace("*", "%")


def with_uid(uid: str) -> Among:
    """The jobs of a study with that UID, and those that have an instance with it."""
    return Among(
        "SELECT id FROM jobs WHERE study = ? UNION SELECT job FROM instances WHERE sop_instance = ?", (uid, uid)
    )


def titles(tx: Transaction, column: str, limit: int = 200) -> list[str]:
    """The AE titles that the newest jobs have as ``calling_ae`` or ``called_ae``, sorted."""
    if column not in ("calling_ae", "called_ae"):
        raise ValueError(f"no such column: {column}")
    rows = tx.execute(
        f"SELECT DISTINCT {column} FROM (SELECT {column} FROM jobs INDEXED BY jobs_newest ORDER BY born DESC LIMIT ?)"
        " ORDER BY 1 LIMIT ?",
        (_NEWEST, limit),
    )
    return [str(row[0]) for row in rows]


def delivery_counts(tx: Transaction, jobs: Iterable[str]) -> dict[str, dict[DeliveryState, int]]:
    """How many deliveries of each of these jobs are in which state."""
    found: dict[str, dict[DeliveryState, int]] = {}
    rows = tx.execute(
        "SELECT job, state, count(*) FROM deliveries WHERE job IN (SELECT value FROM json_each(?)) GROUP BY job, state",
        (json.dumps(list(jobs)),),
    )
    for job, state, count in rows:
        found.setdefault(str(job), {})[DeliveryState(str(state))] = int(count)
    return found


def successors(tx: Transaction, job: Job, limit: int = 50) -> list[str]:
    """The jobs that are reruns of a job or came late after it, oldest first."""
    rows = tx.execute(
        "SELECT id FROM jobs WHERE study = ? AND calling_ae = ? AND called_ae = ? AND (rerun_of = ? OR follows = ?)"
        " ORDER BY born LIMIT ?",
        (job.study, job.calling_ae, job.called_ae, job.id, job.id, limit),
    )
    return [str(row[0]) for row in rows]


@dataclass(frozen=True)
class DeliveryFilter:
    """Which deliveries a list shows; ``lane`` is the queue that they stand in."""

    states: tuple[DeliveryState, ...] = ()
    lane: str = ""
    job: str = ""


def page_of_deliveries(tx: Transaction, wanted: DeliveryFilter, after: int | None, limit: int) -> list[Delivery]:
    """At most ``limit`` deliveries, newest first, from the one after ``after`` on."""
    before, values = ("AND id < ?", (after,)) if after is not None else ("", ())
    end = "ORDER BY id DESC LIMIT ?"
    if wanted.job:
        states = wanted.states or tuple(DeliveryState)
        marks = ", ".join("?" * len(states))
        where = f"WHERE job = ? AND state IN ({marks}) AND (? = '' OR lane = ?) {before}"
        of_job = (wanted.job, *states, wanted.lane, wanted.lane)
        return deliveries.select(tx, f"FROM deliveries {where} {end}", (*of_job, *values, limit))
    if not wanted.states and not wanted.lane:
        return deliveries.select(tx, f"FROM deliveries WHERE 1 {before} {end}", (*values, limit))
    lane, of_lane = ("AND lane = ?", (wanted.lane,)) if wanted.lane else ("", ())
    index = "deliveries_lanes" if wanted.lane else "deliveries_newest"
    found: list[Delivery] = []
    for state in wanted.states or tuple(DeliveryState):  # within a state the index has them in order
        rest = f"FROM deliveries INDEXED BY {index} WHERE state = ? {lane} {before} {end}"
        found += deliveries.select(tx, rest, (state, *of_lane, *values, limit))
    return sorted(found, key=lambda each: -each.id)[:limit]


def tries_of(tx: Transaction, found: Sequence[Delivery]) -> Mapping[int, int]:
    """How many attempts there were at each of these deliveries, whatever its present budget counts."""
    rows = tx.execute(
        "SELECT delivery, count(*) FROM delivery_attempts WHERE delivery IN (SELECT value FROM json_each(?))"
        " GROUP BY delivery",
        (json.dumps([each.id for each in found]),),
    )
    return {int(row[0]): int(row[1]) for row in rows}


def page_of_items(
    tx: Transaction, delivery: int, states: Sequence[ItemState], after: int, limit: int
) -> list[DeliveryItem]:
    """At most ``limit`` instances of a delivery in these states or in any, those behind number ``after``."""
    found = tuple(states) or tuple(ItemState)
    return deliveries.select_items(
        tx,
        f"delivery = ? AND n > ? AND state IN ({', '.join('?' * len(found))}) ORDER BY n LIMIT ?",
        (delivery, after, *found, limit),
    )
