"""The statements about destinations' queues: what is open for each, what is due, and how the queue stands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from magickbox.breaker import Circuit
from magickbox.clock import from_text, now, to_text
from magickbox.delivery import Delivery, DeliveryState, Priority
from magickbox.destination import Destination
from magickbox.errors import NotFound
from magickbox.ledger import deliveries
from magickbox.ledger.deliveries import RUNNABLE
from magickbox.ledger.store import Transaction
from magickbox.queueing import Lane, Mode, QueueState, turn_of

_STATE = "mode, since, who, failures, open_since, probes, next_probe, reason, troubled, trouble"
_OF_LANE = "AND lane = ?"
_NOT_ASKED = "AND NOT EXISTS (SELECT 1 FROM proofs WHERE delivery = deliveries.id AND state = 'ASKED')"


@dataclass(frozen=True)
class QueueLine:
    """A destination as a listing shows it; ``oldest`` is when the oldest open delivery was opened."""

    name: Lane
    state: QueueState
    open: int
    dead: int
    oldest: datetime | None
    next_try: datetime | None

    @property
    def since(self) -> datetime | None:
        """In its present state since then."""
        state = self.state
        return state.since if state.mode is not Mode.RUNNING else state.circuit.open_since

    @property
    def reason(self) -> str:
        """Why it is in that state, or why nothing gets through."""
        state = self.state
        by = f"by {state.who}" if state.mode is not Mode.RUNNING else ""
        return "; ".join(part for part in (by, state.trouble) if part)


def lanes(tx: Transaction) -> list[Lane]:
    """The destinations that something is open for, now or later; looks at one delivery of each, not at all."""
    rows = tx.execute(
        "WITH RECURSIVE each(lane) AS (SELECT min(lane) FROM deliveries WHERE state = 'OPEN' UNION ALL"
        " SELECT (SELECT min(lane) FROM deliveries WHERE state = 'OPEN' AND lane > each.lane) FROM each"
        f" WHERE each.lane IS NOT NULL) SELECT lane FROM each WHERE EXISTS (SELECT 1 {RUNNABLE} AND lane = each.lane)"
    )
    return [str(row[0]) for row in rows]


def _moment(text: object) -> datetime | None:
    return from_text(str(text)) if text else None


def state_of(tx: Transaction, lane: Lane) -> QueueState:
    """How a queue stands."""
    row = tx.execute(f"SELECT {_STATE} FROM queues WHERE name = ?", (lane,)).fetchone()
    return _to_state(row) if row else QueueState()


def _to_state(row: Sequence[object]) -> QueueState:
    mode, since, who, failures, open_since, probes, next_probe, reason, troubled, trouble = row
    circuit = Circuit(
        int(str(failures)), _moment(open_since), int(str(probes)), _moment(next_probe), str(reason)
    )  # fmt: skip
    return QueueState(Mode(str(mode)), _moment(since), str(who), circuit, _moment(troubled), str(trouble))


def change(tx: Transaction, lane: Lane, how: Callable[[QueueState], QueueState]) -> tuple[QueueState, QueueState]:
    """Change how a queue stands; what it was and what it is. Nothing is written if that is the same."""
    was = state_of(tx, lane)
    state = how(was)
    if state != was:
        circuit = state.circuit
        moments = (circuit.open_since, circuit.next_probe, state.troubled, state.since)
        open_since, next_probe, troubled, since = (moment and to_text(moment) for moment in moments)
        tx.execute(
            f"INSERT OR REPLACE INTO queues (name, {_STATE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                lane, state.mode, since, state.who, circuit.failures, open_since, circuit.probes,
                next_probe, circuit.reason, troubled, state.trouble,
            ),
        )  # fmt: skip
    return was, state


def set_mode(tx: Transaction, lane: Lane, mode: Mode, who: str) -> None:
    """Pause, drain or resume a queue."""
    change(tx, lane, lambda was: replace(was, mode=mode, since=now(), who=who, circuit=was.circuit.asked_soon(now())))


def ask_soon(tx: Transaction, lane: Lane) -> None:
    """Ask an unreachable destination at once whether it is there again."""
    change(tx, lane, lambda was: replace(was, circuit=was.circuit.asked_soon(now())))


def ask_all_soon(tx: Transaction) -> None:
    """The same for every one that is unreachable: the box starts, and the network may be mended."""
    tx.execute("UPDATE queues SET next_probe = ? WHERE open_since IS NOT NULL", (to_text(now()),))


def try_all_now(tx: Transaction, lane: Lane) -> None:
    """Make all that is open for a destination due: it is there again."""
    moment = to_text(now())
    tx.execute(
        f"UPDATE deliveries SET next_try = ? WHERE state = ? AND next_try > ? {_OF_LANE}",
        (moment, DeliveryState.OPEN, moment, lane),
    )


def due(
    tx: Transaction, moment: datetime, horizon: datetime, lane: Lane, opened_until: datetime | None, limit: int = -1
) -> list[Delivery]:
    """What is to be tried at ``moment`` in the order of their turns; deliveries of a job that is held are not due.

    What is to be tried only after ``horizon``, farther away than any pause, is due as well: the clock was set back.
    What was opened after ``opened_until`` is not, if that is given.
    """
    opened, until = ("AND opened <= ?", (to_text(opened_until),)) if opened_until else ("", ())
    rest = f"{RUNNABLE} {_OF_LANE} AND priority = ? AND (next_try <= ? OR next_try > ?) {opened}"
    found = [
        each
        for priority in Priority  # one after another, so that the index gives each in order: there may be thousands
        for each in deliveries.select(
            tx,
            f"{rest} ORDER BY next_try, id LIMIT ?",
            (lane, priority, to_text(moment), to_text(horizon), *until, limit),
        )
    ]
    found.sort(key=lambda each: (turn_of(each.next_try or moment, each.priority), each.priority, each.id))
    return found if limit < 0 else found[:limit]


def next_due(tx: Transaction, lane: Lane, opened_until: datetime | None, after: datetime) -> datetime | None:
    """When the next delivery after that moment is to be tried, or None if none is."""
    opened, until = ("AND opened <= ?", (to_text(opened_until),)) if opened_until else ("", ())
    wanted = f"SELECT min(next_try) {RUNNABLE} {_OF_LANE} AND priority = ? AND next_try > ? {opened}"
    rows = [tx.execute(wanted, (lane, priority, to_text(after), *until)).fetchone() for priority in Priority]
    return min((from_text(str(row[0])) for row in rows if row[0]), default=None)


def oldest(tx: Transaction, lane: Lane, *, with_fallback: bool | None = None) -> Delivery | None:
    """The delivery that has been open longest of all; None if none is.

    Of those with a fallback, or without one, only those that do not wait for a destination to verify what it has.
    """
    some = f"AND fallback = ? {_NOT_ASKED}"
    fallback, values = ("", ()) if with_fallback is None else (some, (int(with_fallback),))
    found = deliveries.select(tx, f"{RUNNABLE} {_OF_LANE} {fallback} ORDER BY opened, id LIMIT 1", (lane, *values))
    return found[0] if found else None


def troubled(tx: Transaction, until: datetime) -> list[Lane]:
    """The destinations to which nothing got through since before then."""
    rows = tx.execute("SELECT name FROM queues WHERE troubled <= ? ORDER BY name", (to_text(until),))
    return [str(row[0]) for row in rows]


def waiting(tx: Transaction, lane: Lane) -> int:
    """How many deliveries are open for a destination."""
    return int(tx.execute(f"SELECT count(*) {RUNNABLE} {_OF_LANE}", (lane,)).fetchone()[0])


def overview(tx: Transaction) -> list[QueueLine]:
    """Every destination that anything was ever to go to, by name; what has arrived is not looked at."""
    lines = [_line(tx, name) for name in _all_lanes(tx)]
    others = tx.execute(
        "SELECT name FROM queues WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE lane = queues.name)"
    ).fetchall()
    for name in (str(row[0]) for row in others):  # all that it was to get has moved to another member of its group
        state = state_of(tx, name)
        lines.append(QueueLine(name, state, 0, 0, None, state.circuit.next_probe if state.circuit.is_open else None))
    return sorted(lines, key=lambda line: line.name)


def _all_lanes(tx: Transaction) -> list[Lane]:
    """Every destination of any delivery; looks at one delivery of each."""
    rows = tx.execute(
        "WITH RECURSIVE each(lane) AS (SELECT min(lane) FROM deliveries UNION ALL"
        " SELECT (SELECT min(lane) FROM deliveries WHERE lane > each.lane) FROM each WHERE each.lane IS NOT NULL)"
        " SELECT lane FROM each WHERE lane IS NOT NULL"
    )
    return [str(row[0]) for row in rows]


def _line(tx: Transaction, name: Lane) -> QueueLine:
    of_lane = "FROM deliveries WHERE lane = ? AND state = ?"
    n_open, opened = tx.execute(f"SELECT count(*), min(opened) {of_lane}", (name, DeliveryState.OPEN)).fetchone()
    (soonest,) = tx.execute(f"SELECT min(next_try) {of_lane}", (name, DeliveryState.OPEN)).fetchone()
    (n_dead,) = tx.execute(f"SELECT count(*) {of_lane}", (name, DeliveryState.DEAD)).fetchone()
    state, next_try = state_of(tx, name), _moment(soonest)
    if state.circuit.is_open:
        next_try = next_try and state.circuit.next_probe
    return QueueLine(name, state, int(n_open), int(n_dead), _moment(opened), next_try)


def newest_destination(tx: Transaction, lane: Lane) -> Destination:
    """The destination of the newest delivery of a queue; raises NotFound."""
    of_state = "SELECT max(id) FROM deliveries WHERE state = ? AND lane = ?"  # an index has each of them at its end
    newest = (tx.execute(of_state, (state, lane)).fetchone()[0] for state in DeliveryState)
    number = max((int(each) for each in newest if each is not None), default=None)
    if number is None:
        raise NotFound(f"nothing was ever to be sent to {lane}")
    return deliveries.get(tx, number).destination


def find(tx: Transaction, name: str) -> QueueLine:
    """The destination of that name, or of that called AE title if there is one only; raises NotFound."""
    lines = overview(tx)
    found = [line for line in lines if line.name == name] or [
        line for line in lines if line.name.partition("@")[0] == name
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(line.name for line in found or lines) or "nothing was ever to be sent"
    raise NotFound(f"there is {'more than one' if found else 'no'} destination '{name}'; there are: {known}")
