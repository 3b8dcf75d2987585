"""What ``magickbox bench send`` found, as tables and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from magickbox.bench.figures import MEGABYTE
from magickbox.bench.objects import Kind
from magickbox.bench.report import markdown_table, two_digits
from magickbox.bench.send import Row, Trial, ratio, rows_of
from magickbox.bench.senders import Sender

HEAD = ("OBJECT", "SENDER", "INST/S", "MB/S", "SLOWEST", "FASTEST", "WHOLE S", "CPU S/1000", "PEAK MB")


@dataclass(frozen=True)
class SendReport:
    """Everything that one run found."""

    about: Mapping[str, str]
    senders: Sequence[Sender]
    trials: Sequence[Trial]
    rounds: int

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows of the table."""
        return [_words(row) for row in rows_of(self.trials)]

    @property
    def present(self) -> list[str]:
        """The names of the senders that were measured."""
        return [each.name for each in self.senders if each.missing is None]

    @property
    def boxes(self) -> list[str]:
        """The box's own senders; ratios are theirs to the others."""
        return [name for name in self.present if name.startswith("box")]

    @property
    def kinds(self) -> list[Kind]:
        """What was sent, in order."""
        return list(dict.fromkeys(trial.kind for trial in self.trials))

    def ratio_head(self, box: str) -> tuple[str, ...]:
        """The head of the table of ratios."""
        return ("OBJECT", *(f"{box}/{other}" for other in self.present if other != box))

    def ratio_rows(self, box: str) -> list[tuple[str, ...]]:
        """For each kind of object how many times as fast as each other sender it is."""
        others = [name for name in self.present if name != box]
        return [
            (kind.name, *(two_digits(ratio(self.trials, kind, box, other)) for other in others)) for kind in self.kinds
        ]


def _words(row: Row) -> tuple[str, ...]:
    return (
        row.kind.name,
        row.sender,
        f"{row.rate:.0f}",
        f"{row.rate * row.kind.bytes / MEGABYTE:.0f}",
        f"{row.slowest:.0f}",
        f"{row.fastest:.0f}",
        f"{row.whole:.2f}",
        f"{row.cpu:.2f}",
        f"{row.memory / MEGABYTE:.0f}",
    )


def as_json(report: SendReport) -> dict[str, Any]:
    """Everything, every trial with all its figures."""
    return {
        "about": dict(report.about),
        "senders": {each.name: each.missing or each.words for each in report.senders},
        "rounds": report.rounds,
        "rows": [{**asdict(row), "kind": row.kind.name} for row in rows_of(report.trials)],
        "ratios": [
            {"object": kind.name, "box": box, "to": other, "ratio": ratio(report.trials, kind, box, other)}
            for box in report.boxes
            for kind in report.kinds
            for other in report.present
            if other != box
        ],
        "trials": [{**asdict(trial), "kind": trial.kind.name, "rate": trial.rate} for trial in report.trials],
    }


def markdown(report: SendReport) -> str:
    """The report as a page."""
    lines = [", ".join(f"{name}: {text}" for name, text in report.about.items()) + ".", ""]
    for box in report.boxes:
        lines += [f"How many times as fast as the others `{box}` is (median of {report.rounds} rounds):", ""]
        lines += [*markdown_table(report.ratio_head(box), report.ratio_rows(box), 1), ""]
    lines += [f"All figures, medians of {report.rounds} rounds:", ""]
    lines += [*markdown_table(HEAD, report.rows, 2), ""]
    lines += [f"- Left out: {each.name}: {each.missing}" for each in report.senders if each.missing]
    return "\n".join(lines).rstrip() + "\n"
