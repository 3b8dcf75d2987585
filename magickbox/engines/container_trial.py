"""A container that is started only to see whether this machine can: its command is a program that no image has.

The engine's own first process runs, finds that there is no such program, and ends. So nothing of the image is run, and
yet everything is tried that a run needs: the engine, its runtime, the limits, the user, the cards.
"""

import itertools
import os
from dataclasses import replace
from pathlib import Path

from magickbox.engine import Ended, Run
from magickbox.processor import Processor

NOWHERE = "/magickbox-trial"
SECONDS = 60.0
_NUMBERS = itertools.count(1)


def trial_run(processor: Processor, place: Path) -> Run:
    """The run of a trial, in a folder of its own; raises OSError."""
    os.chmod(place, 0o755)  # noqa: S103  its user is another one, and there is nothing in it
    workdir = place / "run"
    for folder in ("INPUT", "OUTPUT"):
        (workdir / folder).mkdir(parents=True)
    name = f"mb-trial-{os.getpid()}-{next(_NUMBERS)}"
    one = replace(processor, command=(NOWHERE,))
    return Run(name, "trial", 1, one, workdir, place / "log", SECONDS, stop_grace=1.0)


def why_not_started(ended: Ended) -> str | None:
    """What kept it from starting; None if nothing did but that there is no such program."""
    if ended.interrupted is not None:
        return ended.interrupted
    return None if ended.trouble is None or NOWHERE in ended.trouble else ended.trouble
