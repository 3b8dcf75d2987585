"""The end of a delivery and what follows from it, in the caller's one transaction (section 8, step 15).

An entry's end, the start of what waited for it and, if it was the last, the job's end are never seen apart.
"""

from magickbox.clock import now, to_text
from magickbox.delivery import UNDECIDED, Delivery, DeliveryState, ItemState
from magickbox.errors import ForbiddenMove
from magickbox.job import JobState, Move
from magickbox.ledger import deliveries, jobs, proofs, queues, receipts
from magickbox.ledger.store import Transaction
from magickbox.queueing import lane_of

S = DeliveryState
# What can be tried again when a person asks for it.
RETRYABLE = frozenset({S.DEAD, S.REPLACED, S.CANCELLED})
# What does not stand in for a gate that failed.
_NO_STAND_IN = frozenset({S.CANCELLED, S.SKIPPED})


def deliver(tx: Transaction, delivery: int, reason: str = "") -> Delivery:
    """End a delivery as delivered, ``reason`` says how that is known, if not by the answers to its instances.

    What waits for its gate is skipped, with all that waits for that in turn.

    An entry that had already died in its place (it was tried again by a person) is skipped too: its alarm is moot.
    """
    ended = _end(tx, delivery, S.DELIVERED, reason)
    if ended.gate:
        _skip_behind(tx, ended)
    settle(tx, ended.job)
    return ended


def _skip_behind(tx: Transaction, gate: Delivery) -> None:
    for behind in deliveries.waiting_for(tx, gate.id):
        if behind.state in (S.WAITING, S.DEAD):
            _end(tx, behind.id, S.SKIPPED, f"delivery {gate.id} to {gate.destination} arrived")
            _skip_behind(tx, behind)


def fail(tx: Transaction, delivery: int, reason: str) -> Delivery:
    """End a delivery as failed: what waits for it directly is opened, or it is dead if nothing takes over."""
    failed = deliveries.get(tx, delivery)
    stand_ins = _open_behind(tx, failed)
    ended = _end(tx, delivery, S.REPLACED if stand_ins else S.DEAD, reason)
    settle(tx, ended.job)
    return ended


def _open_behind(tx: Transaction, gate: Delivery) -> bool:
    """Open what waits directly for a gate; what waits behind a further gate goes on waiting. True if any stands in."""
    behind = deliveries.waiting_for(tx, gate.id)
    for delivery in behind:
        if delivery.state is S.WAITING:
            _open(tx, delivery.id, f"delivery {gate.id} to {gate.destination} failed")
    return any(delivery.state not in _NO_STAND_IN for delivery in behind)


def _open(tx: Transaction, delivery: int, reason: str) -> None:
    moment = to_text(now())
    tx.execute(
        "UPDATE deliveries SET state = ?, opened = ?, next_try = ?, tries = 0, ended = NULL, reason = ? WHERE id = ?",
        (S.OPEN, moment, moment, reason, delivery),
    )


def _end(tx: Transaction, delivery: int, state: DeliveryState, reason: str) -> Delivery:
    tx.execute(
        "UPDATE deliveries SET state = ?, ended = ?, next_try = NULL, reason = ? WHERE id = ?",
        (state, to_text(now()), reason, delivery),
    )
    return deliveries.get(tx, delivery)


def settle(tx: Transaction, job: str) -> None:
    """Move a job on if nothing of it is open any more: to ATTENTION if something is dead, otherwise to DONE.

    A job that is held stays held; it is settled after its release.
    """
    if jobs.get(tx, job).state is not JobState.DELIVERING:
        return
    every = deliveries.listing(tx, job)
    if any(delivery.state in UNDECIDED for delivery in every):
        return
    receipts.ask(tx, job)
    arrived = sum(delivery.state is S.DELIVERED for delivery in every)
    dead = [delivery for delivery in every if delivery.state is S.DEAD]
    if dead:
        more = f" (and {len(dead) - 1} more)" if len(dead) > 1 else ""
        reason = f"delivery {dead[0].id} to {dead[0].destination} is dead{more}: {dead[0].reason}"
        jobs.move(tx, job, Move.ALARM, reason, delivered=arrived)
    else:
        jobs.move(tx, job, Move.SETTLE, _summary(every), delivered=arrived)


