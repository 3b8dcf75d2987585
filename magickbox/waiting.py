"""Jobs that wait for a processor, and which of them is next: pure, with the time given.

They are kept in lines, one for each called AE title and priority that a person gave: what keeps one of a line waiting
keeps all of it, so that a look at ten thousand jobs is a look at a few lines. Nothing waits for ever: what is more
urgent overtakes only what is younger than ``OVERTAKING``, and a job that does not fit is overtaken by what does for
``PATIENCE`` only; then what it needs is kept free for it.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from magickbox.allotment import Amount, shortage
from magickbox.job import JobPriority

OVERTAKING = timedelta(hours=6)  # so much later may something more urgent by one step be born and still go first
PATIENCE = 600.0  # s; so long a job that does not fit is overtaken by those that do; an urgent one by none
_STEPS = {priority: n for n, priority in enumerate(JobPriority)}


class Place(NamedTuple):
    """Which line: the called AE title as it is written, and the priority that a person gave."""

    called_ae: str
    priority: JobPriority | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A READY job, as far as its place in a line depends on it; ``reason`` is what is written down of its waiting."""

    born: datetime
    job: str
    called_ae: str
    since: datetime
    reason: str = ""
    priority: JobPriority | None = None
    not_before: datetime | None = None

    @property
    def line(self) -> Place:
        """Where it stands."""
        return Place(self.called_ae, self.priority)


@dataclass
class Line:
    """Jobs that wait for the same, oldest first. ``told`` is what was said last of all of them, to all but ``untold``.

    ``first_since`` is when the first of them was found to wait for its turn, ``short_since`` when it was found not to
    fit, on a clock that never goes back.
    """

    jobs: list[tuple[datetime, str]] = field(default_factory=list)
    told: str | None = None
    untold: list[str] = field(default_factory=list)
    first_since: float | None = None
    short_since: float | None = None


@dataclass(frozen=True)
class Head:
    """The first of a line that nothing but room keeps waiting, what it needs, and since when that is not there."""

    line: Place
    waiting: Waiting
    needs: Amount
    short_since: float | None = None
    priority: JobPriority = JobPriority.NORMAL

    @property
    def turn(self) -> tuple[datetime, str]:
        """Who goes first has the earliest turn."""
        return self.waiting.born + OVERTAKING * _STEPS[self.priority], self.waiting.job

    def keeps_room(self, moment: float) -> bool:
        """True if what it needs is not for those behind it any longer."""
        patience = 0.0 if self.priority is JobPriority.URGENT else PATIENCE
        return self.short_since is not None and moment - self.short_since >= patience


class Waitlist:
    """All that wait, in their lines. For one thread at a time."""

    def __init__(self) -> None:
        self._lines: dict[Place, Line] = {}
        self._all: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._all)

    def lines(self) -> list[Place]:
        """The lines that there are."""
        return list(self._lines)

    def add(self, waiting: Waiting) -> None:
        """Put a job into its line; one that is there already keeps its place, if it is to stand there still."""
        was = self._all.get(waiting.job)
        if was is not None and was.line == waiting.line:
            self._renew(waiting, was)
            return
        self.remove(waiting.job)
        self._all[waiting.job] = waiting
        line = self._lines.setdefault(waiting.line, Line())
        heapq.heappush(line.jobs, (waiting.born, waiting.job))
        if line.told is not None:
            line.untold.append(waiting.job)

    def _renew(self, waiting: Waiting, was: Waiting) -> None:
        """One that was held and released meanwhile has another reason: what is said of its line is news to it."""
        self._all[waiting.job] = waiting
        if waiting.reason != was.reason:
            self._lines[waiting.line].untold.append(waiting.job)

    def remove(self, job: str) -> None:
        """Take a job out; what is not there is no error."""
        gone = self._all.pop(job, None)
        if gone is not None:
            self._tidy(gone.line)

    def only(self, jobs: Iterable[str]) -> None:
        """Take out all but these."""
        stay = set(jobs)
        for job in [each for each in self._all if each not in stay]:
            self.remove(job)

    def first(self, line: Place) -> Waiting | None:
        """The oldest job of a line."""
        return self._all[self._lines[line].jobs[0][1]] if line in self._lines else None

    def head(self, line: Place, needs: Amount, priority: JobPriority = JobPriority.NORMAL) -> Head | None:
        """The same as one that asks for this much, of this priority."""
        first = self.first(line)
        return Head(line, first, needs, self._lines[line].short_since, priority) if first is not None else None

    def waits(self, line: Place, moment: float, *, is_short: bool) -> float:
        """Keep that the first of a line waits, because it does not fit or for something else; returns since when."""
        here = self._lines[line]
        here.first_since = moment if here.first_since is None else here.first_since
        here.short_since = (here.short_since or moment) if is_short else None
        return here.first_since

    def rest(self, line: Place, until: float) -> None:
        """Say nothing more of the first of a line before that."""
        self._lines[line].first_since = until

    def untold(self, line: Place, what: str, most: int) -> list[str]:
        """Those of a line of whom ``what`` is still to be written down, at most so many; they count as told then."""
        here = self._lines.get(line)
        if here is None:
            return []
        if here.told != what:
            here.told, here.untold = what, [job for _, job in sorted(here.jobs, reverse=True)]
        found: list[str] = []
        while here.untold and len(found) < most:
            job = here.untold.pop()
            if self._stands(job, line) and self.has_news(job, what):
                found.append(job)
        return found

    def was_told(self, line: Place) -> bool:
        """True if something was said of all of a line."""
        return line in self._lines and self._lines[line].told is not None

    def forget(self, line: Place) -> None:
        """Nothing is to be said of all of a line any more."""
        self._lines[line].told = None

    def has_news(self, job: str, what: str) -> bool:
        """True if ``what`` is not yet written down of a job that waits; it counts as written then."""
        here = self._all.get(job)
        if here is None or here.reason == what:
            return False
        self._all[job] = replace(here, reason=what)
        return True

    def _tidy(self, line: Place) -> None:
        """Drop who is gone from the front of a line, and a line that has nobody."""
        here = self._lines[line]
        while here.jobs and not self._stands(here.jobs[0][1], line):
            heapq.heappop(here.jobs)
            here.first_since = here.short_since = None
        if not here.jobs:
            del self._lines[line]

    def _stands(self, job: str, line: Place) -> bool:
        return job in self._all and self._all[job].line == line


def in_order(heads: Iterable[Head]) -> list[Head]:
    """Who goes first: the oldest of the most urgent."""
    return sorted(heads, key=lambda head: head.turn)


def next_of(heads: Sequence[Head], free: Amount, moment: float) -> Head | None:
    """The first of these that fits into what is free and is not kept for one before it; ``heads`` are in order."""
    return next((head for head, left in _lefts(heads, free, moment) if left.lacks(head.needs) is None), None)


def shortages(heads: Sequence[Head], free: Amount, room: Amount, moment: float) -> dict[Place, str]:
    """Why each of these has to wait, by line, if none of them is next; ``heads`` are in order."""
    return {head.line: shortage(head.needs, free, room) for head, _ in _lefts(heads, free, moment)}


def _lefts(heads: Sequence[Head], free: Amount, moment: float) -> Iterator[tuple[Head, Amount]]:
    """Each with what it may have; what one that has lost its patience needs, nobody behind it gets."""
    for head in heads:
        yield head, free
        if head.keeps_room(moment):
            free = free.less(head.needs)
