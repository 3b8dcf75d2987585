"""From what was measured to the figures of the table: medians over the rounds, and ratios within a round."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from magickbox.bench.trial import Cell, Measured

MEGABYTE = 1e6


@dataclass(frozen=True)
class Figures:
    """What one trial came to: response times in milliseconds, CPU in seconds per 1,000 instances, memory in bytes."""

    instances: int
    rate: float
    megabytes: float
    median: float
    percentile_99: float
    cpu: float
    memory: float
    pdu: int


@dataclass(frozen=True)
class Trial:
    """One receiver in one cell in one round: its figures, or why there are none."""

    receiver: str
    cell: Cell
    round: int
    figures: Figures | None
    trouble: str | None = None


@dataclass(frozen=True)
class Row:
    """One receiver in one cell: medians over the rounds; ``ratios`` are the box's rate to this one's, per box."""

    cell: Cell
    receiver: str
    figures: Figures | None
    slowest: float
    fastest: float
    trouble: str | None


def figures_of(measured: Measured) -> Figures:
    """The figures of one trial."""
    sent, count = measured.sent, len(measured.sent.took)
    ordered = sorted(sent.took)
    return Figures(
        instances=count,
        rate=count / sent.seconds,
        megabytes=sent.bytes / MEGABYTE / sent.seconds,
        median=statistics.median(ordered) * 1000,
        percentile_99=ordered[min(count - 1, int(count * 0.99))] * 1000,
        cpu=measured.cpu / count * 1000,
        memory=measured.memory,
        pdu=sent.pdu,
    )


def rows_of(trials: Sequence[Trial]) -> list[Row]:
    """The rows of the table, in the order in which cells and receivers were first met."""
    groups: dict[tuple[Cell, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.cell, trial.receiver), []).append(trial)
    return [_row(cell, receiver, group) for (cell, receiver), group in groups.items()]


def _row(cell: Cell, receiver: str, group: Sequence[Trial]) -> Row:
    good = [trial.figures for trial in group if trial.figures]
    trouble = next((trial.trouble for trial in group if trial.trouble), None)
    if not good:
        return Row(cell, receiver, None, 0.0, 0.0, trouble)

    def middle(name: str) -> float:
        return float(statistics.median(getattr(each, name) for each in good))

    figures = Figures(
        round(middle("instances")),
        middle("rate"),
        middle("megabytes"),
        middle("median"),
        middle("percentile_99"),
        middle("cpu"),
        middle("memory"),
        round(middle("pdu")),
    )
    rates = [each.rate for each in good]
    return Row(cell, receiver, figures, min(rates), max(rates), trouble)


def ratio(trials: Sequence[Trial], cell: Cell, one: str, other: str) -> float | None:
    """How many times as fast as ``other`` is ``one``: the median of the rounds' ratios, None if there is none."""
    rates = {
        (trial.receiver, trial.round): trial.figures.rate for trial in trials if trial.cell == cell and trial.figures
    }
    rounds = sorted({number for _, number in rates})
    both = [rates[one, n] / rates[other, n] for n in rounds if (one, n) in rates and (other, n) in rates]
    return statistics.median(both) if both else None
