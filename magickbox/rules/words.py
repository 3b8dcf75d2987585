"""Tells a rule in words, for people who do not read JSON."""

from dataclasses import dataclass

from pydicom.datadict import dictionary_description

from magickbox.delivery import Priority
from magickbox.destination import Destination
from magickbox.group import Group
from magickbox.proof import NO_PROOF, WORDS
from magickbox.resultcheck import CHECKS
from magickbox.routing import Endpoint, InstanceFilter, Pattern, Rule
from magickbox.tagpath import TagPath


@dataclass(frozen=True)
class EntryWords:
    """Where a rule sends, and what: ``when`` is the outcome that it wants."""

    when: str
    what: str
    to: str
    then: str = ""


@dataclass(frozen=True)
class RuleWords:
    """A rule: ``off`` says what switches it off, ``jobs`` which jobs it is about, ``more`` what else is to be known."""

    name: str
    off: str
    jobs: str
    entries: tuple[EntryWords, ...]
    more: tuple[str, ...] = ()


def in_words(rule: Rule) -> RuleWords:
    """A rule in words."""
    called = f"sent to {_title(rule.called_ae)}" if rule.called_ae else "sent to any AE title"
    calling = f" by {_title(rule.calling_ae)}" if rule.calling_ae else ""
    more = [f"only if {CHECK_WORDS[check]}" for check in rule.checks]
    more += ["if it sends anything, later rules are not looked at"] if rule.last else []
    return RuleWords(
        rule.name, rule.off, f"jobs {called}{calling}",
        tuple(_entry(rule, number) for number in range(len(rule.endpoints))), tuple(more),
    )  # fmt: skip


CHECK_WORDS = {
    "loads": "each file can be read to its end",
    "uids": "each file has valid UIDs",
    "same_study": "each file is of a study of the input",
    "new_series": "no file is of a series of the input",
    "new_instances": "no file has a SOP Instance UID of the input",
    "unique": "no two files have one SOP Instance UID",
}
assert CHECK_WORDS.keys() == set(CHECKS)


def _entry(rule: Rule, number: int) -> EntryWords:
    entry = rule.endpoints[number]
    what = f"the files of {rule.directory} {_which(entry)}" if entry.filters else f"all files of {rule.directory}"
    gates = [n + 1 for n in range(number) if rule.endpoints[n].gate]
    then = [f"only if entry {gates[-1]} fails"] if gates else []
    then += [] if entry.priority is Priority.NORMAL else [entry.priority.word]
    how = getattr(entry.destination, "verify", NO_PROOF).how
    then += [f"verified by {WORDS[how]}"] if how in WORDS else []
    return EntryWords(_outcome(entry.outcome), what, _to(entry.destination), ", ".join(then))


def _outcome(wanted: Pattern) -> str:
    return "any outcome" if wanted.pattern in (".*", ".+") else wanted.pattern.replace("|", " or ")


def _title(wanted: Pattern) -> str:
    return wanted.pattern.replace("|", " or ")


def _to(destination: Destination | Group) -> str:
    return str(destination).replace("_", " ") if isinstance(destination, Group) else str(destination)


def _which(entry: Endpoint) -> str:
    return "whose " + "; or whose ".join(_all_of(each) for each in entry.filters)


def _all_of(tests: InstanceFilter) -> str:
    return " and ".join(f"{_tag(test.tag)} matches “{test.pattern.pattern}”" for test in tests.tests)


def _tag(tag: TagPath) -> str:
    last = tag.steps[-1]
    known = "" if last.creator else _name(last.tag)
    return f"{known} ({tag})" if known else str(tag)


def _name(tag: int) -> str:
    try:
        return dictionary_description(tag)
    except KeyError:
        return ""
