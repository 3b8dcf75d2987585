"""The durable state of jobs, instances and deliveries: SQLite in WAL mode, written by the box's one coordinator.

``store`` opens it and gives transactions; ``jobs`` and ``deliveries`` are the statements, each a function over a
transaction, so that a stage can put several into one.
"""

from magickbox.ledger.store import Ledger, Reads, Transaction

__all__ = ["Ledger", "Reads", "Transaction"]
