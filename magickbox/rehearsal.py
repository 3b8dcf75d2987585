"""What other rules would do with the last jobs, compared with those in force; nothing is sent, nothing is written."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from magickbox.decision import Decision, Facts, Listing, PlannedDelivery, decide
from magickbox.errors import MagickboxError
from magickbox.explanation import as_text
from magickbox.job import HAS_FOLDER, Job
from magickbox.ledger import Transaction, jobs
from magickbox.resultcheck import Came
from magickbox.route import came_of
from magickbox.routing import Rules
from magickbox.selection import damage_below, look_below
from magickbox.tagpath import TagPath

LONGEST = 10.0  # seconds for all jobs together; a job in hand is brought to its end
MOST_LINES, LONGEST_LINE = 400, 500


@dataclass(frozen=True)
class Sending:
    """What would go where: ``after`` is the destination that must fail first, ``held`` why it is held back."""

    rule: str
    to: str
    instances: int
    after: str = ""
    held: str = ""
    priority: str = ""


@dataclass(frozen=True)
class Rehearsed:
    """One job: what is sent by the rules in force, what the others change, and why they decide so.

    ``skipped`` says why the job was not looked at; all else is empty then.
    """

    job: Job
    same: tuple[Sending, ...] = ()
    gone: tuple[Sending, ...] = ()
    new: tuple[Sending, ...] = ()
    why: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def changes(self) -> bool:
        """True if the other rules would do something else with it."""
        return bool(self.gone or self.new)


class OutOfTime(MagickboxError):
    """The time for all jobs together is over."""


@dataclass(frozen=True)
class Rehearsal:
    """Tries rules on jobs; ``folder_of`` is where a job lies. With ``with_values`` the reasons name patients' data."""

    force: Rules
    draft: Rules
    folder_of: Callable[[str], Path]
    with_values: bool = False
    longest: float = LONGEST
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def of(self, found: Sequence[tuple[Job, Came]]) -> list[Rehearsed]:
        """What becomes of each job, in the order given; those for which no time was left are skipped."""
        until = self.clock() + self.longest
        return [self._of_one(job, came, until) for job, came in found]

    def _of_one(self, job: Job, came: Came, until: float) -> Rehearsed:
        if job.outcome is None:
            return Rehearsed(job, skipped=f"it has no outcome: it is {job.state}")
        try:
            files = _Files(self.folder_of(job.id), (self.force, self.draft), self._in_time(until))
            facts = Facts(job.called_ae, job.calling_ae, job.outcome, job.peer, came)
            was = self._decide("the rules in force", self.force, facts, files)
            would = self._decide("the draft", self.draft, facts, files)
        except (MagickboxError, OSError) as exc:
            return Rehearsed(job, skipped=str(exc))
        same, gone, new = _differences(was, would)
        why = [line[:LONGEST_LINE] for line in as_text(would, self.with_values)]
        return Rehearsed(job, same, gone, new, tuple(why[:MOST_LINES]))

    def _decide(self, which: str, rules: Rules, facts: Facts, files: "_Files") -> Decision:
        try:
            return decide(rules, facts, files.look, files.damage)
        except OutOfTime:
            raise
        except MagickboxError as exc:
            raise MagickboxError(f"{which}: {exc}") from exc

    def _in_time(self, until: float) -> Callable[[], None]:
        def check() -> None:
            if self.clock() > until:
                raise OutOfTime(f"not looked at: the {self.longest:g} s for all jobs together were over")

        check()
        return check


def last_jobs(tx: Transaction, count: int, *rules: Rules) -> list[tuple[Job, Came]]:
    """The newest jobs that should have their folders, with what rules may want to know of their input."""
    with_checks = next((each for each in rules if any(rule.checks for rule in each.rules)), Rules())
    return [(job, came_of(tx, job, with_checks)) for job in jobs.newest(tx, count, sorted(HAS_FOLDER))]


class _Files:
    """The files of a job, listed once for both sets of rules."""

    def __init__(self, folder: Path, rules: Sequence[Rules], in_time: Callable[[], None]) -> None:
        if not folder.is_dir():
            raise FileNotFoundError("its folder is gone")
        self._rules, self._in_time = rules, in_time
        self._look, self._damage = look_below(folder), damage_below(folder)
        self._listed: dict[str, Listing] = {}
        self._damages: dict[str, str] = {}

    def look(self, directory: str, _wanted: frozenset[TagPath]) -> Listing:
        if directory not in self._listed:
            self._in_time()
            wanted = frozenset().union(*(each.tags_below(directory) for each in self._rules))
            self._listed[directory] = self._look(directory, wanted)
        return self._listed[directory]

    def damage(self, name: str) -> str:
        if name not in self._damages:
            self._in_time()
            self._damages[name] = self._damage(name)
        return self._damages[name]


_Key = tuple[str, str, str, str, frozenset[str]]
_Three = tuple[tuple[Sending, ...], tuple[Sending, ...], tuple[Sending, ...]]


def _differences(was: Decision, would: Decision) -> _Three:
    """What stays, what goes and what comes: the name of a rule does not count, what is sent does."""
    before, after = _sendings(was), _sendings(would)
    stays = Counter(key for key, _ in before) & Counter(key for key, _ in after)
    gone, new = _without(before, stays), _without(after, stays)
    same = _without(after, Counter(key for key, _ in after) - stays)
    return same, gone, new


def _without(sendings: Sequence[tuple[_Key, Sending]], left_out: Counter[_Key]) -> tuple[Sending, ...]:
    left, kept = Counter(left_out), []
    for key, sending in sendings:
        if left[key] > 0:
            left[key] -= 1
        else:
            kept.append(sending)
    return tuple(kept)


def _sendings(decision: Decision) -> list[tuple[_Key, Sending]]:
    to = {(planned.rule, planned.entry): _to(planned) for planned in decision.deliveries}
    found = []
    for planned in decision.deliveries:
        after = "" if planned.waits_for is None else to[planned.rule, planned.waits_for]
        sending = Sending(
            planned.rule_name, _to(planned), len(planned.instances), after, planned.held, planned.priority.word
        )
        files = frozenset(each.path for each in planned.instances)
        found.append(((sending.to, after, planned.held, sending.priority, files), sending))
    return found


def _to(planned: PlannedDelivery) -> str:
    """Of a group the group: which member gets it depends on how they stand at that moment."""
    return f"{planned.choice.group} (group)" if planned.choice else str(planned.destination)
