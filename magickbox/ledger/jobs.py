"""The statements about jobs: birth, moves, history, attempts, listings."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from magickbox.association import Association, End
from magickbox.clock import from_text, now, to_text
from magickbox.errors import NotFound
from magickbox.instance import Instance
from magickbox.job import OPEN, Job, JobPriority, JobState, Move, after
from magickbox.ledger.store import Transaction

BOX = "box"
_COLUMNS = tuple(field.name for field in fields(Job))
_TIMES = frozenset({"received", "born", "since", "not_before"})
_FLAGS = frozenset({"aborted", "hold_asked"})


def _to_job(row: Sequence[object]) -> Job:
    values = dict(zip(_COLUMNS, row, strict=True))
    values.update({name: from_text(str(values[name])) for name in _TIMES if values[name]})
    values.update({name: bool(values[name]) for name in _FLAGS})
    values["state"] = JobState(str(values["state"]))
    values["resume"] = JobState(str(values["resume"])) if values["resume"] else None
    values["priority"] = JobPriority(str(values["priority"])) if values["priority"] else None
    return Job(**values)  # type: ignore[arg-type]  # the columns are the fields


def _to_row(job: Job) -> tuple[object, ...]:
    def plain(value: object) -> object:
        if isinstance(value, datetime):
            return to_text(value)
        return int(value) if isinstance(value, bool) else value

    return tuple(plain(getattr(job, name)) for name in _COLUMNS)


@dataclass(frozen=True)
class Share:
    """An association and how many instances of one job came over it."""

    association: Association
    instances: int


@dataclass(frozen=True)
class Held:
    """An instance as a job holds it; ``place`` is INPUT, superseded, or view (linked from an earlier job)."""

    instance: Instance
    place: str = "INPUT"


@dataclass(frozen=True)
class HistoryLine:
    """One change of state."""

    job: str
    at: datetime
    was: str | None
    became: str
    reason: str
    who: str


@dataclass(frozen=True)
class Attempt:
    """One run of a processor."""

    n: int
    processor: str
    version: str
    digest: str
    began: datetime
    ended: datetime | None
    exit_code: int | None
    outcome: str | None
    message: str


def add(tx: Transaction, job: Job, shares: Iterable[Share], held: Iterable[Held], who: str = BOX) -> None:
    """Record a job's birth with its associations and instances (section 8, step 9); again is harmless."""
    marks = ", ".join("?" * len(_COLUMNS))
    fresh = tx.execute(
        f"INSERT OR IGNORE INTO jobs ({', '.join(_COLUMNS)}) VALUES ({marks})",
        _to_row(job),
    )
    if fresh.rowcount == 0:
        return
    tx.executemany(
        "INSERT INTO associations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [_share_row(job.id, share) for share in shares]
    )
    tx.executemany("INSERT INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [_row(job.id, h) for h in held])
    _note(tx, job.id, None, job.state, job.reason or "born", who)


def _share_row(job: str, share: Share) -> tuple[object, ...]:
    a = share.association
    ended = to_text(a.ended) if a.ended else None
    return (a.id, job, a.calling_ae, a.called_ae, a.peer, to_text(a.began), ended, a.how, share.instances)


def _row(job: str, held: Held) -> tuple[object, ...]:
    i = held.instance
    return (
        job, held.place, i.file, i.sop_instance, i.sop_class,
        i.study, i.series, i.modality, i.transfer_syntax, i.size, i.checksum,
    )  # fmt: skip


def _note(tx: Transaction, job: str, was: str | None, became: str, reason: str, who: str) -> None:
    tx.execute(
        "INSERT INTO history (job, at, was, became, reason, who) VALUES (?, ?, ?, ?, ?, ?)",
        (job, to_text(now()), was, became, reason, who),
    )


def find(tx: Transaction, job: str) -> Job | None:
    """The job of that id, or None."""
    row = tx.execute(f"SELECT {', '.join(_COLUMNS)} FROM jobs WHERE id = ?", (job,)).fetchone()
    return _to_job(row) if row else None


def get(tx: Transaction, job: str) -> Job:
    """The job of that id; raises NotFound."""
    found = find(tx, job)
    if found is None:
        raise NotFound(f"there is no job {job}")
    return found


def move(tx: Transaction, job: str, step: Move, reason: str, who: str = BOX, **changes: object) -> Job:
    """Move a job by the table, with its reason in the history; ``changes`` are further columns.

    Raises ForbiddenMove if the table does not know the move. HOLD keeps where to go back to; a RUNNING job goes back
    to READY, because its run says nothing any more.
    """
    was = get(tx, job)
    state = after(was.state, step, was.resume)
    if step is Move.HOLD:
        changes.setdefault("resume", JobState.READY if was.state is JobState.RUNNING else was.state)
        changes["hold_asked"] = 0
    if step in (Move.RELEASE, Move.DELETE):
        changes["resume"] = None
    _set(tx, job, {"state": state, "since": to_text(now()), "reason": reason, **changes})
    _note(tx, job, was.state, state, reason, who)
    return get(tx, job)


def note(tx: Transaction, job: str, reason: str, who: str = BOX) -> None:
    """Put a line into a job's history, and its reason, without a change of state."""
    was = get(tx, job)
    if was.reason != reason:
        _set(tx, job, {"reason": reason})
        _note(tx, job, was.state, was.state, reason, who)


def set_hold_asked(tx: Transaction, job: str, asked: bool, who: str) -> None:
    """Ask that a running job be held at its next step, or take that back."""
    _set(tx, job, {"hold_asked": int(asked)})
    state = get(tx, job).state
    _note(tx, job, state, state, "to be held at its next step" if asked else "no longer to be held", who)


def _set(tx: Transaction, job: str, changes: dict[str, object]) -> None:
    unknown = set(changes) - set(_COLUMNS)
    if unknown:
        raise ValueError(f"no such columns: {sorted(unknown)}")
    columns = ", ".join(f"{name} = ?" for name in changes)
    tx.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (*changes.values(), job))


