"""The statements about deliveries: a decision and its plan, what is due, each response, each attempt, listings."""

from collections.abc import Sequence
from datetime import datetime

from magickbox.clock import from_text, now, to_text
from magickbox.delivery import (
    Delivery,
    DeliveryAttempt,
    DeliveryItem,
    DeliveryState,
    ItemState,
    NewDelivery,
    NewItem,
    Priority,
    Progress,
)
from magickbox.destination import Delivered, Rejected, Result
from magickbox.errors import NotFound
from magickbox.job import JobState
from magickbox.ledger.destinations import from_row, to_row
from magickbox.ledger.store import Transaction
from magickbox.queueing import lane_of

LARGEST = (1 << 63) - 1  # SQLite counts no further
_COLUMNS = (
    "id, job, decision, rule, entry, destination, host, port, calling_ae, called_ae, gate, waits_for, fallback, state,"
    " opened, tries, next_try, ended, reason, instances,"
    " priority"
)
_ITEM = "n, file, sop_instance, sop_class, transfer_syntax, state, status, reason, at"
RUNNABLE = (
    "FROM deliveries WHERE state = 'OPEN' AND (SELECT state FROM jobs WHERE jobs.id = deliveries.job) ="
    f" '{JobState.DELIVERING}'"
)


def _moment(text: object) -> datetime | None:
    return from_text(str(text)) if text else None


def _to_delivery(row: Sequence[object]) -> Delivery:
    (
        number, job, decision, rule, entry, destination, host, port, calling, called, gate, waits_for, fallback, state,
        opened, tries, next_try, ended, reason, instances, priority,
    ) = row  # fmt: skip
    return Delivery(
        id=int(str(number)),
        job=str(job),
        decision=int(str(decision)),
        rule=str(rule),
        entry=int(str(entry)),
        destination=from_row(str(destination), str(host), int(str(port)), str(calling), str(called)),
        gate=bool(gate),
        waits_for=None if waits_for is None else int(str(waits_for)),
        has_fallback=bool(fallback),
        state=DeliveryState(str(state)),
        opened=_moment(opened),
        tries=int(str(tries)),
        next_try=_moment(next_try),
        ended=_moment(ended),
        reason=str(reason),
        instances=int(str(instances)),
        priority=Priority(int(str(priority))),
    )


def record_decision(tx: Transaction, job: str, rules_digest: str, why_json: str) -> int:
    """Record a decision about a job (section 8, step 13) and return its number; ``why_json`` has no tag's value."""
    n = int(tx.execute("SELECT coalesce(max(n), 0) + 1 FROM decisions WHERE job = ?", (job,)).fetchone()[0])
    tx.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", (job, n, to_text(now()), rules_digest, why_json))
    return n


def plan(tx: Transaction, job: str, n: int, planned: Sequence[NewDelivery]) -> list[int]:
    """Record the deliveries of decision ``n`` in their order and return their ids.

    What waits for no gate is open from now on; what is held back is dead, and a person may try it. Raises ValueError
    for an empty selection or a gate that does not come before what waits for it.
    """
    ids: list[int] = []
    for position, new in enumerate(planned):
        if not new.items:
            raise ValueError(f"{new.rule}, entry {new.entry}: a delivery of nothing")
        if new.waits_for is not None and not 0 <= new.waits_for < position:
            raise ValueError(f"{new.rule}, entry {new.entry}: its gate does not come before it")
        ids.append(_add(tx, job, n, new, None if new.waits_for is None else ids[new.waits_for]))
    return ids


