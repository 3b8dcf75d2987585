"""The routing decision: which rules match a job, which endpoints apply, which instances go where, and why.

Pure: files are seen through ``Look`` only, nothing is performed. A decision is a snapshot that the ledger keeps, so
that editing the rules affects later jobs only.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from magickbox.delivery import Priority
from magickbox.destination import Destination
from magickbox.group import Choice, Pick, aim, pick_without_state
from magickbox.resultcheck import Came, CheckFinding, Damage, examine
from magickbox.routing import Endpoint, InstanceFilter, Rule, Rules, TagTest, matches_whole
from magickbox.tagpath import TagPath

MAX_SHOWN = 20  # distinct values of one element that a decision keeps for its explanation


class Candidate(Protocol):
    """A DICOM file that may be selected; ``path`` is relative to the job's folder."""

    @property
    def path(self) -> str: ...

    @property
    def sop_class(self) -> str: ...

    @property
    def sop_instance(self) -> str: ...

    @property
    def transfer_syntax(self) -> str: ...

    def values(self, tag: TagPath) -> tuple[str, ...]:
        """The text of the element, once for each item it is found in; the empty text if it is absent."""
        ...


@dataclass(frozen=True)
class Listing:
    """What lies below a directory: the candidates in a fixed order, and what was left out.

    ``other`` counts files without DICM prefix and links that leave the job; ``unreadable`` names DICOM files (path,
    reason) whose header cannot be read, so that they cannot be sent; ``notes`` (path, reason) what could not be looked
    at in a candidate. ``missing`` says that there is no such directory.
    """

    files: tuple[Candidate, ...] = ()
    other: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    missing: bool = False


Look = Callable[[str, frozenset[TagPath]], Listing]
"""Lists a directory of the job, given the elements that will be asked for."""


@dataclass(frozen=True)
class Facts:
    """What the rules look at besides the files."""

    called_ae: str
    calling_ae: str
    outcome: str
    sender: str = ""  # the address that the original came from
    came: Came = field(default_factory=Came)


class Verdict(StrEnum):
    """Why a rule or an endpoint does or does not take part."""

    MATCHED = "matched"
    OFF = "switched off"
    OTHER_CALLED_AE = "called AE does not match"
    OTHER_CALLING_AE = "calling AE does not match"
    NOT_REACHED = "not looked at"
    APPLIES = "applies"
    OTHER_OUTCOME = "outcome does not match"
    NOTHING_SELECTED = "nothing selected"


@dataclass(frozen=True)
class TestFinding:
    """What one test saw: the values (most frequent first, at most MAX_SHOWN) with how many files have them."""

    test: TagTest
    matching: int
    values: tuple[tuple[str, int, bool], ...]
    distinct: int

    __test__ = False  # not a test of pytest's


@dataclass(frozen=True)
class FilterFinding:
    """What one filter saw: how many files pass all its tests, and what each test saw."""

    matching: int
    tests: tuple[TestFinding, ...]


@dataclass(frozen=True)
class EndpointFinding:
    """Why an endpoint applies or not; ``selected`` is what it takes of ``candidates`` files, ``repeats`` left aside.

    A repeat is a file whose SOP Instance UID is already selected: it is sent once.
    """

    index: int
    endpoint: Endpoint
    verdict: Verdict
    candidates: int = 0
    filters: tuple[FilterFinding, ...] = ()
    selected: tuple[Candidate, ...] = ()
    repeats: int = 0


@dataclass(frozen=True)
class RuleFinding:
    """Why a rule matched or not; ``ended_by`` is the index of the earlier rule that let no later ones be looked at.

    ``failed`` are its checks that did not pass: nothing of it is sent then.
    """

    index: int
    rule: Rule
    verdict: Verdict
    endpoints: tuple[EndpointFinding, ...] = ()
    listing: Listing | None = None
    ended_by: int | None = None
    failed: tuple[CheckFinding, ...] = ()

    @property
    def applies(self) -> bool:
        """True if something is to be delivered by it."""
        return any(each.verdict is Verdict.APPLIES for each in self.endpoints)


@dataclass(frozen=True)
class PlannedDelivery:
    """Instances that are to go to a destination.

    ``waits_for`` is the entry of the same rule that gates it: it starts when that one fails, is skipped when that one
    delivers or is itself skipped; None starts now. ``has_fallback`` says that it is a gate some later entry waits for.
    """

    rule: int
    rule_name: str
    entry: int
    destination: Destination
    gate: bool
    waits_for: int | None
    has_fallback: bool
    instances: tuple[Candidate, ...]
    held: str = ""  # why it is not to be sent
    priority: Priority = Priority.NORMAL
    choice: Choice | None = None  # of a member, if it is for a group


@dataclass(frozen=True)
class Decision:
    """Everything that was looked at, and what is to be done; ``digest`` is that of the rules."""

    facts: Facts
    digest: str
    rules: tuple[RuleFinding, ...]
    deliveries: tuple[PlannedDelivery, ...]


