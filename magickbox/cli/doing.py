"""Has a command done by the box that runs on the data folder, or does it here when none runs."""

import getpass

from magickbox.control import MAX_SUBJECT, ask, clean
from magickbox.datafolder import DataFolder
from magickbox.errors import AlreadyRunning, NotFound
from magickbox.service import operations_without_box


def who() -> str:
    """The person at the command line, as the history names them."""
    try:
        return clean(getpass.getuser()) or "somebody"
    except (KeyError, OSError):
        return "somebody"


def do(data: DataFolder, verb: str, subject: str) -> str:
    """Do it and return the sentence that says what was done; raises MagickboxError."""
    if not data.ledger.exists():
        raise NotFound(f"{data.ledger}: no ledger there; has a box ever run on this data folder?")
    subject = clean(subject, MAX_SUBJECT)
    answer = ask(data.control, verb, subject, who()) if data.control.exists() else None
    if answer is not None:
        return str(answer["said"])
    try:
        with operations_without_box(data) as operations:
            return operations.do(verb, subject, who())
    except AlreadyRunning as exc:
        raise AlreadyRunning(f"{exc}; it does not answer on {data.control}") from exc
