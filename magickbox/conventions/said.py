"""What a module written for another system says of its run in a file: read with bounds, told in proc.json."""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magickbox.engine import Ended, Run
from magickbox.processor import FAILED, SUCCESS, end_in_words, read_proc_json

LONGEST = 1024 * 1024


@dataclass(frozen=True)
class Said:
    """The JSON value of such a file; ``problem`` is a sentence if it could not be used."""

    value: Any = None
    problem: str = ""


def read_said(path: Path, kinds: tuple[type, ...]) -> Said | None:
    """What the file says; None if there is none. Links, pipes and large files are not opened or not read."""
    words = " or ".join("object" if kind is dict else "list" for kind in kinds)
    problem = f"{path.name} was passed over: it is no file of at most 1 MiB with a JSON {words}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return Said(problem=problem)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LONGEST:
            return Said(problem=problem)
        with open(fd, "rb", closefd=False) as file:
            value = json.loads(file.read(LONGEST))
    except (ValueError, RecursionError):
        return Said(problem=problem)
    finally:
        os.close(fd)
    if not isinstance(value, kinds) or not _can_be_told(value):
        return Said(problem=problem)
    return Said(value)


def tell(run: Run, ended: Ended, said: Said, key: str, message: str = "") -> None:
    """Write proc.json: what was said under ``key``, and a message. A proc.json of the module's own wins over it."""
    if os.path.lexists(run.workdir / "proc.json") or os.path.lexists(run.output / "proc.json"):
        return
    parts = [message]
    if ended.exit_code != 0 and not message:
        parts = [end_in_words(ended.exit_code, ended.last_line)]
    told = ". ".join(filter(None, (*parts, said.problem)))
    entry: dict[str, Any] = {"success": SUCCESS if ended.exit_code == 0 else FAILED}
    entry |= {} if said.problem else {key: said.value}
    entry |= {"message": told} if told else {}
    (run.workdir / "proc.json").write_bytes(json.dumps([entry], ensure_ascii=False).encode("utf-8", "replace"))


def _can_be_told(value: Any) -> bool:
    """False for what JSON, or the proc.json of this box, does not have: NaN, half characters, a thousand levels."""
    try:
        raw = json.dumps([{"success": SUCCESS, "": value}], ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return len(raw) < LONGEST - 64 * 1024 and not isinstance(read_proc_json(raw), str)