def decide(
    rules: Rules, facts: Facts, look: Look, damage: Damage = lambda _: "", pick: Pick = pick_without_state
) -> Decision:
    """Decide by the rules what is to be done with a job whose processing has ended."""
    listings: dict[str, Listing] = {}

    def listing_of(directory: str) -> Listing:
        if directory not in listings:
            listings[directory] = look(directory, rules.tags_below(directory))
        return listings[directory]

    findings: list[RuleFinding] = []
    ended_by: int | None = None
    for index, rule in enumerate(rules.rules):
        if ended_by is not None:
            finding = RuleFinding(index, rule, Verdict.NOT_REACHED, ended_by=ended_by)
        elif (verdict := _judge(rule, facts)) is not Verdict.MATCHED:
            finding = RuleFinding(index, rule, verdict)
        else:
            finding = _check(_look_at(index, rule, facts, listing_of), facts, damage)
        if rule.last and finding.applies:
            ended_by = index
        findings.append(finding)
    deliveries = tuple(delivery for finding in findings for delivery in _plan(finding, facts, pick))
    return Decision(facts, rules.digest, tuple(findings), deliveries)


def _judge(rule: Rule, facts: Facts) -> Verdict:
    if not rule.active:
        return Verdict.OFF
    if not matches_whole(rule.called_ae, facts.called_ae):
        return Verdict.OTHER_CALLED_AE
    if not matches_whole(rule.calling_ae, facts.calling_ae):
        return Verdict.OTHER_CALLING_AE
    return Verdict.MATCHED


def _look_at(index: int, rule: Rule, facts: Facts, listing_of: Callable[[str], Listing]) -> RuleFinding:
    """The finding on a rule that matches; the files are listed only if an endpoint wants the outcome."""
    wanting = [matches_whole(endpoint.outcome, facts.outcome) for endpoint in rule.endpoints]
    listing = listing_of(rule.directory) if any(wanting) else None
    endpoints = tuple(
        _select(number, endpoint, listing.files)
        if wants and listing is not None
        else EndpointFinding(number, endpoint, Verdict.OTHER_OUTCOME)
        for number, (endpoint, wants) in enumerate(zip(rule.endpoints, wanting, strict=True))
    )
    return RuleFinding(index, rule, Verdict.MATCHED, endpoints, listing)


def _check(finding: RuleFinding, facts: Facts, damage: Damage) -> RuleFinding:
    applying = [each for each in finding.endpoints if each.verdict is Verdict.APPLIES]
    if not finding.rule.checks or finding.listing is None or not (applying or finding.listing.unreadable):
        return finding
    files = (file for each in applying for file in each.selected)
    repeats, unreadable = max((each.repeats for each in applying), default=0), dict(finding.listing.unreadable)
    return replace(finding, failed=examine(finding.rule.checks, files, repeats, unreadable, facts.came, damage))


def _select(index: int, endpoint: Endpoint, files: Sequence[Candidate]) -> EndpointFinding:
    passing: set[int] = set(range(len(files))) if not endpoint.filters else set()
    findings = []
    for each in endpoint.filters:
        finding, passed = _try_filter(each, files)
        findings.append(finding)
        passing |= passed
    chosen = [files[number] for number in sorted(passing)]
    unique = {candidate.sop_instance: candidate for candidate in reversed(chosen)}
    selected = tuple(candidate for candidate in chosen if unique[candidate.sop_instance] is candidate)
    verdict = Verdict.APPLIES if selected else Verdict.NOTHING_SELECTED
    repeats = len(chosen) - len(selected)
    return EndpointFinding(index, endpoint, verdict, len(files), tuple(findings), selected, repeats)


def _try_filter(instance_filter: InstanceFilter, files: Sequence[Candidate]) -> tuple[FilterFinding, set[int]]:
    passing = set(range(len(files)))
    findings = []
    for test in instance_filter.tests:
        finding, passed = _try_test(test, files)
        findings.append(finding)
        passing &= passed
    return FilterFinding(len(passing), tuple(findings)), passing


def _try_test(test: TagTest, files: Sequence[Candidate]) -> tuple[TestFinding, set[int]]:
    """Test every file; a value that many files share is tested once."""
    seen: Counter[tuple[str, ...]] = Counter()
    verdicts: dict[tuple[str, ...], bool] = {}
    passed = set()
    for number, candidate in enumerate(files):
        values = candidate.values(test.tag)
        seen[values] += 1
        if values not in verdicts:
            verdicts[values] = test.matches(values)
        if verdicts[values]:
            passed.add(number)
    shown = tuple((" | ".join(values), count, verdicts[values]) for values, count in seen.most_common(MAX_SHOWN))
    return TestFinding(test, len(passed), shown, len(seen)), passed


def _plan(finding: RuleFinding, facts: Facts, pick: Pick) -> list[PlannedDelivery]:
    """The deliveries of a rule, each gated by the nearest applying gate before it."""
    applying = [each for each in finding.endpoints if each.verdict is Verdict.APPLIES]
    planned: list[PlannedDelivery] = []
    gate: int | None = None
    for each in applying:
        destination, choice = aim(each.endpoint.destination, each.selected, pick)
        planned.append(
            PlannedDelivery(
                rule=finding.index,
                rule_name=finding.rule.name,
                entry=each.index,
                destination=destination.for_job(facts.calling_ae, facts.called_ae, facts.sender),
                gate=each.endpoint.gate,
                waits_for=gate,
                has_fallback=each.endpoint.gate and each is not applying[-1],
                instances=each.selected,
                held="; ".join(map(str, finding.failed)),
                priority=each.endpoint.priority,
                choice=choice,
            )
        )
        gate = each.index if each.endpoint.gate else gate
    return planned
