"""The statements about alarms: what is wrong in the ledger's rows, and what somebody was told of."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from magickbox.alarm import MOST, Key, Kind, Told, Trouble, fold
from magickbox.clock import from_text, to_text
from magickbox.delivery import DeliveryState
from magickbox.job import JobState
from magickbox.ledger import deliveries, queues
from magickbox.ledger.store import Transaction
from magickbox.queueing import Mode


def told(tx: Transaction) -> dict[Key, Told]:
    """What somebody was told of."""
    rows = tx.execute("SELECT kind, subject, since, reason, at, over FROM alarms").fetchall()
    troubles = [
        (Trouble(Kind(str(row[0])), str(row[1]), from_text(row[2]), str(row[3])), from_text(row[4]), bool(row[5]))
        for row in rows
    ]
    return {trouble.key: Told(trouble, at, over) for trouble, at, over in troubles}


def record(tx: Transaction, each: Told) -> None:
    """Keep that somebody was told."""
    trouble = each.trouble
    tx.execute(
        "INSERT OR REPLACE INTO alarms VALUES (?, ?, ?, ?, ?, ?)",
        (trouble.kind, trouble.subject, to_text(trouble.since), trouble.reason, to_text(each.at), int(each.over)),
    )


def forget(tx: Transaction, keys: Iterable[Key]) -> None:
    """Let go of what need not be known any more."""
    tx.executemany("DELETE FROM alarms WHERE kind = ? AND subject = ?", list(keys))


def jobs_in_attention(tx: Transaction) -> list[Trouble]:
    """A trouble for each of the jobs that are in ATTENTION longest, and one for all others."""
    rows = tx.execute(
        "SELECT id, since FROM jobs WHERE state = ? ORDER BY since, id LIMIT ?", (JobState.ATTENTION, MOST)
    ).fetchall()
    oldest = [Trouble(Kind.ATTENTION, str(row[0]), from_text(row[1]), _why(tx, str(row[0]))) for row in rows]
    count = tx.execute("SELECT count(*) FROM jobs WHERE state = ?", (JobState.ATTENTION,)).fetchone()
    return fold(oldest, int(count[0]))


def newest_in_attention(tx: Transaction, limit: int) -> list[Trouble]:
    """A trouble for each of the jobs that came into ATTENTION last."""
    rows = tx.execute(
        "SELECT id, since FROM jobs WHERE state = ? ORDER BY since DESC, id DESC LIMIT ?", (JobState.ATTENTION, limit)
    ).fetchall()
    return [Trouble(Kind.ATTENTION, str(row[0]), from_text(row[1]), _why(tx, str(row[0]))) for row in rows]


def _why(tx: Transaction, job: str) -> str:
    """Why a job is in ATTENTION, without what its processor said: that may name a patient."""
    dead = deliveries.listing(tx, job, (DeliveryState.DEAD,))
    if not dead:
        return "its outcome is failed and no rule took it"
    more = f" (and {len(dead) - 1} more)" if len(dead) > 1 else ""
    return f"delivery {dead[0].id} to {dead[0].destination} is dead{more}: {dead[0].reason}"


def destinations_in_trouble(tx: Transaction, until: datetime) -> Iterator[Trouble]:
    """A trouble for each destination that something is open for and nothing got through to since before ``until``."""
    for name in queues.troubled(tx, until):
        state, waiting = queues.state_of(tx, name), queues.waiting(tx, name)
        if waiting and state.mode is not Mode.PAUSED and state.troubled:
            yield Trouble(Kind.UNREACHABLE, name, state.troubled, f"{waiting} deliveries wait: {state.trouble}")
