"""The statements about how long processors take, and how they ended lately."""

import statistics
from dataclasses import dataclass
from datetime import datetime

from magickbox.clock import from_text
from magickbox.ledger.store import Transaction

RECENT = 200
_FAILURES = 5
_WELL = frozenset({"success", "interrupted"})


@dataclass(frozen=True)
class RunLine:
    """One run of a processor, as a list of them shows it."""

    job: str
    n: int
    version: str
    began: datetime
    seconds: float | None
    outcome: str | None
    message: str


@dataclass(frozen=True)
class RunTimes:
    """What the recent runs of a processor came to; times in seconds, of runs that had an outcome.

    ``spread`` is the standard deviation; None where there are fewer than two. ``failures`` are the last ones.
    """

    processor: str
    runs: int
    mean: float | None
    spread: float | None
    longest: float | None
    failed: int
    last: RunLine | None
    failures: tuple[RunLine, ...]


def processors_that_ran(tx: Transaction) -> list[str]:
    """The names under which runs are on record, sorted; looks at one run of each."""
    rows = tx.execute(
        "WITH RECURSIVE each(name) AS (SELECT min(processor) FROM attempts UNION ALL"
        " SELECT (SELECT min(processor) FROM attempts WHERE processor > each.name) FROM each WHERE name IS NOT NULL)"
        " SELECT name FROM each WHERE name IS NOT NULL"
    )
    return [str(row[0]) for row in rows]


def run_times(tx: Transaction, processor: str, recent: int = RECENT) -> RunTimes:
    """What the last ``recent`` runs of a processor came to."""
    runs = recent_runs(tx, processor, recent)
    times = [run.seconds for run in runs if run.seconds is not None and run.outcome != "interrupted"]
    failures = tuple(run for run in runs if run.outcome is not None and run.outcome.casefold() not in _WELL)
    return RunTimes(
        processor,
        len(runs),
        statistics.fmean(times) if times else None,
        statistics.stdev(times) if len(times) > 1 else None,
        max(times, default=None),
        len(failures),
        runs[0] if runs else None,
        failures[:_FAILURES],
    )


def recent_runs(tx: Transaction, processor: str, limit: int) -> list[RunLine]:
    """The last runs of a processor, newest first."""
    rows = tx.execute(
        "SELECT job, n, version, began, ended, outcome, message FROM attempts WHERE processor = ?"
        " ORDER BY began DESC LIMIT ?",
        (processor, limit),
    )
    return [_line(row) for row in rows]


def _line(row: tuple[object, ...]) -> RunLine:
    job, n, version, began, ended, outcome, message = row
    start = from_text(str(began))
    took = (from_text(str(ended)) - start).total_seconds() if ended else None
    said = None if outcome is None else str(outcome)
    return RunLine(str(job), int(str(n)), str(version), start, took, said, str(message))
