"""The results for people and programs: tables as text and as Markdown, everything as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from magickbox.bench.figures import MEGABYTE, Row, Trial, ratio, rows_of
from magickbox.bench.linear import Growth
from magickbox.bench.receivers import Receiver
from magickbox.bench.trial import Cell

HEAD = ("OBJECT", "ASSOC", "PDU", "FSYNC", "RECEIVER", "INST/S", "MB/S", "MEDIAN MS", "P99 MS", "CPU S/1000", "PEAK MB")


@dataclass(frozen=True)
class Report:
    """Everything that one run found."""

    about: Mapping[str, str]
    receivers: Sequence[Receiver]
    trials: Sequence[Trial]
    rounds: int
    growth: Growth | None = None

    @property
    def rows(self) -> list[Row]:
        """The rows of the table."""
        return rows_of(self.trials)

    @property
    def boxes(self) -> list[str]:
        """The names of the boxes among the receivers; ratios are theirs to the others."""
        return [each.name for each in self.receivers if each.name.split(" ")[0] == "box" and each.missing is None]

    @property
    def present(self) -> list[str]:
        """The names of the receivers that were measured."""
        return [each.name for each in self.receivers if each.missing is None]

    @property
    def missing(self) -> list[str]:
        """Who was left out, and why."""
        return [f"{each.name}: {each.missing}" for each in self.receivers if each.missing]

    @property
    def cells(self) -> list[Cell]:
        """What was measured, in order."""
        return list(dict.fromkeys(trial.cell for trial in self.trials))


def pdu_words(size: int) -> str:
    """A PDU size for people."""
    return f"{size // 1024} KB" if size % 1024 == 0 else str(size)


def cell_words(cell: Cell) -> tuple[str, str, str, str]:
    """A cell as the first columns of every table."""
    return cell.kind.name, str(cell.associations), pdu_words(cell.pdu), "on" if cell.fsync else "off"


def row_words(row: Row) -> tuple[str, ...]:
    """A row of the large table; what failed says so where its figures would stand."""
    name, associations, pdu, fsync = cell_words(row.cell)
    if row.figures and row.figures.pdu < row.cell.pdu:
        pdu = f"{pdu} ({pdu_words(row.figures.pdu)} taken)"
    start = (name, associations, pdu, fsync, row.receiver)
    if row.figures is None:
        return (*start, f"failed: {row.trouble}", "", "", "", "", "")
    each = row.figures
    numbers = (
        f"{each.rate:.{1 if each.rate < 10 else 0}f}",
        f"{each.megabytes:.0f}",
        f"{each.median:.2f}",
        f"{each.percentile_99:.2f}",
    )
    return (*start, *numbers, f"{each.cpu:.2f}", f"{each.memory / MEGABYTE:.0f}")


def ratio_head(report: Report, box: str) -> tuple[str, ...]:
    """The head of the ratios' table."""
    return (*HEAD[:4], *(f"{box}/{other}" for other in report.present if other != box))


def ratio_rows(report: Report, box: str) -> list[tuple[str, ...]]:
    """For each cell how many times as fast as each other receiver a box was, the median of the rounds' ratios."""
    others = [name for name in report.present if name != box]
    return [
        (*cell_words(cell), *(two_digits(ratio(report.trials, cell, box, other)) for other in others))
        for cell in report.cells
    ]


def two_digits(value: float | None) -> str:
    """A ratio for people."""
    return "-" if value is None else f"{value:.2f}"


def as_json(report: Report) -> dict[str, Any]:
    """Everything, every trial with all its figures."""
    return {
        "about": dict(report.about),
        "receivers": {each.name: each.missing or each.words for each in report.receivers},
        "rounds": report.rounds,
        "rows": [{**_cell_json(row.cell), **_flat(asdict(row))} for row in report.rows],
        "ratios": [
            {**_cell_json(cell), "box": box, "to": other, "ratio": ratio(report.trials, cell, box, other)}
            for box in report.boxes
            for cell in report.cells
            for other in report.present
            if other != box
        ],
        "trials": [{**_cell_json(trial.cell), **_flat(asdict(trial))} for trial in report.trials],
        "linear": asdict(report.growth) if report.growth else None,
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {"object": cell.kind.name, "associations": cell.associations, "pdu": cell.pdu, "fsync": cell.fsync}


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    figures = {f"{'pdu_used' if key == 'pdu' else key}": value for key, value in (fields["figures"] or {}).items()}
    return {**{key: value for key, value in fields.items() if key not in ("cell", "figures")}, **figures}


def markdown(report: Report, picture: str | None) -> str:
    """The report as a page."""
    lines = [", ".join(f"{name}: {text}" for name, text in report.about.items()) + ".", ""]
    if report.trials:
        lines += [f"![Instances per second, each receiver in each row]({picture})", ""] if picture else []
        for box in report.boxes:
            lines += [
                f"How many times as fast as the others `{box}` is (median of {report.rounds} rounds):",
                "",
            ]
            lines += [*markdown_table(ratio_head(report, box), ratio_rows(report, box), 4), ""]
        lines += [f"All figures, medians of {report.rounds} rounds:", ""]
        lines += [*markdown_table(HEAD, [row_words(row) for row in report.rows], 5), ""]
    if report.growth:
        lines += [f"- {line}" for line in report.growth.words] + [""]
    lines += [f"- Left out: {each}" for each in report.missing]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> list[str]:
    """A Markdown table of which all but the first columns are numbers."""
    rule = ["---" if n < texts else "--:" for n in range(len(head))]
    all_rows = [[each.lower() for each in head], rule, *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in all_rows]
