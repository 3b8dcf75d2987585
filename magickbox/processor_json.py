"""Reading a processor.json: from text to a Processor, or to sentences that say exactly what is wrong."""

import difflib
import functools
import json
import os
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError

from magickbox.association import title_problem
from magickbox.processor import Group, Late, Processor

FILE = "processor.json"
LARGEST = 1024 * 1024
INTERPRETER = re.compile(r"(python|perl|ruby|lua)[0-9.]*|(ba|da|k|z)?sh|Rscript|node|octave|julia")
KINDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}
LIMITS = {
    "exclusiveMinimum": "more than {}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} character",
    "maxLength": "at most {} characters",
    "minItems": "at least {} element",
}


class Wrong(Exception):
    """A processor.json cannot be used; ``problems`` are sentences for a person."""

    def __init__(self, *problems: str) -> None:
        """Keep the sentences, each with its place."""
        super().__init__("; ".join(problems))
        self.problems = problems


@functools.cache
def validator() -> Draft202012Validator:
    """The schema of processor.json, ready to be asked."""
    text = resources.files("magickbox").joinpath("processor.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def read_processor_json(folder: Path, name: str) -> Processor:
    """The Processor that ``folder`` declares, its ``digest`` still empty; ``name`` is used if it gives none.

    Raises Wrong with every problem found, OSError if the file cannot be read.
    """
    text = _text(folder / FILE)
    value = _parsed(text)
    problems = [said for error in validator().iter_errors(value) for said in _sentences(error, text)]
    if problems:
        raise Wrong(*problems)
    command, wrong = _command(folder, value)
    called_ae, also_wrong = _called_ae(value, value.get("name", name))
    if wrong or also_wrong:
        raise Wrong(
            *(f"{FILE}{_line(text, key.partition('[')[0])}, $.{key}: {said}" for key, said in (*wrong, *also_wrong))
        )
    return _processor(folder, value.get("name", name), command, called_ae, value)


def pattern_of(name: str) -> str:
    """The AE title pattern that takes exactly ``name``."""
    return name if re.fullmatch(r"[A-Za-z0-9_ -]*", name) else re.escape(name)


def parse_object(text: str) -> dict[str, Any]:
    """The object that a JSON text holds; raises ValueError if it is no JSON, no object, or names a key twice."""
    value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise ValueError("expected an object: { ... }")
    return value


def _text(path: Path) -> str:
    with open(path, "rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise Wrong(f"{FILE}: larger than {LARGEST} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise Wrong(f"{FILE}: not UTF-8 text at byte {exc.start}") from None


def _parsed(text: str) -> dict[str, Any]:
    if not text.strip():
        raise Wrong(f"{FILE}: empty, expected an object: {{ ... }}")
    try:
        value = parse_object(text)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text that could be used
        return value
    except json.JSONDecodeError as exc:
        raise Wrong(f"{FILE}, line {exc.lineno}, column {exc.colno}: not JSON: {exc.msg}") from None
    except (ValueError, RecursionError) as exc:
        raise Wrong(f"{FILE}: {exc}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"the key '{twice}' is there twice")
    return dict(pairs)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not a JSON number")


def _sentences(error: ValidationError, text: str) -> Iterator[str]:
    keys = [str(part) for part in error.absolute_path if isinstance(part, str)]
    if error.validator == "additionalProperties":
        known = list(cast(dict[str, Any], error.schema)["properties"])
        for key in sorted(set(cast(dict[str, Any], error.instance)) - set(known)):
            near = difflib.get_close_matches(key, known, n=1)
            said = f"unknown key, did you mean '{near[0]}'?" if near else f"unknown key; known are {', '.join(known)}"
            yield f"{FILE}{_line(text, key)}, {error.json_path}.{key}: {said}"
        return
    found = json.dumps(error.instance, ensure_ascii=False)
    found = found if len(found) <= 60 else f"{found[:57]}..."
    yield f"{FILE}{_line(text, *keys[-1:])}, {error.json_path}: expected {_expected(error)}, found {found}"


def _expected(error: ValidationError) -> str:
    if error.validator == "type":
        return KINDS[str(error.validator_value)]
    if error.validator == "enum":
        return " or ".join(json.dumps(value) for value in cast(list[str], error.validator_value))
    if error.validator in LIMITS:
        return LIMITS[str(error.validator)].format(error.validator_value)
    return str(cast(dict[str, Any], error.schema)["description"])  # each pattern of the schema has one


def _line(text: str, *keys: str) -> str:
    """Where a key stands, as ``, line 3``; empty if that is not certain."""
    places = [found for key in keys for found in re.finditer(re.escape(json.dumps(key)) + r"\s*:", text)]
    return f", line {text.count(chr(10), 0, places[0].start()) + 1}" if len(places) == 1 else ""


Wrongs = list[tuple[str, str]]


def _command(folder: Path, value: dict[str, Any]) -> tuple[tuple[str, ...], Wrongs]:
    """The command with its files made absolute, and what is wrong with it as (key, sentence)."""
    if "image" in value:
        both = "give either a command or an image" if "command" in value else ""
        return (), [("image", both or "containers are not supported by this version")]
    if "command" not in value:
        return (), [("command", 'missing; for example "command": ["./run.sh"]')]
    parts = value["command"]
    problems = [(f"command[{index}]", _element_problem(folder, index, parts)) for index in range(len(parts))]
    return tuple(_absolute(folder, part) for part in parts), [(key, said) for key, said in problems if said]


def _absolute(folder: Path, part: str) -> str:
    return os.path.normpath(folder.absolute() / part) if part.startswith("./") else part


def _element_problem(folder: Path, index: int, command: list[str]) -> str | None:
    part = command[index]
    if not part.startswith("./"):
        if index == 0 and "/" in part and not part.startswith("/"):
            return f"'{part}' is looked for in the job's folder; write './{part}' for a file of this folder"
        if index == 1 and INTERPRETER.fullmatch(os.path.basename(command[0])) and (folder / part).is_file():
            return f"'{part}' is looked for in the job's folder; write './{part}' for the file of this folder"
        return None
    if os.path.normpath(part).split(os.sep)[0] == "..":
        return f"'{part}' leaves the processor's folder"
    path = folder / part
    if not path.exists():
        return f"'{part}' does not exist in the processor's folder"
    if index == 0 and not (path.is_file() and os.access(path, os.X_OK)):
        return f"'{part}' is not an executable file (chmod +x)"
    return None


def _called_ae(value: dict[str, Any], name: str) -> tuple[str, Wrongs]:
    if "AETitle" not in value:
        problem = title_problem(name)
        return pattern_of(name), [("name", f"'{name}' is the AE title too: {problem}; or give AETitle")] * bool(problem)
    try:
        re.compile(value["AETitle"], re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as exc:
        return "", [("AETitle", f"not a regular expression: {exc}")]
    return value["AETitle"], []


def _processor(folder: Path, name: str, command: tuple[str, ...], called_ae: str, value: dict[str, Any]) -> Processor:
    timeout, settle, max_wait = (
        float(value[key]) if key in value else None for key in ("timeout", "settle", "max_wait")
    )
    return Processor(
        name=name,
        folder=folder.absolute(),
        command=command,
        called_ae=called_ae,
        description=value.get("description", ""),
        version=value.get("version", ""),
        enabled=value.get("enabled", True),
        timeout=timeout,
        environment=tuple(value.get("environment", {}).items()),
        resources=tuple(value.get("resources", {}).items()),
        group=Group(value["group"]) if "group" in value else None,
        settle=settle,
        max_wait=max_wait,
        late=Late(value["late"]) if "late" in value else None,
    )
