"""What the rules of routing are, in the field's words: Rule, Endpoint, and the filter on instances.

Pure values: reading them from the routing JSON is ``rulefile``'s part, deciding by them is ``decision``'s.
"""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from magickbox.destination import DicomDestination
from magickbox.tagpath import TagPath

MAX_TESTED = 1024  # characters of a value that a pattern sees: what a pattern costs grows with them


def pattern(text: str) -> re.Pattern[str]:
    """Compile a pattern of a rule: in none of them does case matter; raises re.error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about sets that a later Python may read otherwise
        return re.compile(text, re.IGNORECASE)


def matches_whole(title: re.Pattern[str] | None, text: str) -> bool:
    """True if the pattern matches the whole text, blanks around it left aside; no pattern matches everything."""
    return title is None or title.fullmatch(text.strip()) is not None


@dataclass(frozen=True)
class TagTest:
    """One element and the pattern that one of its values must match somewhere."""

    tag: TagPath
    pattern: re.Pattern[str]

    def matches(self, values: Iterable[str]) -> bool:
        """True if any value does: the whole text of an element, or one of its backslash-separated values."""
        return any(self._matches(text[:MAX_TESTED]) for text in values)

    def _matches(self, text: str) -> bool:
        if self.pattern.search(text) is not None:
            return True
        return "\\" in text and any(self.pattern.search(part.strip()) for part in text.split("\\"))


@dataclass(frozen=True)
class InstanceFilter:
    """Tests that must all hold for an instance to be selected."""

    tests: tuple[TagTest, ...]


@dataclass(frozen=True)
class Endpoint:
    """One entry of a rule: for outcomes that match ``outcome``, what is selected goes to ``destination``.

    ``gate`` says that later entries of the rule are its fallback. ``filters`` are alternatives; none select everything.
    """

    outcome: re.Pattern[str]
    destination: DicomDestination
    gate: bool = False
    filters: tuple[InstanceFilter, ...] = ()


@dataclass(frozen=True)
class Rule:
    """Which jobs it looks at (called and calling AE title), where its instances lie, and where they go.

    ``off`` says what switches it off, empty if nothing does. ``last``: if it matches and an entry applies, later rules
    are not looked at. ``directory`` is relative to the job's folder.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    called_ae: re.Pattern[str] | None = None
    calling_ae: re.Pattern[str] | None = None
    directory: str = "OUTPUT"
    off: str = ""
    last: bool = False

    @property
    def active(self) -> bool:
        """True unless something switches the rule off."""
        return not self.off

    @property
    def tags(self) -> frozenset[TagPath]:
        """Every element that its filters look at."""
        filters = (each for endpoint in self.endpoints for each in endpoint.filters)
        return frozenset(test.tag for each in filters for test in each.tests)


@dataclass(frozen=True)
class Rules:
    """All rules in the order in which they are looked at, and the digest of the text they came from.

    ``warnings`` are sentences about what is allowed but seems unwise.
    """

    rules: tuple[Rule, ...] = ()
    digest: str = ""
    warnings: tuple[str, ...] = ()

    def tags_below(self, directory: str) -> frozenset[TagPath]:
        """Every element that some active rule looks at in the files below a directory."""
        return frozenset().union(*(rule.tags for rule in self.rules if rule.active and rule.directory == directory))
