"""Writes delivery.json when a job's deliveries are over: what went where, when, and what the destination answered."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from magickbox.jobfolder import JobFolder
from magickbox.ledger import Ledger, receipts
from magickbox.logs import Note, Seldom


class Receipts:
    """Writes what is wanted; what cannot be written now is written at a later look."""

    def __init__(self, ledger: Ledger, folder_of: Callable[[str], Path], note: Note) -> None:
        self._ledger, self._folder_of, self._seldom = ledger, folder_of, Seldom(note)

    def write_all(self) -> None:
        """Write every receipt that is wanted; raises DiskFull."""
        with self._ledger.reading() as tx:
            wanted = receipts.wanted(tx)
        for job in wanted:
            try:
                self._write(job)
            except OSError as exc:
                self._seldom.note(job, "warning", "receipt-waits", {"job": job, "reason": exc.strerror or exc})

    def _write(self, job: str) -> None:
        with self._ledger.reading() as tx:
            content = receipts.content(tx, job)
        folder = JobFolder(self._folder_of(job))
        if content is None or not folder.path.is_dir():
            with self._ledger.transaction() as tx:
                if content is None and receipts.content(tx, job) is not None:
                    return  # over again just now: the next look writes it
                receipts.drop(tx, job)
            return
        text = folder.write_delivery(content)
        with self._ledger.transaction() as tx:
            if receipts.content(tx, job) == content:
                receipts.written(tx, job, hashlib.sha256(text).hexdigest())
