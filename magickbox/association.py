"""Who talks to the box: an Association, how it ended, and the rules for AE titles (PS3.8 9.3.2, PS3.5 6.2 VR AE)."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

MAX_TITLE = 16


class End(StrEnum):
    """How an Association ended; everything but ``RELEASED`` may mean that the sender will try again."""

    RELEASED = "released"
    ABORTED = "aborted"
    CLOSED = "closed"
    TIMEOUT = "timeout"
    STOPPED = "stopped"

    @property
    def is_abort(self) -> bool:
        """True if the sender did not say goodbye, so that a second try is likely."""
        return self is not End.RELEASED


@dataclass(frozen=True)
class Association:
    """One association with a peer, as the box tells of it.

    ``id`` is made by the box and safe as a folder name; ``parent`` is the job whose delivery opened this association,
    when the box talks to itself.
    """

    id: str
    calling_ae: str
    called_ae: str
    peer: str
    began: datetime
    parent: str | None = None
    ended: datetime | None = None
    how: End | None = None


def title_from_wire(raw: bytes | bytearray) -> str:
    """Read an AE title as a peer sent it: 16 bytes, often padded, not always ASCII.

    Leading and trailing blanks (and the NULs that some devices pad with) are not significant. Bytes outside ASCII
    are read as UTF-8, else Latin-1; control characters become ``?``, so that a title can be shown and logged.
    """
    trimmed = bytes(raw).strip(b"\0 ")
    try:
        text = trimmed.decode("utf-8")
    except UnicodeDecodeError:
        text = trimmed.decode("latin-1")
    return "".join("?" if unicodedata.category(c).startswith("C") else c for c in text).strip()


def title_problem(title: str) -> str | None:
    """Say what is wrong with an AE title that the box itself is to use, or None if nothing is."""
    if not title.strip():
        return "an AE title must not be empty"
    if len(title.strip()) > MAX_TITLE:
        return f"an AE title has at most {MAX_TITLE} characters, this one has {len(title.strip())}"
    if not title.isascii() or "\\" in title or any(unicodedata.category(c).startswith("C") for c in title):
        return "an AE title has only ASCII characters, no backslash and no control characters"
    return None


def sendable_title(title: str, instead: str = "MAGICKBOX") -> str:
    """A peer's AE title as the box may send it: what PS3.5 6.2 does not allow becomes ``?``; ``instead`` of none."""
    allowed = "".join(c if c.isascii() and c.isprintable() and c != "\\" else "?" for c in title.strip())
    return allowed[:MAX_TITLE].strip() or instead


def same_title(one: str, other: str) -> bool:
    """Compare two AE titles as the box does everywhere: blanks trimmed, case ignored."""
    return one.strip().casefold() == other.strip().casefold()
