"""What a drop-in declares, and what its run came to: Processor, Outcome and the rules of proc.json."""

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from magickbox.job import JobPriority
from magickbox.retry import Retry
from magickbox.schedule import Hours

NO_PROCESSOR = "none"
IN_IMAGE = "/processor"  # where a container has the folder of its drop-in
SUCCESS = "success"
FAILED = "failed"
MAX_SUCCESS, MAX_MESSAGE, MAX_DEPTH = 256, 4000, 100


class Group(StrEnum):
    """What instances a job gathers."""

    STUDY = "study"
    ASSOCIATION = "association"


class Late(StrEnum):
    """What the job gets that instances make which come after their job was born."""

    NEW = "new"
    RERUN = "rerun"


@dataclass(frozen=True)
class ChainStep:
    """One step of a chain: ``label`` is what people call it, ``processor`` what runs.

    As a processor.json declares it, ``named`` may be the drop-in that it runs, and ``processor`` then has only what is
    to be another way in this chain; of a drop-in that was looked at, ``processor`` is whole.
    """

    label: str
    processor: "Processor"
    named: str | None = None


@dataclass(frozen=True)
class Processor:
    """A drop-in: whom it serves, how it is called, and what it overrides.

    ``folder`` is where it lies, ``command`` what is run (absolute where it names a file of the drop-in), ``digest``
    tells one version of its files from another. ``network`` says that its runs may reach it. Times are
    seconds. With an ``image`` the run takes place in a
    container; its ``command`` is then empty, or a program of the image, and ``IN_IMAGE`` stands for ``folder``.
    ``hours`` are those of its jobs that are off-peak; of ``concurrency`` runs at once there are no more.
    ``declared`` are the keys that processor.json has: what an image says of itself does not count against those.
    With ``steps`` it is a chain, which runs nothing itself; its ``timeout`` is then for all of them together.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    called_ae: str
    description: str = ""
    version: str = ""
    enabled: bool = True
    timeout: float | None = None
    environment: tuple[tuple[str, str], ...] = ()
    resources: tuple[tuple[str, object], ...] = ()
    group: Group | None = None
    settle: float | None = None
    max_wait: float | None = None
    late: Late | None = None
    priority: JobPriority = JobPriority.NORMAL
    hours: Hours | None = None
    concurrency: int | None = None
    retry: Retry | None = None
    digest: str = ""
    image: str | None = None
    image_archive: Path | None = None
    network: bool = False
    convention: str | None = None
    settings: str = "{}"
    declared: frozenset[str] = frozenset()
    steps: tuple[ChainStep, ...] = ()

    def serves(self, called_ae: str) -> bool:
        """True if this processor's AE title pattern matches the whole called AE title; case does not matter."""
        return re.fullmatch(self.called_ae, called_ae.strip(), re.IGNORECASE) is not None

    def is_named(self, called_ae: str) -> bool:
        """True if the pattern is the title itself: an exact name wins over a pattern."""
        title, pattern = called_ae.strip().casefold(), self.called_ae.strip().casefold()
        return pattern in (title, re.escape(title))


def in_chain(steps: tuple[str, ...], number: int) -> str:
    """How a person calls step ``number``, from 1, of a chain with these labels: ``step 2 of 3 (register)``."""
    return f"step {number} of {len(steps)} ({steps[number - 1]})"


def choose(processors: tuple[Processor, ...], called_ae: str) -> Processor | None:
    """The processor that serves a called AE title: an exact name before a pattern, then by name; None if none does."""
    serving = [p for p in processors if p.enabled and (p.is_named(called_ae) or p.serves(called_ae))]
    return min(serving, key=lambda p: (not p.is_named(called_ae), p.name.casefold(), p.name), default=None)


@dataclass(frozen=True)
class Outcome:
    """What a run came to: the word that rules look at, and a sentence for a person.

    ``entries`` is the proc.json that the box leaves; ``invalid`` says that the processor's own could not be used.
    """

    success: str
    message: str = ""
    entries: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    invalid: str | None = None

    def as_proc_json(self) -> list[dict[str, Any]]:
        """The content of proc.json: never empty, its first entry carries the outcome."""
        first = {**(self.entries[0] if self.entries else {}), "success": self.success}
        if self.message:
            first["message"] = self.message
        return [first, *self.entries[1:]]


def read_proc_json(raw: bytes) -> tuple[dict[str, Any], ...] | str:
    """The entries of a proc.json, or a sentence that says why it is not one (contracts, section 4)."""
    try:
        value = json.loads(raw, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return "proc.json has half of a character (a lone surrogate), which is no text"
    except (ValueError, RecursionError) as exc:
        return f"proc.json is not JSON: {str(exc)[:200]}"
    if _is_deep(value):
        return f"proc.json is nested more than {MAX_DEPTH} levels deep"
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        return "proc.json is not a non-empty array of objects"
    if not isinstance(value[0].get("success"), str):
        return "proc.json: the first entry has no string 'success'"
    if any("success" in entry and not isinstance(entry["success"], str) for entry in value):
        return "proc.json: an entry's 'success' is not a string"
    if any(len(entry.get("success", "")) > MAX_SUCCESS for entry in value):
        return f"proc.json: an entry's 'success' has more than {MAX_SUCCESS} characters"
    return tuple(value)


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [each for group in inner for each in group]
    return bool(level)


def _refuse(constant: str) -> None:
    """What Python reads as a number and JSON does not have."""
    raise ValueError(f"{constant} is no number of JSON's")


def end_in_words(exit_code: int | None, last_line: str) -> str:
    """How a run ended that did not end well, with the last line that it printed."""
    if exit_code is None:
        return last_line or "it has no exit code"
    said = f"exit code {exit_code}" if exit_code >= 0 else f"killed by signal {-exit_code}"
    return f"{said}: {last_line}" if last_line else said


def judge_run(
    exit_code: int | None, proc_json: bytes | str | None, last_line: str = "", trouble: str | None = None
) -> Outcome:
    """The outcome of a run, by the table of the contracts' section 4.

    ``proc_json`` is a sentence if there is one that cannot be read. ``exit_code`` is negative for a signal, as
    subprocess has it; ``trouble`` says that the box ended the run or could not start it (out of time, killed, could
    not start) and wins over everything else.
    """
    if trouble is not None:
        return Outcome(FAILED, trouble)
    if proc_json is None:
        if exit_code == 0:
            return Outcome(SUCCESS)
        return Outcome(FAILED, end_in_words(exit_code, last_line))
    entries = proc_json if isinstance(proc_json, str) else read_proc_json(proc_json)
    if isinstance(entries, str):
        return Outcome(FAILED, entries, invalid=entries)
    success, message = entries[0]["success"], str(entries[0].get("message", ""))[:MAX_MESSAGE]
    if exit_code != 0 and success.casefold() == SUCCESS:
        return Outcome(FAILED, f"exit code {exit_code} although proc.json says success. {message}".strip(), entries)
    return Outcome(success, message, entries)
