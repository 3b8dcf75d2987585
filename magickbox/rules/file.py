"""Reads the routing JSON: from text to Rules, or to sentences that say exactly what is wrong.

Its names (AETitleIn, which, break ...) are the original's and end here; beyond this module rules speak the field's
words.
"""

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from magickbox.delivery import Priority
from magickbox.errors import ConfigError
from magickbox.positionedjson import Document, NotJson, Path, read
from magickbox.resultcheck import CHECKS
from magickbox.routing import Endpoint, InstanceFilter, Pattern, Rule, Rules, TagTest, pattern
from magickbox.rules.check import Finding, Problem, located, problems, told
from magickbox.rules.destinations import Translator, groups, is_group, policy
from magickbox.tagpath import parse_tag_path

LARGEST = 1024 * 1024
EMPTY = """{
  // Where results go: one object { ... } for each rule, looked at from top to bottom.
  // docs/routing.md explains every key, routing.example.json shows rules that work. A rule looks like this:
  //
  // {
  //   "name": "Results of ProcRSI to the PACS",
  //   "AETitleIn": "ProcRSI",
  //   "send": [ { "success": { "IP": "10.0.0.5", "PORT": 104, "AETitleSender": "MAGICKBOX", "AETitleTo": "PACS" } } ]
  // }
  "routing": []
}
"""

EMPTY_FILE = 'the file is empty, expected { "routing": [ ... ] }'

_YES = ("1", "true", "t")
_USUAL = ("success", "failed", "partial", "none")
# A repetition of a group that ends in, or holds, another one: such a pattern can take for ever on some texts.
_NESTED_REPETITION = re.compile(r"\((?:[^()\\]|\\.)*(?:[+*]|\{\d+,\})(?:[^()\\]|\\.)*\)(?:[+*]|\{\d+,\})")


class RulesRefused(ConfigError):
    """A routing file cannot be used; ``problems`` has a line for each thing that is wrong, the most telling first."""

    def __init__(self, *problems: str) -> None:
        """Keep all, say the first."""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = problems


def load(path: FilePath, me: str | None = None, me_port: int | None = None) -> Rules:
    """The rules of a file; raises RulesRefused if they cannot be used, OSError if the file cannot be read."""
    return parse(read_text(path), str(path), me, me_port)


def read_text(path: FilePath) -> str:
    """The text of a routing file, byte order mark left out; raises RulesRefused if it is too large or no text."""
    with path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    return decode(raw, str(path))


def decode(raw: bytes, source: str) -> str:
    """The text of a routing file's bytes; raises RulesRefused."""
    if len(raw) > LARGEST:
        raise RulesRefused(f"{source}: larger than {LARGEST} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise RulesRefused(f"{source}, line {line}: not UTF-8 text at byte {exc.start}") from None


def parse(text: str, source: str, me: str | None = None, me_port: int | None = None) -> Rules:
    """The rules that a text holds; ``$me`` and ``$port`` in it stand for ``me`` and ``me_port``.

    ``source`` is what errors call the text. Raises RulesRefused with every problem found.
    """
    if not text.strip():
        raise RulesRefused(f"{source}, line 1, column 1: {EMPTY_FILE}")
    try:
        document = read(text)
    except NotJson as exc:
        raise RulesRefused(told(Problem((), exc.offset, exc.said), Document(text), source)) from None
    if found := problems(document, me, me_port):
        raise RulesRefused(*(told(problem, document, source) for problem in found))
    translation = _Translation(document.value.get("destinations", {}), me, me_port)
    rules = tuple(translation.rule(number, each) for number, each in enumerate(document.value["routing"]))
    unwise = tuple(told(problem, document, source) for problem in _unwise(document))
    return Rules(
        rules,
        hashlib.sha256(text.encode()).hexdigest(),
        unwise,
        translation.named,
        translation.policies,
        translation.groups,
    )


def findings(text: str, me: str | None = None, me_port: int | None = None) -> list[Finding]:
    """What is wrong with a text of rules, or unwise in one that can be used: what an editor shows while one types."""
    if not text.strip():
        return [Finding(1, 1, "", EMPTY_FILE)]
    try:
        document = read(text)
    except NotJson as exc:
        return [located(Problem((), exc.offset, exc.said), Document(text))]
    if found := problems(document, me, me_port):
        return [located(problem, document) for problem in found]
    return [located(problem, document, warning=True) for problem in _unwise(document)]


class _Translation:
    """Turns what the check has found right into the field's words."""

    def __init__(self, named: Mapping[str, Any], me: str | None, me_port: int | None) -> None:
        self._destination = Translator(me, me_port).destination
        plain = {name: value for name, value in named.items() if not is_group(value)}
        self.named = {name: self._destination(value, name) for name, value in plain.items()}
        self.policies = {name: policy(value) for name, value in plain.items()}
        self.groups = groups(named, self.named)

    def rule(self, number: int, value: Mapping[str, Any]) -> Rule:
        return Rule(
            name=value.get("name") or f"rule {number + 1}",
            endpoints=tuple(
                self._endpoint(outcome, {"priority": value.get("priority", "normal"), **entry})
                for entries in value["send"]
                for outcome, entry in entries.items()
            ),
            called_ae=_pattern_or_none(value.get("AETitleIn")),
            calling_ae=_pattern_or_none(value.get("AETitleFrom")),
            directory=value.get("RouteDirectory", "OUTPUT"),
            off=next((key for key in ("status", "enabled") if not _yes(value.get(key, 1))), ""),
            last=_yes(value.get("break", 0)),
            checks=tuple(key for key in CHECKS if _yes(value.get("check", {}).get(key, 0))),
        )

    def _endpoint(self, outcome: str, value: Mapping[str, Any]) -> Endpoint:
        filters = tuple(_filter(each) for each in value.get("which", ()))
        destination = {**self.named, **self.groups}[value["to"]] if "to" in value else self._destination(value)
        priority = Priority[value["priority"].upper()]
        return Endpoint(pattern(outcome), destination, _yes(value.get("break", 0)), filters, priority)


def _pattern_or_none(text: str | None) -> Pattern | None:
    return None if text is None else pattern(text)


def _filter(tests: Mapping[str, str]) -> InstanceFilter:
    return InstanceFilter(tuple(TagTest(parse_tag_path(tag), pattern(regex)) for tag, regex in tests.items()))


def _yes(flag: object) -> bool:
    return str(flag).casefold() in _YES


def _unwise(document: Document) -> Iterator[Problem]:
    """What is allowed but hardly meant."""
    for number, rule in enumerate(document.value["routing"]):
        for place, entries in enumerate(rule["send"]):
            for key in entries:
                path: Path = ("routing", number, "send", place, key)
                near = difflib.get_close_matches(key, _USUAL, n=1, cutoff=0.75)
                if near and key.isalpha() and key.casefold() not in _USUAL:
                    yield Problem(path, document.keys[path], f"no usual outcome, did you mean '{near[0]}'?")
    for path, place in document.values.items():
        for text in (*path[-1:], _at(document.value, path)):
            if isinstance(text, str) and _NESTED_REPETITION.search(text):
                yield Problem(path, place, "a repetition within a repetition can take for ever on some texts")


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value
