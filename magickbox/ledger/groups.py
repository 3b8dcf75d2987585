"""The statements about groups of destinations: where a study went, how members stand, what may change its member."""

from magickbox.clock import now, to_text
from magickbox.delivery import Delivery
from magickbox.destination import Destination
from magickbox.group import Group, MemberState, Situation
from magickbox.ledger import deliveries, queues
from magickbox.ledger.deliveries import RUNNABLE
from magickbox.ledger.destinations import to_row
from magickbox.ledger.store import Transaction
from magickbox.queueing import Mode, lane_of

# Also what was sent but not committed to, and is to be sent again.
_SENT = (
    "(EXISTS (SELECT 1 FROM delivery_instances WHERE delivery = deliveries.id AND state = 'SENT')"
    " OR EXISTS (SELECT 1 FROM delivery_attempts WHERE delivery = deliveries.id AND sent > 0))"
)
_UNDER_WAY = "EXISTS (SELECT 1 FROM delivery_attempts WHERE delivery = deliveries.id AND ended IS NULL)"
_UNTOUCHED = f"NOT {_SENT} AND NOT {_UNDER_WAY}"


def situation(tx: Transaction, group: Group, study: str) -> Situation:
    """How the members stand, whose turn was last, and where a study is."""
    last = tx.execute("SELECT last FROM group_turns WHERE name = ?", (group.name,)).fetchone()
    members = {name: _member(tx, name) for name in group.names}
    return Situation(
        members, str(last[0]) if last else "", _homes(tx, group.name, study), _bound(tx, group.name, study)
    )


def _member(tx: Transaction, name: str) -> MemberState:
    word = queues.state_of(tx, name).word
    return MemberState("" if word == Mode.RUNNING else word.lower(), queues.waiting(tx, name))


def _homes(tx: Transaction, group: str, study: str) -> tuple[str, ...]:
    """First where some of it arrived, then where it is to go; the latest first."""
    if not study:
        return ()
    rows = tx.execute(
        f"SELECT lane, max(state = 'DELIVERED' OR {_SENT}) AS arrived, max(id) AS latest FROM deliveries"
        f" WHERE grp = ? AND grp <> '' AND study = ? AND (state IN ('WAITING', 'OPEN', 'DELIVERED') OR {_SENT})"
        " GROUP BY lane ORDER BY arrived DESC, latest DESC",
        (group, study),
    )
    return tuple(str(row[0]) for row in rows)


def _bound(tx: Transaction, group: str, study: str) -> str:
    """Where a part of a study is, or is being sent, whose rest is still to go there; empty if nowhere."""
    row = tx.execute(
        f"SELECT lane FROM deliveries WHERE grp = ? AND grp <> '' AND study = ? AND study <> '' AND state = 'OPEN'"
        f" AND ({_SENT} OR {_UNDER_WAY}) LIMIT 1",
        (group, study),
    ).fetchone()
    return str(row[0]) if row else ""


def has_arrived(tx: Transaction, group: str, study: str, member: str) -> bool:
    """True if anything of a study has arrived at a member."""
    rows = tx.execute(
        "SELECT 1 FROM deliveries WHERE grp = ? AND grp <> '' AND study = ? AND study <> '' AND lane = ?"
        f" AND (state = 'DELIVERED' OR {_SENT}) LIMIT 1",
        (group, study, member),
    )
    return rows.fetchone() is not None


def took_turn(tx: Transaction, group: str, member: str) -> None:
    """Remember whose turn it was."""
    tx.execute("INSERT OR REPLACE INTO group_turns VALUES (?, ?)", (group, member))


def group_of(tx: Transaction, delivery: int) -> tuple[str, str]:
    """The group that a delivery is for, and its study; both empty if it is for none."""
    row = tx.execute("SELECT grp, study FROM deliveries WHERE id = ?", (delivery,)).fetchone()
    return str(row[0]), str(row[1])


def movable(tx: Transaction, group: Group) -> list[Delivery]:
    """The deliveries for a group that would rather be at another member, and of which nothing has arrived anywhere."""
    found = _of_group(tx, group.name, "tries > 0", ())
    for name in group.names:
        state = queues.state_of(tx, name)
        if state.word == Mode.RUNNING:
            continue
        later = ("opened > ?", (to_text(state.since),)) if state.opened_until and state.since else ("1", ())
        found += _of_group(tx, group.name, f"tries = 0 AND lane = ? AND {later[0]}", (name, *later[1]))
    return found


def is_movable(tx: Transaction, delivery: Delivery) -> bool:
    """True while it is open where it was, nothing of it has arrived, and no attempt is under way."""
    where = f"{RUNNABLE} AND id = ? AND lane = ? AND {_UNTOUCHED}"
    return bool(deliveries.select(tx, where, (delivery.id, lane_of(delivery.destination))))


def _of_group(tx: Transaction, group: str, where: str, values: tuple[object, ...]) -> list[Delivery]:
    return deliveries.select(
        tx, f"{RUNNABLE} AND grp = ? AND grp <> '' AND {where} AND {_UNTOUCHED} ORDER BY id", (group, *values)
    )


def companions(tx: Transaction, delivery: Delivery) -> list[Delivery]:
    """The other deliveries of its study for its group that stand where it does and of which nothing has arrived."""
    group, study = group_of(tx, delivery.id)
    where = f"state IN ('OPEN', 'WAITING') AND lane = ? AND id <> ? AND {_UNTOUCHED}"
    return deliveries.select(
        tx,
        f"FROM deliveries WHERE grp = ? AND grp <> '' AND study = ? AND study <> '' AND {where} ORDER BY id",
        (group, study, lane_of(delivery.destination), delivery.id),
    )


def tried(tx: Transaction, delivery: Delivery) -> frozenset[str]:
    """The members that a delivery was tried at since it was opened."""
    since = to_text(delivery.opened) if delivery.opened else ""
    rows = tx.execute(
        "SELECT DISTINCT lane FROM delivery_attempts WHERE delivery = ? AND began >= ?", (delivery.id, since)
    )
    return frozenset(str(row[0]) for row in rows)


def move(tx: Transaction, delivery: Delivery, to: Destination, tries: int, reason: str) -> Delivery:
    """Let a delivery go to another destination, at once."""
    tx.execute(
        "UPDATE deliveries SET lane = ?, destination = ?, host = ?, port = ?, calling_ae = ?, called_ae = ?,"
        " next_try = CASE state WHEN 'OPEN' THEN ? END, tries = ?, reason = ? WHERE id = ?",
        (lane_of(to), *to_row(to), to_text(now()), tries, reason, delivery.id),
    )
    return deliveries.get(tx, delivery.id)
