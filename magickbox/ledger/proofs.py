"""The statements about proofs: what was asked of a destination about a delivery, and what it answered."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from magickbox.association import same_title
from magickbox.clock import from_text, now, to_text
from magickbox.delivery import DeliveryItem, ItemState
from magickbox.ledger.store import Transaction
from magickbox.proof import How, Proof, ProofState

_COLUMNS = "uid, delivery, how, peer, asked, answered, state, reason"


def ask(tx: Transaction, uid: str, delivery: int, how: How, peer: str, own: str) -> None:
    """Record a question before it is asked; ``own`` is the AE title under which the box asks ``peer``."""
    tx.execute(
        "INSERT INTO proofs (uid, delivery, how, peer, own, asked, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (uid, delivery, how, peer, own, to_text(now()), ProofState.ASKING),
    )


def _to_proof(row: Sequence[object]) -> Proof:
    uid, delivery, how, peer, asked, answered, state, reason = row
    return Proof(
        str(uid), int(str(delivery)), How(str(how)), str(peer), from_text(str(asked)),
        from_text(str(answered)) if answered else None, ProofState(str(state)), str(reason),
    )  # fmt: skip


def find(tx: Transaction, uid: str) -> Proof | None:
    """The question of that Transaction UID."""
    row = tx.execute(f"SELECT {_COLUMNS} FROM proofs WHERE uid = ?", (uid,)).fetchone()
    return _to_proof(row) if row else None


def of_delivery(tx: Transaction, delivery: int, since: datetime | None = None) -> list[Proof]:
    """The questions about a delivery since then, first to last."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM proofs WHERE delivery = ? AND asked >= ? ORDER BY asked",
        (delivery, to_text(since) if since else ""),
    )
    return [_to_proof(row) for row in rows]


def accepted(tx: Transaction, uid: str) -> None:
    """The destination will answer; nothing changes if it has already."""
    _move(tx, uid, ProofState.ASKED, "", (ProofState.ASKING,))


def give_up(tx: Transaction, uid: str, state: ProofState, reason: str) -> None:
    """Wait for an answer no longer, BROKEN or UNANSWERED; nothing changes if it has come."""
    _move(tx, uid, state, reason, (ProofState.ASKING, ProofState.ASKED))


def ask_anew(tx: Transaction, delivery: int, reason: str) -> None:
    """Wait no longer for any answer about a delivery; that counts as no question in vain."""
    for each in of_delivery(tx, delivery):
        give_up(tx, each.uid, ProofState.BROKEN, reason)


def _move(tx: Transaction, uid: str, state: ProofState, reason: str, before: Sequence[ProofState]) -> None:
    marks = ", ".join("?" * len(before))
    tx.execute(
        f"UPDATE proofs SET state = ?, reason = ? WHERE uid = ? AND state IN ({marks})", (state, reason, uid, *before)
    )


def answered(tx: Transaction, uid: str, state: ProofState, reason: str) -> None:
    """Record the answer."""
    tx.execute(
        "UPDATE proofs SET state = ?, reason = ?, answered = ? WHERE uid = ?", (state, reason, to_text(now()), uid)
    )


def send_again(tx: Transaction, delivery: int, missing: Mapping[str, str], what: str) -> None:
    """Instances that a destination does not have are sent again; ``missing`` says why, ``what`` what is not so."""
    tx.executemany(
        "UPDATE delivery_instances SET state = ?, status = NULL, reason = ?"
        " WHERE delivery = ? AND sop_instance = ? AND state = ?",
        [
            (ItemState.PENDING, f"{what}: {why}", delivery, uid, ItemState.SENT)
            for uid, why in missing.items()
        ],
    )  # fmt: skip


def sent_uids(items: Sequence[DeliveryItem]) -> list[str]:
    """The SOP Instance UIDs of what the destination said that it took."""
    return [item.sop_instance for item in items if item.state is ItemState.SENT]


def awaited_by(tx: Transaction, title: str) -> bool:
    """True if an answer may come to that AE title."""
    rows = tx.execute("SELECT DISTINCT own FROM proofs WHERE answered IS NULL")
    return any(same_title(str(row[0]), title) for row in rows)
