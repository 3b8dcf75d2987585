"""What the rules of routing are, in the field's words: Rule, Endpoint, and the filter on instances.

Pure values: reading them from the routing JSON is ``rulefile``'s part, deciding by them is ``decision``'s.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import regex

from magickbox.delivery import Priority
from magickbox.destination import Destination
from magickbox.errors import ConfigError
from magickbox.group import STUDY, Group
from magickbox.queueing import DestinationPolicy, Lane
from magickbox.resultcheck import tags_for
from magickbox.tagpath import TagPath

MAX_TESTED = 1024  # characters of a value that a pattern sees: what a pattern costs grows with them
MATCH_TIME = 1.0  # seconds that one match may take: some patterns never come to an end on some texts

Pattern = regex.Pattern[str]


def pattern(text: str) -> Pattern:
    """Compile a pattern of a rule: in none of them does case matter; raises re.error or regex.error.

    What is taken is the syntax of the standard library's re; the regex package, which reads it too, can end a match
    that takes too long.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about sets that a later Python may read otherwise
        re.compile(text, re.IGNORECASE)
    return regex.compile(text, regex.IGNORECASE | regex.VERSION0)


def search(wanted: Pattern, text: str) -> bool:
    """True if the pattern matches anywhere; raises ConfigError if it does not come to an end."""
    return _in_time(wanted, wanted.search, text)


def _in_time(wanted: Pattern, match: Callable[..., object], text: str) -> bool:
    try:
        return match(text, timeout=MATCH_TIME) is not None
    except TimeoutError:
        raise ConfigError(f"the pattern '{wanted.pattern}' does not come to an end on some value") from None


def matches_whole(title: Pattern | None, text: str) -> bool:
    """True if the pattern matches the whole text, blanks around it left aside; no pattern matches everything."""
    return title is None or _in_time(title, title.fullmatch, text.strip()[:MAX_TESTED])


@dataclass(frozen=True)
class TagTest:
    """One element and the pattern that one of its values must match somewhere."""

    tag: TagPath
    pattern: Pattern

    def matches(self, values: Iterable[str]) -> bool:
        """True if any value does: the whole text of an element, or one of its backslash-separated values."""
        return any(self._matches(text[:MAX_TESTED]) for text in values)

    def _matches(self, text: str) -> bool:
        if search(self.pattern, text):
            return True
        return "\\" in text and any(search(self.pattern, part.strip()) for part in text.split("\\"))


@dataclass(frozen=True)
class InstanceFilter:
    """Tests that must all hold for an instance to be selected."""

    tests: tuple[TagTest, ...]


@dataclass(frozen=True)
class Endpoint:
    """One entry of a rule: for outcomes that match ``outcome``, what is selected goes to ``destination``.

    ``gate`` says that later entries of the rule are its fallback. ``filters`` are alternatives; none select everything.
    """

    outcome: Pattern
    destination: Destination | Group
    gate: bool = False
    filters: tuple[InstanceFilter, ...] = ()
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True)
class Rule:
    """Which jobs it looks at (called and calling AE title), where its instances lie, and where they go.

    ``off`` says what switches it off, empty if nothing does. ``last``: if it matches and an entry applies, later rules
    are not looked at. ``directory`` is relative to the job's folder. ``checks`` are what must be true of the files
    that it would send (``resultcheck``).
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    called_ae: Pattern | None = None
    calling_ae: Pattern | None = None
    directory: str = "OUTPUT"
    off: str = ""
    last: bool = False
    checks: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """True unless something switches the rule off."""
        return not self.off

    @property
    def tags(self) -> frozenset[TagPath]:
        """Every element that its filters and checks look at."""
        filters = (each for endpoint in self.endpoints for each in endpoint.filters)
        for_groups = {STUDY for endpoint in self.endpoints if isinstance(endpoint.destination, Group)}
        return frozenset(test.tag for each in filters for test in each.tests) | tags_for(self.checks) | for_groups


@dataclass(frozen=True)
class Rules:
    """All rules in the order in which they are looked at, and the digest of the text they came from.

    ``warnings`` are sentences about what is allowed but seems unwise; ``destinations`` are those that have names,
    ``policies`` say how each of them wants to be served; ``groups`` are made of them.
    """

    rules: tuple[Rule, ...] = ()
    digest: str = ""
    warnings: tuple[str, ...] = ()
    destinations: Mapping[str, Destination] = field(default_factory=dict, hash=False)
    policies: Mapping[str, DestinationPolicy] = field(default_factory=dict, hash=False)
    groups: Mapping[str, Group] = field(default_factory=dict, hash=False)

    def policy_of(self, lane: Lane) -> DestinationPolicy:
        """How a destination wants to be served; one that goes back to its senders has a queue for each."""
        named = self.policies.get(lane) or self.policies.get(lane.rpartition("@")[0])
        policy = named or DestinationPolicy()
        if any(lane in group.names for group in self.groups.values()):
            return replace(policy, asked=self.destinations[lane].for_job("", "", ""))
        return policy

    def tags_below(self, directory: str) -> frozenset[TagPath]:
        """Every element that some active rule looks at in the files below a directory."""
        return frozenset().union(*(rule.tags for rule in self.rules if rule.active and rule.directory == directory))
