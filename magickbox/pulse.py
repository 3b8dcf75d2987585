"""Whether the box is alive: each stage's thread runs, and the ledger answers."""

import threading

from magickbox.ledger import Ledger

STAGES = frozenset({"port", "receive", "process", "route", "deliver", "housekeeping", "control", "rule-keeper"})
"""The threads without which a box is none. The window and the hooks are not among them: the box goes on without."""


class Pulse:
    """Looks when it is asked; made when the box has started."""

    def __init__(self, ledger: Ledger, needed: frozenset[str] = STAGES) -> None:
        self._ledger, self._needed = ledger, needed

    def trouble(self) -> str | None:
        """What is dead, in words, or None. Waits for the ledger as long as it takes; raises LedgerError."""
        alive = {thread.name for thread in threading.enumerate() if thread.is_alive()}
        if dead := sorted(self._needed - alive):
            return f"the thread {', '.join(dead)} has ended"
        with self._ledger.reading() as tx:
            tx.execute("SELECT 1 FROM jobs LIMIT 1").fetchone()
        return None
