"""One run of a processor, ready to start, and how it ended."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from magickbox.processor import Processor
from magickbox.retry import OUT_OF_MEMORY, TIMEOUT


class Limit(StrEnum):
    """Which limit ended a run."""

    TIME = TIMEOUT
    MEMORY = OUT_OF_MEMORY
    OTHER = "limit"  # of processes, of a file's size, of OUTPUT


@dataclass(frozen=True)
class Run:
    """One run of a processor, ready to start.

    ``name`` (``mb-<job>-<attempt>``) is how the run is found again after a kill of the box. ``workdir`` looks like a
    job folder: INPUT, OUTPUT, info.json. ``log`` gets stdout and stderr, live, at most ``log_limit`` bytes of it.
    ``timeout`` and ``stop_grace`` are seconds. What this run prints begins at byte ``log_begins`` of the log.
    """

    name: str
    job: str
    attempt: int
    processor: Processor
    workdir: Path
    log: Path
    timeout: float
    stop_grace: float = 20.0
    log_limit: int = 64 * 1024 * 1024
    log_begins: int = 0

    @property
    def input(self) -> Path:
        """What the processor reads."""
        return self.workdir / "INPUT"

    @property
    def output(self) -> Path:
        """What the processor writes."""
        return self.workdir / "OUTPUT"


@dataclass(frozen=True)
class Ended:
    """How a run ended, with everything it had started gone.

    ``exit_code`` is negative for a signal; None if there was none to take. ``trouble`` is the processor's own fault
    as the box saw it (out of time, could not start). ``interrupted`` is trouble on the box's side (box stopped, engine
    down): the run says nothing and is made again. ``peak_memory`` is bytes, with cached files, where it is known.
    ``met`` is a limit that a run met and yet ended with 0: told, but no fault. ``not_begun`` says of an interrupted run
    that nothing of the processor ran: however often that happens, it is the machine's trouble. ``limit`` is the limit
    that ended it, if one did.
    """

    exit_code: int | None
    last_line: str = ""
    trouble: str | None = None
    interrupted: str | None = None
    peak_memory: int | None = field(default=None, compare=False)
    met: str = ""
    not_begun: bool = field(default=False, compare=False)
    limit: Limit | None = field(default=None, compare=False)
