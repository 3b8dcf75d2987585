"""What the window's process has to say about itself goes to ``logs/window.log``, one line an event."""

import logging
import traceback

from magickbox.logs import Note


class _Lines(logging.Handler):
    def __init__(self, note: Note) -> None:
        super().__init__(logging.WARNING)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line; of an exception the places in our own code, and never its values."""
        facts: dict[str, object] = {"from": record.name, "reason": record.getMessage()[:500]}
        if record.exc_info and (exc := record.exc_info[1]) is not None:
            facts["reason"] = type(exc).__name__
            frames = traceback.extract_tb(exc.__traceback__)[-6:]
            facts["at"] = ", ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
        self._note("error" if record.levelno >= logging.ERROR else "warning", "window", facts)


def install(note: Note) -> None:
    """Take what libraries log in this process."""
    logging.getLogger().handlers = [_Lines(note)]
    logging.getLogger().setLevel(logging.WARNING)
