"""Jobs that wait for a processor, and which of them is next: pure, with the time given.

They are kept in lines, one for each called AE title: what keeps one of a line waiting keeps all of it, so that a look
at ten thousand jobs is a look at a few lines. Nothing waits for ever: a job that does not fit is overtaken by what
does for ``PATIENCE`` only; then what it needs is kept free for it.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from magickbox.allotment import Amount, shortage

PATIENCE = 600.0  # s; so long a job that does not fit is overtaken by those that do


@dataclass(frozen=True, slots=True)
class Waiting:
    """A READY job, as far as its place in a line depends on it; ``reason`` is what is written down of its waiting."""

    born: datetime
    job: str
    called_ae: str
    since: datetime
    reason: str = ""


@dataclass
class Line:
    """Jobs that wait for the same, oldest first. ``told`` is what was said last of all of them, to all but ``untold``.

    ``short_since`` is when the first of them was found not to fit, on a clock that never goes back.
    """

    jobs: list[tuple[datetime, str]] = field(default_factory=list)
    told: str | None = None
    untold: list[str] = field(default_factory=list)
    short_since: float | None = None


@dataclass(frozen=True)
class Head:
    """The first of a line that nothing but room keeps waiting, what it needs, and since when that is not there."""

    line: str
    waiting: Waiting
    needs: Amount
    short_since: float | None = None


class Waitlist:
    """All that wait, in a line for each called AE title as it is written. For one thread at a time."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._all: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._all)

    def lines(self) -> list[str]:
        """The lines that there are, by their called AE titles."""
        return list(self._lines)

    def add(self, waiting: Waiting) -> None:
        """Put a job into its line; one that is there already stays."""
        if waiting.job in self._all:
            return
        self._all[waiting.job] = waiting
        line = self._lines.setdefault(waiting.called_ae, Line())
        heapq.heappush(line.jobs, (waiting.born, waiting.job))
        if line.told is not None:
            line.untold.append(waiting.job)

    def remove(self, job: str) -> None:
        """Take a job out; what is not there is no error."""
        gone = self._all.pop(job, None)
        if gone is not None:
            self._tidy(gone.called_ae)

    def only(self, jobs: Iterable[str]) -> None:
        """Take out all but these."""
        stay = set(jobs)
        for job in [each for each in self._all if each not in stay]:
            self.remove(job)

    def first(self, line: str) -> Waiting | None:
        """The oldest job of a line."""
        return self._all[self._lines[line].jobs[0][1]] if line in self._lines else None

    def head(self, line: str, needs: Amount) -> Head | None:
        """The same as one that asks for this much."""
        first = self.first(line)
        return Head(line, first, needs, self._lines[line].short_since) if first is not None else None

    def is_short(self, line: str, moment: float) -> float:
        """Keep that the first of a line does not fit; since when that is so."""
        here = self._lines[line]
        here.short_since = moment if here.short_since is None else here.short_since
        return here.short_since

    def untold(self, line: str, what: str, most: int) -> list[str]:
        """Those of a line of whom ``what`` is still to be written down, at most so many; they count as told then."""
        here = self._lines.get(line)
        if here is None:
            return []
        if here.told != what:
            here.told, here.untold = what, [job for _, job in sorted(here.jobs, reverse=True)]
        found: list[str] = []
        while here.untold and len(found) < most:
            job = here.untold.pop()
            if self.has_news(job, what):
                found.append(job)
        return found

    def was_told(self, line: str) -> bool:
        """True if something was said of all of a line."""
        return line in self._lines and self._lines[line].told is not None

    def forget(self, line: str) -> None:
        """Nothing is to be said of all of a line any more."""
        self._lines[line].told = None

    def has_news(self, job: str, what: str) -> bool:
        """True if ``what`` is not yet written down of a job that waits; it counts as written then."""
        here = self._all.get(job)
        if here is None or here.reason == what:
            return False
        self._all[job] = replace(here, reason=what)
        return True

    def _tidy(self, line: str) -> None:
        """Drop who is gone from the front of a line, and a line that has nobody."""
        here = self._lines[line]
        while here.jobs and here.jobs[0][1] not in self._all:
            heapq.heappop(here.jobs)
            here.short_since = None
        if not here.jobs:
            del self._lines[line]


def in_order(heads: Iterable[Head]) -> list[Head]:
    """Who goes first: the oldest."""
    return sorted(heads, key=lambda head: (head.waiting.born, head.waiting.job))


def next_of(heads: Sequence[Head], free: Amount, moment: float) -> Head | None:
    """The first of these that fits into what is free and is not kept for one before it; ``heads`` are in order."""
    return next((head for head, left in _lefts(heads, free, moment) if left.lacks(head.needs) is None), None)


def shortages(heads: Sequence[Head], free: Amount, room: Amount, moment: float) -> dict[str, str]:
    """Why each of these has to wait, by line, if none of them is next; ``heads`` are in order."""
    return {head.line: shortage(head.needs, free, room) for head, _ in _lefts(heads, free, moment)}


def _lefts(heads: Sequence[Head], free: Amount, moment: float) -> Iterator[tuple[Head, Amount]]:
    """Each with what it may have; what one that has lost its patience needs, nobody behind it gets."""
    for head in heads:
        yield head, free
        if head.short_since is not None and moment - head.short_since >= PATIENCE:
            free = free.less(head.needs)