def _add(tx: Transaction, job: str, n: int, new: NewDelivery, gate: int | None) -> int:
    moment = to_text(now()) if gate is None and not new.held else None
    state = DeliveryState.DEAD if new.held else DeliveryState.OPEN if gate is None else DeliveryState.WAITING
    ended, reason = (to_text(now()), f"not sent, check {new.held}") if new.held else (None, "")
    added = tx.execute(
        "INSERT INTO deliveries (job, decision, rule, entry, lane, destination, host, port, calling_ae, called_ae,"
        " gate, waits_for, fallback, state, opened, next_try, ended, reason, instances,"
        " priority, grp, study) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            job, n, new.rule, new.entry, lane_of(new.destination), *to_row(new.destination), int(new.gate), gate,
            int(new.has_fallback), state, moment, moment, ended, reason, len(new.items),
            new.priority, new.group, new.study,
        ),
    )  # fmt: skip
    number = added.lastrowid
    assert number is not None
    tx.executemany(
        "INSERT INTO delivery_instances (delivery, n, file, sop_instance, sop_class, transfer_syntax, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(number, at, *_item_row(item), ItemState.PENDING) for at, item in enumerate(new.items, 1)],
    )
    return number


def _item_row(item: NewItem) -> tuple[str, ...]:
    return item.file, item.sop_instance, item.sop_class, item.transfer_syntax


def get(tx: Transaction, delivery: int) -> Delivery:
    """The delivery of that id; raises NotFound."""
    statement = f"SELECT {_COLUMNS} FROM deliveries WHERE id = ?"
    row = tx.execute(statement, (delivery,)).fetchone() if abs(delivery) <= LARGEST else None
    if row is None:
        raise NotFound(f"there is no delivery {str(delivery)[:40]}")
    return _to_delivery(row)


def listing(
    tx: Transaction, job: str | None = None, states: Sequence[DeliveryState] = (), limit: int = -1
) -> list[Delivery]:
    """Deliveries in the order of their ids, of one job or of all, in these states or in any; -1 means no limit."""
    wanted, values = ["1"], list[object]()
    if job is not None:
        wanted.append("job = ?")
        values.append(job)
    if states:
        # A job has few deliveries, a state may have thousands: with the job given, SQLite must not go by the state.
        column = "state" if job is None else "+state"
        wanted.append(f"{column} IN ({', '.join('?' * len(states))})")
        values.extend(states)
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM deliveries WHERE {' AND '.join(wanted)} ORDER BY id LIMIT ?", (*values, limit)
    )
    return [_to_delivery(row) for row in rows]


def waiting_for(tx: Transaction, gate: int) -> list[Delivery]:
    """The deliveries that were planned behind a gate, directly, whatever became of them."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM deliveries WHERE waits_for = ? ORDER BY id", (gate,))
    return [_to_delivery(row) for row in rows]


def select(tx: Transaction, where: str, values: Sequence[object]) -> list[Delivery]:
    """The deliveries that a statement's rest, from FROM on, selects."""
    return [_to_delivery(row) for row in tx.execute(f"SELECT {_COLUMNS} {where}", tuple(values))]


def is_wanted(tx: Transaction, delivery: int) -> bool:
    """True while an attempt may go on: the delivery is open and its job is delivering, not held or rerouted."""
    return tx.execute(f"SELECT 1 {RUNNABLE} AND id = ?", (delivery,)).fetchone() is not None


def instances_of(
    tx: Transaction, delivery: int, states: Sequence[ItemState] = (), limit: int = -1
) -> list[DeliveryItem]:
    """The instances of a delivery, in these states or in any, in the order of the selection; -1 means no limit."""
    where = f"AND state IN ({', '.join('?' * len(states))})" if states else ""
    return select_items(tx, f"delivery = ? {where} ORDER BY n LIMIT ?", (delivery, *states, limit))


def select_items(tx: Transaction, where: str, values: Sequence[object]) -> list[DeliveryItem]:
    """The instances of deliveries that a statement's rest, from behind WHERE on, selects."""
    return [_to_item(row) for row in tx.execute(f"SELECT {_ITEM} FROM delivery_instances WHERE {where}", tuple(values))]


def pending_items(tx: Transaction, delivery: int) -> list[DeliveryItem]:
    """The instances still to be sent; those that failed before come last, so that one bad one blocks no other."""
    return select_items(
        tx,
        "delivery = ? AND state IN (?, ?) ORDER BY at IS NOT NULL, at, n",
        (delivery, ItemState.PENDING, ItemState.REFUSED),
    )


