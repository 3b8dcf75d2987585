"""What ``magickbox verify`` tells: one sentence a finding, for the person who looks after the box."""

from dataclasses import dataclass

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Finding:
    """A difference between folders and ledger.

    ``severity`` is ``error`` if data or what is known of it is missing or damaged, ``warning`` for what the next
    start mends and for what only lies in the way. ``where`` is a path below the data folder.
    """

    severity: str
    where: str
    what: str


def error(where: str, what: str) -> Finding:
    """Something is missing or damaged."""
    return Finding(ERROR, where, what)


def warning(where: str, what: str) -> Finding:
    """The next start mends it, or it only lies in the way."""
    return Finding(WARNING, where, what)