def select(tx: Transaction, where: str, values: Sequence[object]) -> list[Job]:
    """The jobs that a statement's rest, from behind WHERE on, selects."""
    return [_to_job(row) for row in tx.execute(f"SELECT {', '.join(_COLUMNS)} FROM jobs WHERE {where}", tuple(values))]


def in_state(tx: Transaction, *states: JobState, since: str = "") -> list[Job]:
    """The jobs in any of these states, oldest first; ``since`` leaves out those that came into it before that time."""
    rows = tx.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM jobs WHERE state IN ({', '.join('?' * len(states))}) AND since >= ?"
        " ORDER BY born, id",
        (*states, since),
    )
    return [_to_job(row) for row in rows]


def newest(tx: Transaction, limit: int = 100, states: Sequence[JobState] = ()) -> list[Job]:
    """The newest jobs first, at most ``limit``, of these states or of all."""
    where = f"state IN ({', '.join('?' * len(states))})" if states else "1"
    return select(tx, f"{where} ORDER BY born DESC, id DESC LIMIT ?", (*states, limit))


def count_by_state(tx: Transaction) -> dict[str, int]:
    """How many jobs there are in each state."""
    return {str(row[0]): int(row[1]) for row in tx.execute("SELECT state, count(*) FROM jobs GROUP BY state")}


def latest_of_study(tx: Transaction, study: str, calling_ae: str, called_ae: str) -> Job | None:
    """The newest job of that study between these two AEs that still has its folder and is no rerun, or None."""
    gone = (JobState.DELETED, JobState.DELETING, JobState.LOST)
    row = tx.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM jobs WHERE study = ? AND calling_ae = ? AND called_ae = ?"
        " AND rerun_of IS NULL AND state NOT IN (?, ?, ?) ORDER BY rowid DESC LIMIT 1",
        (study, calling_ae, called_ae, *gone),
    ).fetchone()
    return _to_job(row) if row else None


