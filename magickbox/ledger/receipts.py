"""The statements about receipts: which are to be written, and what is in them."""

from typing import Any

from magickbox.clock import now, to_text
from magickbox.delivery import Delivery, DeliveryItem
from magickbox.job import JobState
from magickbox.ledger import deliveries, jobs, proofs
from magickbox.ledger.store import Transaction
from magickbox.proof import Proof

_OVER = (JobState.DONE, JobState.ATTENTION)


def ask(tx: Transaction, job: str) -> None:
    """Ask for a job's receipt: its deliveries are over."""
    tx.execute("INSERT OR REPLACE INTO receipts (job, asked) VALUES (?, ?)", (job, to_text(now())))


def wanted(tx: Transaction) -> list[str]:
    """The jobs whose receipts are to be written."""
    return [str(row[0]) for row in tx.execute("SELECT job FROM receipts WHERE written IS NULL ORDER BY job")]


def written(tx: Transaction, job: str, checksum: str) -> None:
    """Record that a receipt is durable."""
    tx.execute("UPDATE receipts SET written = ?, checksum = ? WHERE job = ?", (to_text(now()), checksum, job))


def drop(tx: Transaction, job: str) -> None:
    """Want a receipt no more: the job goes on, or is gone."""
    tx.execute("DELETE FROM receipts WHERE job = ? AND written IS NULL", (job,))


def content(tx: Transaction, job: str) -> dict[str, Any] | None:
    """What delivery.json says (contracts, section 6); None while the job's deliveries are not over."""
    found = jobs.get(tx, job)
    if found.state not in _OVER:
        return None
    return {
        "job": job,
        "state": found.state,
        "ended": to_text(found.since),
        "deliveries": [_delivery(tx, each) for each in deliveries.listing(tx, job)],
    }


def _delivery(tx: Transaction, delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "rule": delivery.rule,
        "entry": delivery.entry + 1,
        "destination": str(delivery.destination),
        "state": delivery.state,
        "reason": delivery.reason,
        "ended": to_text(delivery.ended) if delivery.ended else None,
        "attempts": [
            {
                "began": to_text(each.began),
                "ended": to_text(each.ended) if each.ended else None,
                "sent": each.sent,
                "refused": each.refused,
                "result": each.result,
            }
            for each in deliveries.attempts(tx, delivery.id)
        ],
        "proofs": [_proof(each) for each in proofs.of_delivery(tx, delivery.id)],
        "instances": [_instance(each) for each in deliveries.instances_of(tx, delivery.id)],
    }


def _proof(proof: Proof) -> dict[str, Any]:
    """How the destination was asked whether it has everything, and what came of it."""
    return {
        "how": proof.how,
        "transaction": proof.uid,
        "asked": to_text(proof.asked),
        "answered": to_text(proof.answered) if proof.answered else None,
        "state": proof.state,
        "reason": proof.reason,
    }


def _instance(item: DeliveryItem) -> dict[str, Any]:
    """One instance; not what the destination said of it in words, which may name a patient."""
    return {
        "sop_instance": item.sop_instance,
        "state": item.state,
        "status": None if item.status is None else f"0x{item.status:04X}",
        "at": to_text(item.at) if item.at else None,
    }
