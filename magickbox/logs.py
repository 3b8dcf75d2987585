"""routing.log, receive.log and process.log: one line an event, ``key=value``, rotated, never a patient's data.

A line has time, level, event, then facts. Values with blanks, quotes or control characters are quoted as JSON has it,
so that a line stays a line whatever a peer calls itself.
"""

import json
import logging
import logging.handlers
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from magickbox.clock import now, to_text

Note = Callable[[str, str, Mapping[str, object]], None]
"""``note(level, event, facts)``: level is debug, info, warning or error."""

MAX_BYTES, KEPT = 10 * 1024 * 1024, 10
_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")


def fact(value: object) -> str:
    """A value as a line has it."""
    if value is None:
        return "-"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def line(level: str, event: str, facts: Mapping[str, object]) -> str:
    """One log line, without its end."""
    pairs = " ".join(f"{key}={fact(value)}" for key, value in facts.items())
    return f"{to_text(now())} {level.upper()} {event} {pairs}".rstrip()


class _Quiet(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Logs are never evidence: what cannot be written is let go."""


class LogFile:
    """One of the three logs; safe from any thread. A full disk loses lines, never work."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        self._handler = _Quiet(path, maxBytes=max_bytes, backupCount=kept, encoding="utf-8", errors="backslashreplace")

    def note(self, level: str, event: str, facts: Mapping[str, object]) -> None:
        """Write a line."""
        text = line(level, event, facts)
        self._handler.handle(logging.LogRecord("magickbox", logging.INFO, "", 0, text, None, None))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


def silent(_level: str, _event: str, _facts: Mapping[str, object]) -> None:
    """A note that goes nowhere."""


class Seldom:
    """Notes trouble that comes again and again: at most once a minute for each key, so that a log stays readable."""

    def __init__(self, note: Note, every: float = 60.0) -> None:
        self._note, self._every = note, every
        self._next: dict[str, float] = {}

    def note(self, key: str, level: str, event: str, facts: Mapping[str, object]) -> None:
        """Write the line, unless one for this key was written less than a minute ago."""
        moment = time.monotonic()
        if self._next.get(key, 0.0) <= moment:
            self._next = {k: at for k, at in self._next.items() if at > moment} | {key: moment + self._every}
            self._note(level, event, facts)