def held_by(tx: Transaction, job: str) -> list[Held]:
    """Every instance of a job, in the order of its files."""
    rows = tx.execute("SELECT * FROM instances WHERE job = ? ORDER BY place, file", (job,))
    return [_to_held(row) for row in rows]


def _to_held(row: Sequence[object]) -> Held:
    _, place, file, sop_instance, sop_class, study, series, modality, syntax, size, checksum = row
    instance = Instance(
        sop_class=str(sop_class), sop_instance=str(sop_instance), study=str(study), series=str(series),
        modality=str(modality), transfer_syntax=str(syntax), size=int(str(size)), checksum=str(checksum),
        file=str(file),
    )  # fmt: skip
    return Held(instance, str(place))


def shares_of(tx: Transaction, job: str) -> list[Share]:
    """The associations that brought a job's instances, oldest first."""
    rows = tx.execute(
        "SELECT id, calling_ae, called_ae, peer, began, ended, how, instances FROM associations"
        " WHERE job = ? ORDER BY began",
        (job,),
    )
    return [
        Share(
            Association(
                row[0], row[1], row[2], row[3], from_text(row[4]),
                ended=from_text(row[5]) if row[5] else None, how=End(row[6]) if row[6] else None,
            ),
            int(row[7]),
        )
        for row in rows
    ]  # fmt: skip


def often_seen(tx: Transaction, called_ae: str, uids: Iterable[str], since: datetime, limit: int) -> str | None:
    """A SOP Instance UID of ``uids`` that more than ``limit`` jobs for this called AE had since then, or None."""
    row = tx.execute(
        "SELECT instances.sop_instance FROM instances JOIN jobs ON jobs.id = instances.job"
        " WHERE instances.sop_instance IN (SELECT value FROM json_each(?)) AND instances.place = 'INPUT'"
        " AND jobs.called_ae = ? AND jobs.born >= ? AND jobs.rerun_of IS NULL"
        " GROUP BY instances.sop_instance HAVING count(DISTINCT jobs.id) > ? LIMIT 1",
        (json.dumps(list(uids)), called_ae, to_text(since), limit),
    ).fetchone()
    return str(row[0]) if row else None


def history(tx: Transaction, job: str) -> list[HistoryLine]:
    """Every change of state of a job, oldest first."""
    rows = tx.execute("SELECT job, at, was, became, reason, who FROM history WHERE job = ? ORDER BY id", (job,))
    return [HistoryLine(row[0], from_text(row[1]), *row[2:]) for row in rows]


def begin_attempt(tx: Transaction, job: str, n: int, processor: str, version: str, digest: str) -> None:
    """Record that a run begins."""
    tx.execute(
        "INSERT INTO attempts (job, n, processor, version, digest, began) VALUES (?, ?, ?, ?, ?, ?)",
        (job, n, processor, version, digest, to_text(now())),
    )


def end_attempt(tx: Transaction, job: str, n: int, exit_code: int | None, outcome: str, message: str) -> None:
    """Record how a run ended; ``interrupted`` is an outcome here, though not one that rules see."""
    tx.execute(
        "UPDATE attempts SET ended = ?, exit_code = ?, outcome = ?, message = ? WHERE job = ? AND n = ?",
        (to_text(now()), exit_code, outcome, message, job, n),
    )


def attempts(tx: Transaction, job: str) -> list[Attempt]:
    """The runs of a job, first to last."""
    rows = tx.execute(
        "SELECT n, processor, version, digest, began, ended, exit_code, outcome, message FROM attempts"
        " WHERE job = ? ORDER BY n",
        (job,),
    )
    return [
        Attempt(
            int(r["n"]), r["processor"], r["version"], r["digest"], from_text(r["began"]),
            from_text(r["ended"]) if r["ended"] else None, r["exit_code"], r["outcome"], r["message"],
        )
        for r in rows
    ]  # fmt: skip


def open_count(tx: Transaction) -> int:
    """How many jobs are on their way."""
    marks = ", ".join("?" * len(OPEN))
    return int(tx.execute(f"SELECT count(*) FROM jobs WHERE state IN ({marks})", tuple(OPEN)).fetchone()[0])