def _to_item(row: Sequence[object]) -> DeliveryItem:
    n, file, sop_instance, sop_class, syntax, state, status, reason, at = row
    return DeliveryItem(
        int(str(n)), str(file), str(sop_instance), str(sop_class), str(syntax), ItemState(str(state)),
        None if status is None else int(str(status)), str(reason), _moment(at),
    )  # fmt: skip


def progress(tx: Transaction, delivery: int) -> Progress:
    """How far a delivery is."""
    rows = tx.execute("SELECT state, count(*) FROM delivery_instances WHERE delivery = ? GROUP BY state", (delivery,))
    return Progress(**{str(row[0]).lower(): int(row[1]) for row in rows})


def record_response(tx: Transaction, delivery: int, n: int, result: Result) -> ItemState:
    """Record what came of sending one instance (section 8, step 14) and return where it stands now.

    A refusal for good counts only when it is the second: the first makes it REFUSED, to be asked once more.
    """
    state = ItemState.SENT if isinstance(result, Delivered) else _after_failure(_state_of(tx, delivery, n), result)
    tx.execute(
        "UPDATE delivery_instances SET state = ?, status = ?, reason = ?, at = ? WHERE delivery = ? AND n = ?",
        (state, result.status, result.reason, to_text(now()), delivery, n),
    )
    return state


def _state_of(tx: Transaction, delivery: int, n: int) -> ItemState:
    row = tx.execute("SELECT state FROM delivery_instances WHERE delivery = ? AND n = ?", (delivery, n)).fetchone()
    return ItemState(str(row[0]))


def _after_failure(was: ItemState, result: Result) -> ItemState:
    if isinstance(result, Rejected):
        return ItemState.REFUSED if was is ItemState.PENDING else ItemState.REJECTED
    return was


def begin_attempt(tx: Transaction, delivery: int) -> int:
    """Record that an attempt begins and return its number."""
    last = tx.execute("SELECT coalesce(max(n), 0) FROM delivery_attempts WHERE delivery = ?", (delivery,)).fetchone()
    n = int(last[0]) + 1
    tx.execute(
        "INSERT INTO delivery_attempts (delivery, n, began, lane) SELECT id, ?, ?, lane FROM deliveries WHERE id = ?",
        (n, to_text(now()), delivery),
    )
    return n


def end_attempt(tx: Transaction, delivery: int, n: int, sent: int, refused: int, result: str) -> None:
    """Record how an attempt ended; ``result`` has no patient's data, because it is shown and logged."""
    tx.execute(
        "UPDATE delivery_attempts SET ended = ?, sent = ?, refused = ?, result = ? WHERE delivery = ? AND n = ?",
        (to_text(now()), sent, refused, result, delivery, n),
    )


def attempts(tx: Transaction, delivery: int) -> list[DeliveryAttempt]:
    """The attempts at a delivery, first to last."""
    rows = tx.execute(
        "SELECT n, began, ended, sent, refused, result FROM delivery_attempts WHERE delivery = ? ORDER BY n",
        (delivery,),
    )
    return [DeliveryAttempt(int(r[0]), from_text(r[1]), _moment(r[2]), int(r[3]), int(r[4]), str(r[5])) for r in rows]


def attempt_counts(tx: Transaction) -> dict[int, int]:
    """How many attempts there were at each delivery that has any, whatever its present budget counts."""
    rows = tx.execute("SELECT delivery, count(*) FROM delivery_attempts GROUP BY delivery")
    return {int(row[0]): int(row[1]) for row in rows}


def try_again_at(tx: Transaction, delivery: int, moment: datetime, tries: int, reason: str) -> None:
    """Leave a delivery open, to be tried again at ``moment``."""
    tx.execute(
        "UPDATE deliveries SET next_try = ?, tries = ?, reason = ? WHERE id = ?",
        (to_text(moment), tries, reason, delivery),
    )
