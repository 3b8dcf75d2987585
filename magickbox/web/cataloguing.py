"""Keeps the catalogue up to date: a thread of low priority that follows the ledger's history."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from magickbox.errors import MagickboxError
from magickbox.job import HAS_FOLDER, JobState
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Reads, jobs
from magickbox.logs import Note, Seldom, silent
from magickbox.web.catalogue import Catalogue, beginnings, read_study

PAUSE = 1.0
_NICE = 15
_AT_ONCE = 200


class Cataloguing:
    """Looks at what is new once a second, at what there was before the start in between, newest first."""

    def __init__(
        self, catalogue: Catalogue, ledger: Reads, folder_of: Callable[[str], Path], note: Note = silent
    ) -> None:
        self._catalogue, self._ledger, self._folder_of = catalogue, ledger, folder_of
        self._seldom = Seldom(note)
        self._stopping = threading.Event()
        self._seen = -1  # number of the last line of the history that was looked at
        self._old: list[str] = []  # jobs still to be looked at, the newest last
        self._thread = threading.Thread(target=self._run, name="catalogue", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the job in hand."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)  # on Linux this is the thread alone
        while not self._stopping.is_set():
            try:
                busy = self.look()
            except Exception as exc:  # noqa: BLE001  # worker boundary: there is another round
                busy = False
                why = exc if isinstance(exc, MagickboxError) else repr(exc)
                self._seldom.note("", "warning", "catalogue-waits", {"reason": why})
            self._stopping.wait(0.0 if busy else PAUSE)

    def look(self) -> bool:
        """Look at what is new and at some of what waits; True if more waits. Raises MagickboxError."""
        if self._seen < 0:
            self._begin()
        self._follow()
        for _ in range(_AT_ONCE):
            if not self._old or self._stopping.is_set():
                break
            began = time.monotonic()
            self._read(self._old[-1])
            self._old.pop()
            self._stopping.wait(time.monotonic() - began)  # half of one core at most
        return bool(self._old)

    def _begin(self) -> None:
        """Compare all rows with the ledger, once."""
        with self._ledger.reading() as tx:
            last = tx.execute("SELECT coalesce(max(id), 0) FROM history").fetchone()[0]
            states = ", ".join(f"'{state}'" for state in sorted(HAS_FOLDER))
            query = f"SELECT id FROM jobs INDEXED BY jobs_newest WHERE state IN ({states}) ORDER BY born"  # noqa: S608
            there = [str(row[0]) for row in tx.execute(query)]
        known = self._catalogue.known()
        self._catalogue.forget(known - set(there))
        self._old = [job for job in there if job not in known]
        self._seen = int(last)

    def _follow(self) -> None:
        """What has happened since the last look: births are read, the deleted are forgotten."""
        with self._ledger.reading() as tx:
            rows = tx.execute(
                "SELECT id, job, was, became FROM history WHERE id > ? ORDER BY id LIMIT 10000", (self._seen,)
            ).fetchall()
        born = [str(row[1]) for row in rows if row[2] is None]
        self._catalogue.forget(str(row[1]) for row in rows if row[3] == JobState.DELETED)
        self._old += born
        self._seen = int(rows[-1][0]) if rows else self._seen

    def _read(self, job: str) -> None:
        with self._ledger.reading() as tx:
            found = beginnings(tx, job)
        self._catalogue.keep(job, read_study(found, JobFolder(self._folder_of(job)).input))
        with self._ledger.reading() as tx:
            row = jobs.find(tx, job)
        if row is None or row.state not in HAS_FOLDER:
            self._catalogue.forget([job])  # it went while it was read