def _summary(every: list[Delivery]) -> str:
    counts = {state: sum(delivery.state is state for delivery in every) for state in S}
    return ", ".join(f"{n} {state.lower()}" for state, n in counts.items() if n) or "nothing to deliver"


def settle_all(tx: Transaction) -> None:
    """Settle every job that is delivering and has nothing open: after a release, or after a crash long ago."""
    rows = tx.execute(
        "SELECT id FROM jobs WHERE state = ? AND NOT EXISTS"
        " (SELECT 1 FROM deliveries WHERE job = jobs.id AND state IN (?, ?))",
        (JobState.DELIVERING, *UNDECIDED),
    )
    for row in rows.fetchall():
        settle(tx, str(row[0]))


def close_attempts(tx: Transaction) -> int:
    """Say of the attempts that the box's end cut short that they were; how many there were."""
    cut = tx.execute(
        "UPDATE delivery_attempts SET ended = ?, result = 'cut short: the box ended' WHERE ended IS NULL",
        (to_text(now()),),
    )
    return cut.rowcount


def retry(tx: Transaction, delivery: int, who: str) -> Delivery:
    """Try a delivery again that is over and did not arrive, with a new budget; what was sent is not sent again.

    One that is open is tried at once, with the budget that it has.

    Raises ForbiddenMove if the delivery's or its job's state does not allow that.
    """
    was = deliveries.get(tx, delivery)
    queues.ask_soon(tx, lane_of(was.destination))
    if was.state is S.OPEN:
        tx.execute("UPDATE deliveries SET next_try = ? WHERE id = ?", (to_text(now()), delivery))
        proofs.ask_anew(tx, delivery, f"asked anew by {who}")
        return deliveries.get(tx, delivery)
    if was.state not in RETRYABLE:
        able = _words(RETRYABLE | {S.OPEN})
        raise ForbiddenMove(f"delivery {delivery} is {was.state}; only what is {able} can be tried again")
    job = jobs.get(tx, was.job)
    goes_on = job.resume if job.state is JobState.HELD else job.state
    if goes_on is not JobState.DELIVERING:
        jobs.move(tx, job.id, Move.REOPEN, f"delivery {delivery} to {was.destination} is tried again", who)
    tx.execute(
        "UPDATE delivery_instances SET state = ? WHERE delivery = ? AND state IN (?, ?)",
        (ItemState.PENDING, delivery, ItemState.REFUSED, ItemState.REJECTED),
    )
    _open(tx, delivery, f"tried again, asked by {who}")
    return deliveries.get(tx, delivery)


def _words(states: frozenset[DeliveryState]) -> str:
    return ", ".join(sorted(states))


def cancel(tx: Transaction, delivery: int, who: str) -> Delivery:
    """Take one delivery back. It did not arrive, so what waits for it takes over; cancel that too to stop it all.

    Raises ForbiddenMove if it is over already.
    """
    was = deliveries.get(tx, delivery)
    if was.state not in UNDECIDED:
        raise ForbiddenMove(f"delivery {delivery} is {was.state}; only what is {_words(UNDECIDED)} can be cancelled")
    if was.state is S.OPEN:
        _open_behind(tx, was)
    else:  # still behind its own gate: what waited for it waits for that one instead
        tx.execute(
            "UPDATE deliveries SET waits_for = ? WHERE waits_for = ? AND state = ?",
            (was.waits_for, delivery, S.WAITING),
        )
    ended = _end(tx, delivery, S.CANCELLED, f"cancelled by {who}")
    settle(tx, ended.job)
    return ended


def cancel_open(tx: Transaction, job: str, who: str, why: str = "decided anew") -> int:
    """Take back what is open, waiting or dead before a job is decided anew or deleted; returns how many those were.

    The dead ones too: the new decision, not the old one, says from then on whether all is well.
    """
    over = (*UNDECIDED, S.DEAD)
    found = deliveries.listing(tx, job, over)
    for delivery in found:
        was = f" (it was dead: {delivery.reason})" if delivery.state is S.DEAD else ""
        _end(tx, delivery.id, S.CANCELLED, f"{why}, asked by {who}{was}")
    return len(found)
