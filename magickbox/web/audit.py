"""Who did what in the window, and when: kept for a year, never with a patient's data or a secret."""

import sqlite3
from dataclasses import dataclass
from datetime import timedelta

from magickbox.clock import now, to_text
from magickbox.web.store import Store

KEPT = timedelta(days=365)
_SWEPT_EVERY = 1000


@dataclass(frozen=True)
class Entry:
    """One thing that somebody did: ``action`` such as ``rerun``, ``subject`` such as a job's id."""

    id: int
    at: str
    who: str
    via: str
    address: str
    action: str
    subject: str
    result: str


class Audit:
    """Statements about the audit; safe from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, who: str, via: str, address: str, action: str, subject: str, result: str) -> None:
        """Write down what was done."""
        values = tuple(_plain(text) for text in (who, via, address, action, subject, result))
        with self._store.writing() as tx:
            row = tx.execute(
                "INSERT INTO audit (at, who, via, address, action, subject, result) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " RETURNING id",
                (to_text(now()), *values),
            ).fetchone()
            if row["id"] % _SWEPT_EVERY == 0:
                tx.execute("DELETE FROM audit WHERE at < ?", (to_text(now() - KEPT),))

    def listing(self, limit: int, before: int | None = None, who: str = "", action: str = "") -> list[Entry]:
        """The newest, or those before an entry; of one person or one action if these are given."""
        with self._store.reading() as tx:
            rows = tx.execute(
                "SELECT * FROM audit WHERE (? IS NULL OR id < ?) AND (? = '' OR who = ?) AND (? = '' OR action = ?)"
                " ORDER BY id DESC LIMIT ?",
                (before, before, who, who, action, action, limit),
            ).fetchall()
        return [_entry(row) for row in rows]


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(**{key: row[key] for key in row.keys()})  # noqa: SIM118  # a row iterates over its values


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:500]
