"""The log of a run that is told again from its beginning: what the file has already is not repeated."""

import os
from contextlib import suppress
from pathlib import Path

from magickbox.engines.output_log import OutputLog

GAP = "the box was restarted; the engine tells the log differently from here on"


class ContinuedLog(OutputLog):
    """Compares what comes with what the file has, and appends from where that ends or differs."""

    def __init__(self, path: Path, limit: int, begins: int = 0) -> None:
        """Open the file; what is in it from byte ``begins`` on is this log's, and counts towards ``limit``."""
        self._before, self._unseen = -1, 0
        with suppress(OSError):
            self._before = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            size = os.fstat(self._before).st_size
            self._unseen = size - os.lseek(self._before, min(begins, size), os.SEEK_SET)
        super().__init__(path, limit)
        self._room = max(0, self._room - self._unseen)
        if self._unseen:
            self._line_ended = os.pread(self._before, 1, size - 1) == b"\n"

    def write(self, chunk: bytes) -> None:
        """Take what was printed, from its beginning; never fails."""
        known = self._known(chunk)
        self.remember(chunk[:known])
        if chunk[known:]:
            super().write(chunk[known:])

    def close(self) -> None:
        """See ``OutputLog.close``."""
        super().close()
        if self._before >= 0:
            os.close(self._before)
            self._before = -1

    def _known(self, chunk: bytes) -> int:
        """How much of the chunk the file has."""
        if self._unseen == 0:
            return 0
        there = b""
        with suppress(OSError):
            there = os.read(self._before, min(len(chunk), self._unseen))
        known = _same(there, chunk)
        self._unseen -= known
        if known < min(len(chunk), self._unseen + known):
            self._unseen = 0
            self.say(GAP)
        return known


def _same(one: bytes, other: bytes) -> int:
    """How many bytes at the beginning of both are the same."""
    if other.startswith(one):
        return len(one)
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
