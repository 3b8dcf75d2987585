"""Reading a processor.json: from text to a Processor, or to sentences that say exactly what is wrong."""

import difflib
import functools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError

from magickbox.association import title_problem
from magickbox.dropins.chains import labels, step_problems
from magickbox.dropins.files import first_bytes, line_end_problem
from magickbox.job import JobPriority
from magickbox.positionedjson import Document, NotJson, read
from magickbox.positionedjson import Path as Place
from magickbox.processor import IN_IMAGE, ChainStep, Group, Late, Processor
from magickbox.retry import PAUSE, Retry
from magickbox.rules.check import Problem, told
from magickbox.schedule import read_hours

FILE = "processor.json"
LARGEST = 1024 * 1024
SHOWN = 60
COUNTED = ("gpus", "processes")  # resources that are whole numbers
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
    "maxItems": "at most {} elements",
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
    document = _document(folder / FILE)
    problems = [Problem(path, place, "this key is there twice") for path, place in document.repeated]
    problems += [problem for error in validator().iter_errors(document.value) for problem in _of(error, document)]
    if not problems:  # only what has the right shape can be looked at closer
        problems = [*_command_problems(folder, document), *_title_problems(document, name), *_hours_problems(document)]
    if problems:
        raise Wrong(*(told(problem, document, FILE) for problem in sorted(problems, key=lambda each: each.offset)))
    return _processor(folder, name, document.value)


def pattern_of(name: str) -> str:
    """The AE title pattern that takes exactly ``name``."""
    return name if re.fullmatch(r"[A-Za-z0-9_ -]*", name) else re.escape(name)


