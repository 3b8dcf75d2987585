"""When instances become a job: pure, with the time given (contracts, section 2).

An association holds a study from its first instance of it until the association ends or has sent nothing of it for
``settle_open``. The job is due when nothing holds the study and the wait since the last end is over; ``max_wait``
since the first instance ends it in any case.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from magickbox.association import Association, End
from magickbox.instance import Instance


@dataclass(frozen=True)
class Waits:
    """The four waits, in seconds."""

    settle: float = 15.0
    settle_open: float = 30.0
    settle_after_abort: float = 60.0
    max_wait: float = 3600.0


@dataclass(frozen=True)
class Key:
    """What one job gathers: one study, from one calling AE, for one called AE; or only what one association brings."""

    calling_ae: str
    called_ae: str
    study: str
    association: str | None = None


@dataclass(frozen=True)
class Arrival:
    """An instance and the association that brought it.

    ``order`` tells which of two was acknowledged later, whatever the clock did; without one the file's time does.
    """

    association: str
    instance: Instance
    order: int = 0

    @property
    def place(self) -> int:
        """What to sort by."""
        return self.order or self.instance.arrived


@dataclass
class _Gathered:
    """What has come of one key; times are seconds of one clock."""

    waits: Waits
    first: float
    arrivals: list[Arrival] = field(default_factory=list)
    open_until: dict[str, float] = field(default_factory=dict)
    last_end: float = 0.0
    last_end_aborted: bool = False

    def due(self) -> float:
        """When the job is to be born if nothing more comes."""
        latest = max(self.open_until.values(), default=0.0)
        if latest > self.last_end:
            wait_over = latest + self.waits.settle
        else:
            wait = self.waits.settle_after_abort if self.last_end_aborted else self.waits.settle
            wait_over = self.last_end + wait
        return min(wait_over, self.first + self.waits.max_wait)


@dataclass(frozen=True)
class Due:
    """A job to be born: its key, its arrivals in order, and whether the last end was an abort."""

    key: Key
    arrivals: tuple[Arrival, ...]
    aborted: bool

    def per_association(self) -> dict[str, int]:
        """How many of the arrivals each association brought, in the order in which they began."""
        counts: dict[str, int] = {}
        for arrival in self.arrivals:
            counts[arrival.association] = counts.get(arrival.association, 0) + 1
        return counts


class Gathering:
    """All studies that are on their way to become jobs; used by one thread."""

    def __init__(self) -> None:
        self._gathered: dict[Key, _Gathered] = {}
        self._files: dict[str, set[str]] = {}

    def stored(self, key: Key, waits: Waits, arrival: Arrival, at: float) -> None:
        """An instance has come; its association holds the study from now."""
        gathered = self._gathered.setdefault(key, _Gathered(waits, at))
        gathered.arrivals.append(arrival)
        self._files.setdefault(arrival.association, set()).add(arrival.instance.file)
        gathered.open_until[arrival.association] = at + gathered.waits.settle_open

    def ended(self, association: str, how: End, at: float) -> None:
        """An association is over: it holds nothing any more, and the wait starts again."""
        for gathered in self._gathered.values():
            if gathered.open_until.pop(association, None) is not None:
                gathered.last_end = at
                gathered.last_end_aborted = how.is_abort

    def next_due(self) -> float | None:
        """When the next job is due, or None if nothing waits."""
        return min((gathered.due() for gathered in self._gathered.values()), default=None)

    def take_due(self, at: float) -> list[Due]:
        """The jobs that are due, each once; what comes later begins a new one."""
        keys = [key for key, gathered in self._gathered.items() if gathered.due() <= at]
        return [self._take(key) for key in keys]

    def _take(self, key: Key) -> Due:
        gathered = self._gathered.pop(key)
        for arrival in gathered.arrivals:
            names = self._files.get(arrival.association, set())
            names.discard(arrival.instance.file)
            if not names:
                self._files.pop(arrival.association, None)
        aborted = gathered.last_end_aborted and not gathered.open_until
        return Due(key, tuple(gathered.arrivals), aborted)

    def put_back(self, due: Due, waits: Waits, at: float) -> None:
        """A birth that did not succeed (full disk): what it had is gathered again and tried after ``settle``."""
        later = self._gathered.pop(due.key, None)
        again = _Gathered(waits, at, list(due.arrivals), {}, at, due.aborted)
        if later is not None:
            again.arrivals += later.arrivals
            again.open_until = later.open_until
        self._gathered[due.key] = again
        for arrival in due.arrivals:
            self._files.setdefault(arrival.association, set()).add(arrival.instance.file)

    def files_of(self, association: str) -> frozenset[str]:
        """The names of an association's files that wait to become part of a job."""
        return frozenset(self._files.get(association, ()))

    def associations(self) -> frozenset[str]:
        """The associations of which something waits to become part of a job."""
        return frozenset(self._files)

    def waiting(self) -> Iterable[tuple[Key, int, float]]:
        """Each key with how many instances it has and when it is due; for people who look, from any thread."""
        return [(key, len(g.arrivals), g.due()) for key, g in list(self._gathered.items())]


def grouping(association: Association, study: str, by_association: bool) -> Key:
    """The key that an instance of ``study`` belongs to."""
    key = (association.calling_ae, association.called_ae, study)
    return Key(*key, association.id if by_association else None)
