"""The statements about decisions as they were taken: by which rules, and why; without any tag's value."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from magickbox.clock import from_text
from magickbox.ledger.store import Transaction


@dataclass(frozen=True)
class Decided:
    """One decision about a job; ``why`` is as ``explanation.explain`` makes it without values."""

    n: int
    at: datetime
    rules: str
    why: dict[str, Any]


def of_job(tx: Transaction, job: str) -> list[Decided]:
    """The decisions about a job, first to last."""
    rows = tx.execute("SELECT n, at, rules, why FROM decisions WHERE job = ? ORDER BY n", (job,))
    return [Decided(int(row[0]), from_text(row[1]), str(row[2]), json.loads(row[3])) for row in rows]