def _document(path: Path) -> Document:
    with open(path, "rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise Wrong(f"{FILE}: larger than {LARGEST} bytes")
    if not raw.strip():
        raise Wrong(f"{FILE}: the file is empty, expected {{ ... }}")
    try:
        text = raw.decode("utf-8-sig")
        return read(text)
    except UnicodeDecodeError as exc:
        raise Wrong(f"{FILE}: not UTF-8 text at byte {exc.start}") from None
    except NotJson as exc:
        raise Wrong(told(Problem((), exc.offset, exc.said), Document(text), FILE)) from None


def _of(error: ValidationError, document: Document) -> Iterator[Problem]:
    path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(cast(dict[str, Any], error.schema)["properties"])
        for key in cast(dict[str, Any], error.instance):
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                said = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
                yield Problem((*path, key), document.keys[(*path, key)], f"unknown key, {said}")
    elif error.validator == "required":
        missing = error.message.split("'")[1]
        yield Problem(path, document.values[path], f"'{missing}' is missing")
    elif "propertyNames" in error.absolute_schema_path:
        here = (*path, str(error.instance))
        yield Problem(here, document.keys[here], f"expected {_expected(error)}")
    else:
        found = json.dumps(error.instance, ensure_ascii=False)
        found = found if len(found) <= SHOWN else f"{found[: SHOWN - 3]}..."
        yield Problem(path, document.values[path], f"expected {_expected(error)}, found {found}")


def _expected(error: ValidationError) -> str:
    if error.validator == "type":
        return KINDS[str(error.validator_value)]
    if error.validator == "enum":
        return " or ".join(json.dumps(value) for value in cast(list[str], error.validator_value))
    if error.validator in LIMITS:
        return LIMITS[str(error.validator)].format(error.validator_value)
    return str(cast(dict[str, Any], error.schema)["description"]).partition(";")[0]  # each pattern has one


def _command_problems(folder: Path, document: Document) -> Iterator[Problem]:
    value: dict[str, Any] = document.value
    if "steps" not in value:
        yield from run_problems(folder, document)
    else:
        yield from step_problems(document)
        for index, step in enumerate(value["steps"]):
            if "processor" not in step:
                yield from run_problems(folder, document, ("steps", index))


def run_problems(folder: Path, document: Document, at: Place = ()) -> Iterator[Problem]:
    """What is wrong with the command and the image of the object at ``at``: the whole, or a step."""
    value: dict[str, Any] = document.value["steps"][at[1]] if at else document.value
    in_image = "image" in value
    if "image_archive" in value:
        yield from _archive_problems(folder, document, value, at)
    if "command" not in value and not in_image:
        yield Problem((*at, "command"), document.values[at], 'missing; for example "command": ["./run.sh"]')
    for index in range(len(value.get("command", ()))):
        if (problem := _element_problem(folder, index, value["command"], in_image)) is not None:
            path = (*at, "command", index)
            yield Problem(path, document.values[path], problem)


def _archive_problems(folder: Path, document: Document, value: dict[str, Any], at: Place) -> Iterator[Problem]:
    part, path = value["image_archive"], (*at, "image_archive")
    if "image" not in value:
        yield Problem(path, document.keys[path], "give the name of the image in it: image")
    elif _leaves(part):
        yield Problem(path, document.values[path], f"'{part}' leaves the processor's folder")
    elif not (folder / part).is_file():
        yield Problem(path, document.values[path], f"'{part}' does not exist in the processor's folder")


def _leaves(part: str) -> bool:
    return os.path.normpath(part).split(os.sep)[0] == ".."


def _element_problem(folder: Path, index: int, command: list[str], in_image: bool) -> str | None:
    part = command[index]
    if not part.startswith("./") and in_image:
        return None  # a program or file of the image
    if not part.startswith("./"):
        lost = f"'{part}' is looked for in the job's folder; write './{part}' for a file of this folder"
        return lost if _was_meant_here(folder, index, command) else None
    if _leaves(part):
        return f"'{part}' leaves the processor's folder"
    path = folder / part
    if not path.exists():
        return f"'{part}' does not exist in the processor's folder"
    if index == 0 and not (path.is_file() and os.access(path, os.X_OK)):
        return f"'{part}' is not an executable file (chmod +x)"
    if index == 0 and (problem := line_end_problem(first_bytes(path))):
        return f"'{part}': {problem}"
    return None


def _was_meant_here(folder: Path, index: int, command: list[str]) -> bool:
    """True for ``bin/run`` as the program, and for ``run.py`` after an interpreter if there is such a file here."""
    part = command[index]
    if part.startswith("/"):
        return False
    is_script = index == 1 and INTERPRETER.fullmatch(os.path.basename(command[0])) is not None
    return (index == 0 and "/" in part) or (is_script and (folder / part).is_file())


def _title_problems(document: Document, default: str) -> Iterator[Problem]:
    value: dict[str, Any] = document.value
    if "AETitle" not in value:
        name = value.get("name", default)
        if (problem := title_problem(name)) is not None:
            path = ("name",) if "name" in value else ()
            said = f"the name '{name}' is the AE title too: {problem}; or give AETitle"
            yield Problem(path, document.values[path], said)
        return
    try:
        re.compile(value["AETitle"], re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as exc:
        yield Problem(("AETitle",), document.values[("AETitle",)], f"not a regular expression: {exc}")


def _hours_problems(document: Document) -> Iterator[Problem]:
    value: dict[str, Any] = document.value
    if "hours" not in value:
        return
    try:
        read_hours(value["hours"])
    except ValueError as exc:
        yield Problem(("hours",), document.values[("hours",)], str(exc))


def _absolute(folder: Path, part: str) -> str:
    return os.path.normpath(folder.absolute() / part) if part.startswith("./") else part


def _flat(key: str, told: object) -> object:
    """An object as its JSON text: a Processor has nothing in it that can change. ``4.0`` of what is counted is 4."""
    if key in COUNTED:
        return int(str(told).removesuffix(".0"))
    return json.dumps(told, sort_keys=True) if isinstance(told, dict) else told


def _archive(folder: Path, value: dict[str, Any]) -> Path | None:
    return Path(_absolute(folder, value["image_archive"])) if "image_archive" in value else None


def _retry(told: dict[str, Any] | None) -> Retry | None:
    return Retry(int(told["times"]), tuple(told["on"]), float(told.get("pause", PAUSE))) if told else None


def _processor(folder: Path, default: str, value: dict[str, Any]) -> Processor:
    name = value.get("name", default)
    timeout, settle, max_wait = (
        float(value[key]) if key in value else None for key in ("timeout", "settle", "max_wait")
    )
    return Processor(
        name=name,
        folder=folder.absolute(),
        command=tuple(_absolute(Path(IN_IMAGE) if "image" in value else folder, p) for p in value.get("command", ())),
        called_ae=value.get("AETitle", pattern_of(name)),
        description=value.get("description", ""),
        version=value.get("version", ""),
        enabled=value.get("enabled", True),
        timeout=timeout,
        environment=tuple(value.get("environment", {}).items()),
        resources=tuple((key, _flat(key, told)) for key, told in value.get("resources", {}).items()),
        group=Group(value["group"]) if "group" in value else None,
        settle=settle,
        max_wait=max_wait,
        late=Late(value["late"]) if "late" in value else None,
        priority=JobPriority(value.get("priority", "normal")),
        hours=read_hours(value["hours"]) if "hours" in value else None,
        concurrency=int(value["concurrency"]) if "concurrency" in value else None,
        retry=_retry(value.get("retry")),
        image=value.get("image"),
        image_archive=_archive(folder, value),
        network=value.get("network", False),
        convention=value.get("convention"),
        settings=json.dumps(value.get("settings", {})),
        declared=frozenset(value),
        steps=tuple(_steps(folder, name, value)),
    )


def _steps(folder: Path, chain: str, value: dict[str, Any]) -> Iterator[ChainStep]:
    """The steps of a chain; each that is not another drop-in has a name that no drop-in can have."""
    told = value.get("steps", [])
    for label, step in zip(labels(told), told, strict=True):
        own = {key: each for key, each in step.items() if key not in ("name", "processor")}
        one = _processor(folder, f"{chain}/{label}", own)
        yield ChainStep(label, replace(one, enabled=value.get("enabled", True)), step.get("processor"))
