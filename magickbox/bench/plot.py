"""The picture: instances per second as dots on a logarithmic scale, one line a cell, one colour a receiver; SVG."""

import math
from collections.abc import Sequence
from html import escape

from magickbox.bench.figures import Row
from magickbox.bench.report import Report, cell_words

_COLOURS = ("#c1272d", "#333333", "#0072b2", "#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#8c564b")
_LEFT, _WIDTH, _LINE, _TOP = 250, 620, 34, 64


def svg(report: Report) -> str:
    """The whole picture; readable on a light and on a dark page, for it brings its own ground."""
    rows = [row for row in report.rows if row.figures]
    low, high = _decades(rows)
    height = _TOP + _LINE * len(report.cells) + 48
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 40} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        "<title>Instances per second by receiver</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend(report.present),
        *_scale(low, high, height),
    ]
    for number, cell in enumerate(report.cells):
        y = _TOP + _LINE * number + _LINE // 2
        name, associations, pdu, fsync = cell_words(cell)
        words = f"{name}, {associations} assoc., {pdu}, fsync {fsync}"
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end" fill="#222222">{escape(words)}</text>')
        edge = _TOP + _LINE * (number + 1)
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{edge}" y2="{edge}" stroke="#e4e4e4"/>')
        parts += [_dot(row, report, y, low, high) for row in rows if row.cell == cell]
    return "\n".join([*parts, "</svg>", ""])


def _decades(rows: Sequence[Row]) -> tuple[float, float]:
    rates = [row.figures.rate for row in rows if row.figures] or [1.0]
    return math.floor(math.log10(min(rates))), math.floor(math.log10(max(rates))) + 1


def _x(rate: float, low: float, high: float) -> float:
    return _LEFT + _WIDTH * (math.log10(rate) - low) / (high - low)


def _colour(name: str, names: Sequence[str]) -> str:
    return _COLOURS[names.index(name) % len(_COLOURS)]


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], 20
    for name in names:
        parts.append(f'<circle cx="{x}" cy="20" r="5" fill="{_colour(name, names)}"/>')
        parts.append(f'<text x="{x + 10}" y="24" fill="#222222">{escape(name)}</text>')
        x += 30 + 8 * len(name)
    return parts


def _scale(low: float, high: float, height: int) -> list[str]:
    parts = []
    for decade in range(int(low), int(high) + 1):
        for step in (1, 2, 5):
            rate = step * 10.0**decade
            if math.log10(rate) > high:
                continue
            x, strong = _x(rate, low, high), step == 1
            colour = "#bbbbbb" if strong else "#e4e4e4"
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{height - 40}" stroke="{colour}"/>')
            parts.append(f'<text x="{x:.1f}" y="{height - 24}" text-anchor="middle" fill="#555555">{rate:g}</text>')
    middle = _LEFT + _WIDTH // 2
    parts.append(f'<text x="{middle}" y="{height - 6}" text-anchor="middle" fill="#222222">instances per second</text>')
    return parts


def _dot(row: Row, report: Report, y: float, low: float, high: float) -> str:
    """A dot at the median, with a line from the slowest to the fastest round."""
    assert row.figures is not None
    names, rate = report.present, row.figures.rate
    colour = _colour(row.receiver, names)
    y = round(y + (names.index(row.receiver) - (len(names) - 1) / 2) * (_LINE - 8) / len(names), 1)
    said = escape(f"{row.receiver}: {rate:.0f}/s ({row.slowest:.0f} to {row.fastest:.0f})")
    slow, fast = (_x(each, low, high) for each in (row.slowest, row.fastest))
    return (
        f'<g><title>{said}</title><line x1="{slow:.1f}" x2="{fast:.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
        f'stroke-width="2"/><circle cx="{_x(rate, low, high):.1f}" cy="{y}" r="4" fill="{colour}"/></g>'
    )
