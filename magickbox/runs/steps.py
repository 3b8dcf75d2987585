"""The folders of a chain's steps: made ready, handed on, taken over by the next attempt, tidied. No engine here."""

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from magickbox import progress
from magickbox.clock import from_text
from magickbox.durable import fsync_folder, make_folder, write_atomic
from magickbox.jobfolder import AttemptFolder, remove_tree
from magickbox.processor import FAILED
from magickbox.runs.attempt import RunResult, read_result

PROC = "proc.json"
NO_WRITING = ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
MOST_BYTES = 1024 * 1024  # of the chain's own run.json


def is_good(result: RunResult) -> bool:
    """True if the next step of a chain may begin."""
    return result.exit_code == 0 and result.outcome.success.casefold() != FAILED


def take_over(top: AttemptFolder, digest: str, of: int) -> None:
    """Make the folder of ``of`` steps; have those in it that an earlier attempt has finished.

    They are taken by one rename, if that attempt ran the same version of the chain.

    What that attempt had only begun goes, and so does a step that failed: it is run again, as any processor would be.
    Raises OSError.
    """
    if top.steps.is_dir():
        return
    make_folder(top.path)
    for n in range(int(top.path.name) - 1, 0, -1) if top.path.name.isdigit() else ():
        earlier = AttemptFolder(top.path.with_name(str(n)))
        if not earlier.steps.is_dir():
            continue
        if _told(earlier).get("digest") == digest:
            os.rename(earlier.steps, top.steps)
            fsync_folder(top.path)
            _drop_unfinished(top)
        break
    make_folder(top.steps)
    (top.steps / progress.OF).write_text(str(of))


def _drop_unfinished(top: AttemptFolder) -> None:
    stays = True
    for k in numbers(top):
        result = read_result(top.step(k))
        stays = stays and result is not None and is_good(result)
        if not stays:
            remove_tree(top.step(k).path)
            top.step(k).token.unlink(missing_ok=True)


def give_room(top: AttemptFolder) -> None:
    """Remove what a run left that is to be made again: on a full disk nothing could be written down else."""
    with suppress(OSError):
        top.result.unlink(missing_ok=True)  # first: without OUTPUT it must not count
        _drop_unfinished(top)
        remove_tree(top.output)


def numbers(top: AttemptFolder) -> list[int]:
    """The steps that have a folder, from 1 on."""
    with suppress(OSError):
        return sorted(int(name) for name in os.listdir(top.steps) if name.isdigit())
    return []


def under_way(top: AttemptFolder) -> int | None:
    """The step that was begun and has no result, or None."""
    return next((k for k in reversed(numbers(top)) if read_result(top.step(k)) is None), None)


def prepare(top: AttemptFolder, k: int) -> AttemptFolder:
    """Make the folder of step ``k``: INPUT is what the attempt has, or hard links to what the step before left.

    Raises OSError.
    """
    step = top.step(k)
    if step.path.exists():
        remove_tree(step.path)
    step.path.mkdir()
    write_atomic(step.token, secrets.token_hex(16).encode(), mode=0o600)
    if k == 1:
        os.rename(top.input, step.input)
    else:
        link_tree(top.step(k - 1).output, step.input, read_only=True)
    for folder in (step.output, step.tmp):
        folder.mkdir()
    shutil.copyfile(top.info, step.info)
    return step


def link_tree(source: Path, target: Path, read_only: bool = False) -> None:
    """Hard links to all files below a folder that was sealed, but for its proc.json. Raises OSError."""
    target.mkdir(exist_ok=True)
    for folder, _, names in os.walk(source):
        place = target / os.path.relpath(folder, source)
        place.mkdir(exist_ok=True)
        for name in names:
            if name == PROC and folder == str(source):
                continue
            path = os.path.join(folder, name)
            if read_only:
                os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) & NO_WRITING)
            os.link(path, place / name, follow_symlinks=False)


def is_empty(output: Path) -> bool:
    """True if a step left no file for the next one."""
    return not any(name != PROC or folder != str(output) for folder, _, names in os.walk(output) for name in names)


def clear(step: AttemptFolder) -> None:
    """Remove what a step needed only while it ran."""
    for path in (step.input, step.tmp, step.info, step.path / progress.FILE):
        with suppress(OSError):
            remove_tree(path)


def tidy(top: AttemptFolder) -> None:
    """Remove what the steps of a chain that ran to its end have left to each other; run.json and result.json stay."""
    found = [read_result(top.step(k)) for k in numbers(top)]
    for k in numbers(top) if all(result is not None and is_good(result) for result in found) else ():
        with suppress(OSError):
            remove_tree(top.step(k).output)


def forget(top: AttemptFolder) -> None:
    """Have no step of this attempt taken over by another."""
    for k in numbers(top):
        top.step(k).token.unlink(missing_ok=True)


def read_chain(top: AttemptFolder) -> tuple[str, ...]:
    """The labels of the steps, as the chain's run.json has them; none if it tells of no chain."""
    told = _told(top).get("steps")
    return tuple(str(each)[:64] for each in told) if isinstance(told, list) else ()


def log_begins(step: AttemptFolder) -> int:
    """Where in the job's log that of a step begins, in bytes."""
    told = _told(step).get("log_begins")
    return told if isinstance(told, int) and told >= 0 else 0


def seconds_since(step: AttemptFolder, moment: datetime) -> float:
    """How long ago a step began; 0 if nobody knows."""
    with suppress(ValueError, TypeError):
        return max(0.0, (moment - from_text(str(_told(step).get("began", "")))).total_seconds())
    return 0.0


def _told(attempt: AttemptFolder) -> dict[str, Any]:
    """What run.json says; nothing if it cannot be read."""
    with suppress(OSError, ValueError, RecursionError):
        with open(attempt.run, "rb") as file:
            value = json.loads(file.read(MOST_BYTES))
        return value if isinstance(value, dict) else {}
    return {}


def of_name(name: str) -> tuple[str, int] | None:
    """The job and the attempt of a run's name."""
    job, _, n = name.removeprefix("mb-").rpartition("-")
    return (job, int(n)) if n.isdigit() and job else None


def marks(top: AttemptFolder, name: str) -> Iterator[str]:
    """The names of the runs that a chain of this name may have under way."""
    k = under_way(top)
    if k is not None:
        yield step_name(name, k)


def step_name(name: str, k: int) -> str:
    """How the run of a step is found again after a kill of the box."""
    return f"{name}-s{k}"
