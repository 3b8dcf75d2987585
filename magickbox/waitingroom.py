"""Who waits for a processor, kept in step with the ledger without reading all of it again; and what is said of them.

At rest nothing is read: a job is announced, comes back from its run, or its pause is over. Only while the ledger
changes it is counted now and then whether somebody came, or went, unannounced.
"""

import heapq
import time
from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from magickbox.clock import now
from magickbox.ledger import Ledger, waiting
from magickbox.logs import Note
from magickbox.waiting import Place, Waiting, Waitlist

COUNT_EVERY = 2.0  # seconds until the READY jobs are counted again, if the ledger has changed
SHARE = 20  # of the time goes into reading all of them: a twentieth at most
OVERLAP = timedelta(seconds=5)  # a job may be recorded so much later than it says it became READY
AT_A_TIME = 100  # jobs that are told before others are looked at
LONGEST = 86400.0  # seconds that a run is put off by processor.json
TURN = "waits for its turn"


class ReadyCount:
    """How many jobs wait for a processor; they are counted only if the ledger has changed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._commits, self._count = -1, 0

    def __call__(self) -> int:
        """Used by one thread."""
        commits = self._ledger.commits
        if commits != self._commits:
            with self._ledger.reading() as tx:
                self._count = waiting.count(tx)
            self._commits = commits
        return self._count


class WaitingRoom:
    """Used by one thread; ``put_off`` and ``comes_back`` by any."""

    def __init__(self, ledger: Ledger, note: Note) -> None:
        self.list = Waitlist()
        self._ledger, self._note = ledger, note
        self._asleep: dict[str, float] = {}  # until when, by their ids
        self._alarms: list[tuple[float, str]] = []
        self._not_before: dict[str, float] = {}
        self._back: deque[str] = deque()
        self._is_stale, self._newest = True, datetime.fromtimestamp(0, UTC)
        self._count_again, self._counted = 0.0, -1

    def put_off(self, job: str, pause: float) -> None:
        """Do not let a job go on before so many seconds are over."""
        self._not_before[job] = time.monotonic() + pause

    def comes_back(self, job: str) -> None:
        """The run of a job is over: it may be READY again."""
        self._back.append(job)

    def doubt(self) -> None:
        """Something went wrong: read all anew."""
        self._is_stale = True

    def take_in(self, announced: bool, running: Collection[str]) -> None:
        """Bring the list up to date; ``announced`` says that a job became READY, ``running`` are on their way."""
        moment = time.monotonic()
        while self._alarms and self._alarms[0][0] <= moment:
            when, job = heapq.heappop(self._alarms)
            if self._asleep.get(job) == when:
                del self._asleep[job]
                self._back.append(job)
        while self._back:
            self._look_at(self._back.popleft(), running)
        if self._is_stale or self._has_miscounted(moment, running):
            self._read_all(moment, running)
        elif announced:
            with self._ledger.reading() as tx:
                ready = waiting.ready(tx, self._newest - OVERLAP)
            self._admit(ready, running)

    def _look_at(self, job: str, running: Collection[str]) -> None:
        with self._ledger.reading() as tx:
            found = waiting.one(tx, job)
        if found is not None:
            self._admit([found], running)

    def _has_miscounted(self, moment: float, running: Collection[str]) -> bool:
        """True if a job became READY, or ceased to be, unannounced; asked only when the ledger has changed."""
        commits = self._ledger.commits
        if moment < self._count_again or commits == self._counted:
            return False
        self._counted, self._count_again = commits, moment + COUNT_EVERY
        with self._ledger.reading() as tx:
            return waiting.count(tx, running) != len(self.list) + len(self._asleep)

    def _read_all(self, moment: float, running: Collection[str]) -> None:
        with self._ledger.reading() as tx:
            ready = waiting.ready(tx)
        if self._is_stale:
            self.list = Waitlist()
        self.list.only(each.job for each in ready)
        self._asleep.clear()
        self._alarms.clear()
        for job in [job for job, when in dict(self._not_before).items() if when <= moment]:
            del self._not_before[job]
        self._admit(ready, running)
        self._is_stale = False
        now = time.monotonic()
        self._count_again = now + max(COUNT_EVERY, SHARE * (now - moment))

    def _admit(self, ready: list[Waiting], running: Collection[str]) -> None:
        moment = time.monotonic()
        for each in ready:
            self._newest = max(self._newest, each.since)
            if each.job in running:
                continue
            when = max(self._not_before.get(each.job, 0.0), moment + _left(each))
            if when <= moment:
                self._asleep.pop(each.job, None)
                self._not_before.pop(each.job, None)
                self.list.add(each)
            elif each.job not in self._asleep:
                self._asleep[each.job] = when
                heapq.heappush(self._alarms, (when, each.job))

    def tell(self, line: Place, why: str, *, is_usual: bool) -> bool:
        """Write down of all jobs of a line why they wait, each once; False if all know. What is usual is not logged."""
        return self._write(self.list.untold(line, why, AT_A_TIME), why, None if is_usual else "warning")

    def tell_turn(self, line: Place) -> bool:
        """What kept all of a line waiting is over, and is not to be read any longer; False if it is not."""
        if not self.list.was_told(line):
            return False
        told = self.list.untold(line, TURN, AT_A_TIME)
        if not told:
            self.list.forget(line)
        return self._write(told, TURN, None)

    def tell_one(self, job: Waiting, why: str) -> None:
        """Write down of one job why it waits, if that is news."""
        if self.list.has_news(job.job, why):
            self._write([job.job], why, "info")

    def _write(self, told: list[str], why: str, level: str | None) -> bool:
        if told:
            with self._ledger.transaction() as tx:
                waiting.note(tx, told, why)
            for job in told if level is not None else ():
                self._note(level or "", "waits", {"job": job, "reason": why})
        return bool(told)


def _left(waiting: Waiting) -> float:
    """Seconds until a run that is to be made again may begin, whatever was done to the clock meanwhile."""
    if waiting.not_before is None:
        return 0.0
    return min(LONGEST, max(0.0, (waiting.not_before - now()).total_seconds()))
