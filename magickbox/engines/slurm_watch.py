"""One thread that watches all runs at the cluster: their marks and logs, and with one question for all Slurm's hint.

It lives only while there is something to watch. A run is looked at often when it is young and more seldom as it grows
old; Slurm is asked likewise, because what it says is needed only where something is wrong.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from magickbox.engine import Run
from magickbox.engines.output_log import OutputLog
from magickbox.engines.slurm_client import SlurmClient
from magickbox.engines.slurm_marks import Marks
from magickbox.engines.slurm_verdict import Course, Lost, Patience, judge
from magickbox.errors import EngineDown, MagickboxError

CHUNK = 1 << 20
SILENT = 600.0  # seconds without an answer of Slurm's after which that is told, again and again
WAITING = 60.0  # seconds after which a run's log says what its job waits for


@dataclass(frozen=True)
class Rhythm:
    """Seconds: the shortest and longest time between two looks at a run, and between two questions to Slurm."""

    look: tuple[float, float] = (1.0, 10.0)
    ask: tuple[float, float] = (3.0, 30.0)

    def next(self, age: float, of: tuple[float, float]) -> float:
        """The pause for something of this age."""
        return min(max(age / 20, of[0]), of[1])


@dataclass
class Watched:
    """A run that a thread waits for; ``bell`` wakes that thread."""

    run: Run
    marks: Marks
    bell: threading.Event = field(default_factory=threading.Event)
    log: OutputLog | None = None
    id: str | None = None
    course: Course = field(default_factory=lambda: Course(time.monotonic()))
    verdict: Lost | bool = False
    stop: str | None = None
    left: bool = False
    goes_on: bool = False
    copied: int = 0
    due: float = 0.0
    told: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def copy(self) -> None:
        """Bring over what the node's log has more than the box's."""
        while self.log is not None and (chunk := self.marks.read_log(self.copied, CHUNK)):
            self.log.write(chunk)
            self.copied += len(chunk)

    def ring(self) -> None:
        """Wake the thread that waits for it."""
        self.bell.set()


class Watch:
    """Watches the runs that it is given; safe from any thread."""

    def __init__(
        self,
        client: SlurmClient,
        comment: str,
        patience: Patience,
        rhythm: Rhythm,
        tell: Callable[[str], None],
    ) -> None:
        """``comment`` marks the jobs of this box; ``tell`` gets what a person should know of the cluster."""
        self._client, self._comment, self._patience, self._rhythm, self._tell = client, comment, patience, rhythm, tell
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._watched: dict[str, Watched] = {}
        self._unwanted: set[str] = set()
        self._doubts: dict[str, tuple[str, Callable[[], str | None]]] = {}
        self._thread: threading.Thread | None = None
        self._ask_at, self._answered, self._told_silent = 0.0, time.monotonic(), 0.0
        self.down: str | None = None

    def enter(self, run: Run, marks: Marks) -> Watched:
        """A run begins; raises ValueError if it has begun already. Nothing is looked at until ``watch``."""
        with self._lock:
            if run.name in self._watched:
                raise ValueError(f"run {run.name} is running already")
            self._watched[run.name] = watched = Watched(run, marks, due=float("inf"))
            self._unwanted.discard(run.name)
        return watched

    def watch(self, watched: Watched) -> None:
        """From now on the run is looked at."""
        watched.due = 0.0
        self._ask_at = min(self._ask_at, time.monotonic() + self._rhythm.ask[0])
        self._run()

    def leave(self, name: str) -> None:
        """The run is over, or nobody waits for it any more."""
        with self._lock:
            self._watched.pop(name, None)
        self._wake.set()

    def of(self, name: str) -> Watched | None:
        """The run of that name, if it goes on."""
        with self._lock:
            return self._watched.get(name)

    def names(self) -> set[str]:
        """The runs that go on."""
        with self._lock:
            return set(self._watched)

    def unwanted(self, name: str) -> None:
        """A job of this name is to be cancelled, should there be one, as soon as Slurm answers."""
        with self._lock:
            self._unwanted.add(name)
        self._ask_at = 0.0
        self._run()

    def lost(self, why: str) -> None:
        """Slurm did not answer: nothing is submitted until it does."""
        self._silence(why, time.monotonic())
        self._run()

    def doubt(self, key: str, why: str, trial: Callable[[], str | None]) -> None:
        """Until ``trial`` says no reason any more, ``doubted`` gives one; the trial is made now and then."""
        with self._lock:
            self._doubts[key] = (why, trial)
        self._ask_at = min(self._ask_at, time.monotonic() + self._rhythm.ask[0])
        self._run()

    def doubted(self, key: str) -> str | None:
        """Why nothing should be submitted there now."""
        with self._lock:
            found = self._doubts.get(key)
        return self.down or (found[0] if found else None)

    def _run(self) -> None:
        with self._lock:
            self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="slurm", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause = self._round()
            except Exception as exc:  # noqa: BLE001  # worker boundary: whatever a round meets, there is another one
                self._tell(f"a look at the cluster stumbled: {exc!r}")
                pause = self._rhythm.ask[0]
            with self._lock:
                if not (self._watched or self._unwanted or self._doubts or self.down):
                    self._thread = None
                    return
            self._wake.wait(pause)

    def _round(self) -> float:
        """Everything that is due; return the seconds until something is due again."""
        now = time.monotonic()
        with self._lock:
            entries = [each for each in self._watched.values() if each.due != float("inf")]
            busy = bool(entries or self._unwanted or self._doubts or self.down)
        if busy and now >= self._ask_at:
            self._ask(entries)
            now = time.monotonic()
        for each in entries:
            if now >= each.due:
                self._look(each, now)
        times = [self._ask_at, *(each.due for each in entries if not each.verdict)] if busy else [now + 60.0]
        return max(min(times) - time.monotonic(), self._rhythm.look[0] / 2)

    def _look(self, each: Watched, now: float) -> None:
        seen = each.marks.look()
        each.course.look(seen, now)
        self._copy(each, seen.log_size)
        verdict = judge(each.course, seen, now, self._patience)
        each.due = now + self._rhythm.next(now - each.course.submitted, self._rhythm.look)
        if verdict and not each.verdict:
            each.verdict = verdict
            each.ring()

    def _copy(self, each: Watched, size: int) -> None:
        """Bring the log's new bytes over; the run's own thread does the last of it."""
        with each.lock:
            if each.copied < size and not each.verdict:
                each.copy()

    def _ask(self, entries: list[Watched]) -> None:
        asked = time.monotonic()
        with self._lock:
            unwanted = set(self._unwanted)  # those of which the answer can tell
        try:
            rows = self._client.queue(self._comment)
        except EngineDown as exc:
            self._silence(str(exc), asked)
            return
        self._answered, self.down = asked, None
        self._ask_at = asked + self._rhythm.next(_youngest(entries, asked), self._rhythm.ask)
        by_name = {row.name: row for row in sorted(rows, key=lambda row: row.is_active)}
        for each in entries:
            each.course.ask(by_name.get(each.run.name), asked)
            each.id = each.id or (by_name[each.run.name].id if each.run.name in by_name else None)
            self._tell_wait(each, asked)
        self._client.cancel([row.id for row in rows if row.name in unwanted and row.is_active])
        with self._lock:
            self._unwanted -= unwanted
            if self._unwanted:  # came meanwhile
                self._ask_at = asked
        self._try_doubts()

    def _silence(self, why: str, asked: float) -> None:
        self._ask_at = time.monotonic() + self._rhythm.ask[0]
        if self.down is None:
            self._told_silent = asked
            self._tell(why)
        elif asked - self._told_silent >= SILENT:
            self._told_silent = asked
            self._tell(f"{why}; it has been silent for {(asked - self._answered) / 60:.0f} minutes")
        self.down = why

    def _tell_wait(self, each: Watched, now: float) -> None:
        hint = each.course.hint
        waits = hint is not None and hint.state == "PENDING" and now - each.course.submitted >= WAITING
        if hint is not None and waits and each.told != hint.reason and each.log is not None:
            each.told = hint.reason
            each.log.say(f"waits at the cluster as job {hint.id}: {hint.reason}")

    def _try_doubts(self) -> None:
        with self._lock:
            doubts = dict(self._doubts)
        for key, (_, trial) in doubts.items():
            try:
                why = trial()
            except (MagickboxError, OSError) as exc:
                why = str(exc)
            with self._lock:
                if why is None:
                    self._doubts.pop(key, None)
                else:
                    self._doubts[key] = (why, trial)


def _youngest(entries: list[Watched], now: float) -> float:
    return min((now - each.course.submitted for each in entries), default=300.0)
