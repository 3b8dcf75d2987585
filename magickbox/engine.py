"""The contract of an engine: where a processor's run takes place (local process, container, cluster)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from magickbox.processor import Processor


@dataclass(frozen=True)
class Run:
    """One run of a processor, ready to start.

    ``name`` (``mb-<job>-<attempt>``) is how the run is found again after a kill of the box. ``workdir`` looks like a
    job folder: INPUT, OUTPUT, info.json. ``log`` gets stdout and stderr, live, at most ``log_limit`` bytes of it.
    ``timeout`` and ``stop_grace`` are seconds.
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
    """

    exit_code: int | None
    last_line: str = ""
    trouble: str | None = None
    interrupted: str | None = None
    peak_memory: int | None = field(default=None, compare=False)


class Engine(Protocol):
    """Where processors run. Every implementation passes the same contract suite (tests/test_engines.py)."""

    def refusal(self, processor: Processor) -> str | None:
        """Why this processor cannot be run at present (no sandbox although one is required), or None: its jobs wait."""

    def run(self, run: Run, started: Callable[[dict[str, object]], None]) -> Ended:
        """Run to the end and return how it ended; blocks, safe to call from several threads.

        ``started`` is called once, as soon as there is something to find again, with what run.json should keep of it
        (for a local process: pid and start time).
        """

    def stop(self, name: str, reason: str) -> None:
        """End a run that another thread waits for: SIGTERM, ``stop_grace`` later SIGKILL; its ``Ended`` is
        ``interrupted`` with ``reason``. A run that is not there is no error."""

    def end_leftovers(self, name: str) -> int:
        """End whatever still lives of a run that a killed box had started; return how many processes there were."""
