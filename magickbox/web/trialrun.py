"""The process of one test run: ``python -m magickbox.web.trialrun PARENT``; it dies with the window.

Two lines on its standard input say what is in force, and what is to be run on what; a JSON object on its output what
came of it.
"""

import ctypes
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from magickbox.dropins.folder import read_dropins
from magickbox.errors import MagickboxError, NotFound
from magickbox.processor import Processor
from magickbox.tryout import Tryout, take, try_out
from magickbox.web.start import Start, from_line

MOST_FILES, MOST_LINES, LONGEST_LINE = 100, 100, 300
MOST_LOG = 256 * 1024
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Make the run; 1 with a line on standard error if it cannot be made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("it was stopped"))  # by way of what ends the run
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        return 1  # the window is gone
    start = from_line(sys.stdin.buffer.readline())
    asked = json.loads(sys.stdin.buffer.readline())
    try:
        told = run(start, asked["processor"], Path(asked["source"]), Path(asked["workdir"]), float(asked["longest"]))
    except (MagickboxError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(json.dumps(told))
    return 0


def run(start: Start, name: str, source: Path, workdir: Path, longest: float) -> dict[str, Any]:
    """Run a processor on the files below ``source``; raises NotFound or OSError."""
    processor = _found(start, name)
    limit = min(processor.timeout or start.settings.timeout, longest)
    (workdir / "processing.log").touch()
    taken = take(source, workdir / "run")
    if not taken.instances:
        raise NotFound("the job has no instances any more")
    result = try_out(replace(processor, timeout=limit), taken, workdir / "run", start.settings, os.environ)
    return _report(result, _tail(workdir / "processing.log"))


def _found(start: Start, name: str) -> Processor:
    for one in read_dropins(start.places.processors).good:
        if one.name == name:
            return one
    raise NotFound(f"there is no processor {name} that can be used")


def _tail(log: Path) -> list[str]:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - MOST_LOG))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [line[:LONGEST_LINE] for line in lines[-MOST_LINES:]]


def _report(result: Tryout, log: list[str]) -> dict[str, Any]:
    listing = result.listing
    return {
        "outcome": result.outcome.success,
        "message": result.outcome.message,
        "trouble": result.trouble,
        "exit": result.exit_code,
        "seconds": round(result.seconds, 3),
        "peak_memory": result.peak_memory,
        "held_by": result.held_by,
        "instances": len(result.taken.instances),
        "outputs": len(listing.files),
        "output": [{"path": file.path, "sop_class": file.sop_class} for file in listing.files[:MOST_FILES]],
        "others": listing.other,
        "unreadable": [f"{path}: {why}" for path, why in listing.unreadable[:MOST_FILES]],
        "same_uid_as_input": result.same,
        "log": log,
    }


if __name__ == "__main__":
    sys.exit(main())
