"""Finds everything that is wrong with a routing file, each with its place and what was expected instead.

``routing.schema.json`` says what may stand where; what a schema cannot say (hosts, tags, AE titles, placeholders) are
formats of its checker.
"""

import difflib
import functools
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

import regex
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from magickbox.association import title_problem
from magickbox.destination import SENDER
from magickbox.positionedjson import Document, Path, path_text
from magickbox.routing import pattern
from magickbox.rules import destinations
from magickbox.rules.destinations import ME, MY_PORT
from magickbox.tagpath import parse_tag_path

SCHEMA = "routing.schema.json"

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_LOOKS_LIKE_ADDRESS = re.compile(r"[0-9.]+|.*:.*")
_SHOWN = 60


@dataclass(frozen=True)
class Problem:
    """Something wrong: where (path, and offset into the text), and a sentence."""

    path: Path
    offset: int
    said: str


@dataclass(frozen=True)
class Finding:
    """The same for who looks at the text: line and column from 1, the path as people write it.

    A ``warning`` is about what is allowed but seems unwise.
    """

    line: int
    column: int
    where: str
    said: str
    warning: bool = False


class WrongPattern(ValueError):
    """A regular expression does not compile; ``position`` is the character at which."""

    def __init__(self, error: re.error | regex.error | OverflowError | RecursionError) -> None:
        """Say it in a sentence."""
        self.position = getattr(error, "pos", None) or 0
        super().__init__(
            f"not a regular expression: {getattr(error, 'msg', error)} (at its character {self.position + 1})"
        )


@functools.cache
def schema() -> Mapping[str, Any]:
    """The JSON Schema of routing files."""
    value: Mapping[str, Any] = json.loads(resources.files("magickbox").joinpath(SCHEMA).read_text(encoding="utf-8"))
    return value


def problems(document: Document, me: str | None, me_port: int | None) -> list[Problem]:
    """Everything that is wrong, the most telling first; ``me`` and ``me_port`` are what placeholders stand for."""
    validator = Draft202012Validator(dict(schema()), format_checker=_checker(me, me_port))
    repeated = [Problem(path, place, "this key is there twice") for path, place in document.repeated]
    found = [problem for error in validator.iter_errors(document.value) for problem in _problems_of(error, document)]
    found += [Problem(path, document.values[path], said) for path, said in destinations.problems(document.value)]
    return repeated + sorted(found, key=lambda problem: (not problem.said.startswith("unknown"), problem.offset))


def is_port(value: object) -> bool:
    """True for a port as a number or a text."""
    number = str(value)
    return number.isascii() and number.isdigit() and len(number) <= 5 and 1 <= int(number) <= 65535


def _checker(me: str | None, me_port: int | None) -> FormatChecker:
    """The formats of the schema; each says what is wrong by a ValueError."""
    checker = FormatChecker(formats=())

    def host(value: object) -> bool:
        if value == ME and not me:
            raise ValueError("the setting 'me' is not set, which $me stands for")
        return value in (ME, SENDER) or (isinstance(value, str) and _is_host(value))

    def port(value: object) -> bool:
        if value == MY_PORT and not me_port:
            raise ValueError("the setting 'me_port' is not set, which $port stands for")
        return not isinstance(value, str) or value == MY_PORT or is_port(value)

    checkers = {
        "host": host,
        "port": port,
        "ae-title": _title,
        "regex": _pattern,
        "tag-path": _tag,
        "route-directory": _directory,
        **destinations.FORMATS,
    }
    for name, check in checkers.items():
        checker.checks(name, raises=ValueError)(check)
    return checker


def _is_host(text: str) -> bool:
    if not _LOOKS_LIKE_ADDRESS.fullmatch(text):
        return _HOST.fullmatch(text) is not None and len(text) <= 253
    ipaddress.ip_address(text)
    return True


def _title(value: object) -> bool:
    problem = title_problem(value) if isinstance(value, str) else None
    if problem:
        raise ValueError(problem)
    return True


