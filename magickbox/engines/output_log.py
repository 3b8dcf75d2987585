"""The live log of a run: what a processor prints, bounded, and its last line for a message."""

import contextlib
import os
import re
import time
import unicodedata
from pathlib import Path

from magickbox import progress

TAIL = 8 * 1024  # bytes of the end that are kept beyond the limit: that is where a traceback is
LONGEST_LINE = 300
BURST, A_SECOND = 120, 2.0  # so often how far a run is may be written down at once, and then in each second
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours and cursor moves of a terminal


class OutputLog:
    """Appends what a processor prints to a file, as it comes.

    The beginning up to ``limit`` bytes is kept, and the end; a line between the two says how much is missing. A disk
    that is full loses log lines and nothing else: a log is never a reason to stop a run.
    """

    def __init__(self, path: Path, limit: int) -> None:
        """Open (or make) the file; if that cannot be had, the run goes on without a log."""
        self._fd: int | None = None
        with contextlib.suppress(OSError):
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._room = max(0, limit - TAIL)
        self._dropped = 0
        self._tail = b""
        self._line_ended = True
        self._progress, self._told, self._budget = path.with_name(progress.FILE), "", float(BURST)
        self._told_at = time.monotonic()

    def write(self, chunk: bytes) -> None:
        """Take what was printed; never blocks on a limit and never fails."""
        self.remember(chunk)
        kept = self._append(chunk[: self._room])
        self._room -= kept
        self._dropped += len(chunk) - kept

    def say(self, text: str) -> None:
        """Add a line of the box's own; it does not count as the processor's last line."""
        self._append(f"{'' if self._line_ended else chr(10)}[magickbox: {text}]\n".encode())

    def remember(self, chunk: bytes) -> None:
        """Take for the last lines what the file has already."""
        text = chunk.rstrip(b"\r\n")  # a flood of empty lines must not push the last words out
        self._tail = (self._tail + text + chunk[len(text) : len(text) + 1])[-TAIL:]
        share = progress.in_output(self._tail[-len(chunk) - progress.OVERLAP :])
        if share is not None and progress.shown(share) != self._told:
            self._keep_progress(share)

    def _keep_progress(self, share: float) -> None:
        """Write down how far the run says it is, not more often than a person can follow for long.

        A flood that only goes forward is never too much, so its end counts, whatever silence comes after it.
        """
        moment = time.monotonic()
        self._budget = min(float(BURST), self._budget + (moment - self._told_at) * A_SECOND)
        self._told_at = moment
        if self._budget >= 1:
            self._budget -= 1
            self._told = progress.shown(share)
            progress.write(self._progress, share)

    def left_out(self, count: int, end: bytes) -> None:
        """Count bytes that were printed and not kept before they came here; ``end`` is the last of them."""
        if count:
            self.remember(end)
            self._dropped += count

    def close(self) -> None:
        """Say what was dropped, add the end of it, and close."""
        if self._dropped:
            end = self._tail[-self._dropped :]
            self.say(f"the log is full; of {self._dropped} bytes more only the last {len(end)} follow")
            self._append(end)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        with contextlib.suppress(OSError):
            self._progress.unlink(missing_ok=True)

    @property
    def last_line(self) -> str:
        """The last line that says something, printable, at most 300 characters."""
        lines = re.split(r"[\r\n]+", ESCAPE.sub("", self._tail.decode("utf-8", "replace")))
        return next((line for line in map(_printable, reversed(lines)) if line), "")

    def _append(self, chunk: bytes) -> int:
        written = 0
        with contextlib.suppress(OSError):
            while self._fd is not None and written < len(chunk):
                written += os.write(self._fd, chunk[written:])
        if written:
            self._line_ended = chunk[written - 1 : written] == b"\n"
        return written


def _printable(line: str) -> str:
    shown = "".join(" " if unicodedata.category(c).startswith("C") else c for c in line)
    return " ".join(shown.split())[:LONGEST_LINE]
