"""Makes what was committed to the ledger durable a moment later: one fsync for the many commits of that moment.

SQLite with ``synchronous = NORMAL`` writes a commit to the write-ahead log without an fsync: a killed process loses
nothing, a power loss the end of the log. Whatever is fsynced takes along all that was written before it.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

MOMENT = 0.5  # seconds; with the fsync itself it stays below the second that the contracts promise


class Later:
    """Does something a moment after ``wake``; its thread lives only while there is something to do."""

    def __init__(self, work: Callable[[], None], moment: float) -> None:
        self._work, self._moment = work, moment
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wanted = self._closed = False

    def wake(self) -> None:
        """There is something to do; it is done a moment from now."""
        if self._wanted:
            return
        with self._changed:
            self._wanted = True
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Do what is not done yet, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._moment)
                if not self._wanted:
                    self._thread = None
                    return
                self._wanted = False
            self._work()


class Flusher(Later):
    """Fsyncs a write-ahead log a moment after something was committed."""

    def __init__(self, log: Path, moment: float = MOMENT) -> None:
        super().__init__(self._flush, moment)
        self._log = log
        self.works = True

    def _flush(self) -> None:
        """A failed fsync is never repeated: from then on each commit has its own, and says what is wrong."""
        try:
            fd = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:
            self.works = False