def _pattern(value: object) -> bool:
    if isinstance(value, str):
        try:
            pattern(value)
        except (re.error, regex.error, OverflowError, RecursionError) as exc:
            raise WrongPattern(exc) from None
    return True


def _tag(value: object) -> bool:
    parse_tag_path(str(value))
    return True


def _directory(value: object) -> bool:
    if not isinstance(value, str):
        return True
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("it leaves the job's folder")
    if "\\" in value or not value.isprintable() or any(part in ("", ".") for part in value.split("/")):
        raise ValueError("folders are separated by one /, with nothing empty or . between")
    return True


def _problems_of(error: ValidationError, document: Document) -> Iterator[Problem]:
    path: Path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        yield from (Problem((*path, key), document.keys[(*path, key)], said) for key, said in _unknown_keys(error))
    elif error.validator == "required":
        yield from (Problem(path, document.values[path], said) for said in _missing_key(error))
    elif error.validator == "dependentRequired":
        wanting, wanted = re.findall(r"'(\w+)'", error.message)[1::-1][:2]
        yield Problem(path, document.values[path], f"'{wanting}' needs '{wanted}' beside it")
    elif "propertyNames" in error.absolute_schema_path:
        here = (*path, str(error.instance))
        yield Problem(
            here, _offset(error, document.keys[here], document), f"expected {_expected(error)}{_cause(error)}"
        )
    else:
        found = "" if _schema_at(error).get("format") in destinations.MASKED else f", found {_found(error.instance)}"
        said = f"expected {_expected(error)}{found}{_cause(error)}"
        yield Problem(path, _offset(error, document.values[path], document), said)


def _missing_key(error: ValidationError) -> Iterator[str]:
    """What to say about a missing key; nothing if it stands there misspelt, which is said already."""
    quoted = re.match(r"'(\w+)'", error.message)  # each missing key makes an error of its own
    for key in [quoted[1]] if quoted else []:
        known = _schema_at(error)["properties"]
        if not difflib.get_close_matches(key, set(_instance(error)) - set(known), n=1):
            yield f"'{key}' is missing: {known[key]['description']}"


def _unknown_keys(error: ValidationError) -> Iterator[tuple[str, str]]:
    known = list(_schema_at(error)["properties"])
    folded = {key.casefold(): key for key in known}
    for key in _instance(error):
        if key not in known:
            near = [folded[key.casefold()]] if key.casefold() in folded else difflib.get_close_matches(key, known, n=1)
            yield (
                key,
                f"unknown key, did you mean '{near[0]}'?" if near else f"unknown key; known are {', '.join(known)}",
            )


def _expected(error: ValidationError) -> str:
    """What the schema describes; what follows its semicolon is advice."""
    return str(_schema_at(error)["description"]).partition(";")[0]


def _schema_at(error: ValidationError) -> dict[str, Any]:
    return cast(dict[str, Any], error.schema)


def _instance(error: ValidationError) -> dict[str, Any]:
    return cast(dict[str, Any], error.instance)


def _cause(error: ValidationError) -> str:
    return f" ({error.cause})" if isinstance(error.cause, ValueError) else ""


def _found(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _offset(error: ValidationError, start: int, document: Document) -> int:
    """Where to point at: into the pattern, if one does not compile."""
    return document.inside_string(start, error.cause.position) if isinstance(error.cause, WrongPattern) else start


def located(problem: Problem, document: Document, warning: bool = False) -> Finding:
    """A problem with its line, column and JSON path."""
    line, column = document.line_and_column(problem.offset)
    return Finding(line, column, path_text(problem.path) if problem.path else "", problem.said, warning)


def told(problem: Problem, document: Document, source: str) -> str:
    """A problem as one line: file, line, column, JSON path, and what was expected."""
    found = located(problem, document)
    where = f", {found.where}" if found.where else ""
    return f"{source}, line {found.line}, column {found.column}{where}: {found.said}"
