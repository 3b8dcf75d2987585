"""Whether a run that failed is made again, and what the ledger is told then."""

from dataclasses import dataclass, replace

from magickbox.engine import Ended
from magickbox.ledger import Ledger, jobs, waiting
from magickbox.processor import FAILED, Outcome
from magickbox.retry import Retry


@dataclass(frozen=True)
class Again:
    """Another try: why, by the word of the processor and in a sentence; ``pause`` seconds later."""

    cause: str
    message: str
    why: str
    pause: float


def again(ledger: Ledger, job: str, retry: Retry | None, ended: Ended, outcome: Outcome) -> Again | None:
    """The next try of a run that failed in a way that its processor calls passing; None if there is none."""
    if retry is None or outcome.success != FAILED:
        return None
    cause, number = retry.cause(ended.limit, ended.exit_code), _number(ledger, job)
    if cause is None or number > retry.times:
        return None
    why = f"{outcome.message}; try {number + 1} of {retry.times + 1} after {retry.pause:g} s"
    return Again(cause, outcome.message, why, retry.pause)


def write(ledger: Ledger, job: str, n: int, exit_code: int | None, another: Again) -> None:
    """Write down that attempt ``n`` has failed and the job is READY for another one."""
    with ledger.transaction() as tx:
        jobs.end_attempt(tx, job, n, exit_code, FAILED, another.message)
        waiting.try_again(tx, job, another.why, another.pause)


def after_all(ledger: Ledger, job: str, retry: Retry | None, outcome: Outcome) -> Outcome:
    """The outcome, with how many tries there were, if it is still a failure."""
    if retry is None or outcome.success != FAILED:
        return outcome
    number = _number(ledger, job)
    return replace(outcome, message=f"{outcome.message} (after {number} attempts)") if number > 1 else outcome


def _number(ledger: Ledger, job: str) -> int:
    """Which try the present run is, from 1; what was interrupted does not count."""
    with ledger.reading() as tx:
        return waiting.failures(tx, job) + 1
