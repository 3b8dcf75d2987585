"""The contract of an engine: where a processor's run takes place (local process, container, cluster)."""

from collections.abc import Callable, Collection
from typing import Protocol

from magickbox.processor import Processor
from magickbox.run import Ended, Run

__all__ = ["Ended", "Engine", "Run"]


class Engine(Protocol):
    """Where processors run. Every implementation passes the same contract suite (tests/test_engines.py)."""

    def refusal(self, processor: Processor) -> str | None:
        """Why this processor cannot be run at present (no sandbox although one is required), or None: its jobs wait."""

    def run(self, run: Run, started: Callable[[dict[str, object]], None]) -> Ended:
        """Run to the end and return how it ended; blocks, safe to call from several threads.

        ``started`` is called as soon as there is something to find again, with what run.json should keep of it (for a
        local process: pid and start time), and again if there is more to tell; the last one counts.
        """

    def stop(self, name: str, reason: str) -> None:
        """End a run that another thread waits for: SIGTERM, ``stop_grace`` later SIGKILL; its ``Ended`` is
        ``interrupted`` with ``reason``. A run that is not there is no error."""

    def leave(self, name: str) -> bool:
        """The box stops: True if this run goes on without it, and the ``run`` or ``rejoin`` that waits for it raises
        GoesOn; nothing of it may be touched until it is taken up again. False if the run has to be stopped."""

    def rejoin(self, run: Run) -> Ended | None:
        """Take up a run that a killed box had started, and return how it ended, as ``run`` does.

        Its time limit counts from its start, its log goes on. None if there is nothing to take up: nothing of this
        engine outlives the box, it is gone, or nobody can tell how it ended.
        """

    def sweep(self, spared: Collection[str] = ()) -> int:
        """End what is this box's and belongs to no run that goes on, nor to one that is ``spared``; return how many."""

    def end_leftovers(self, name: str) -> int:
        """End whatever still lives of a run that a killed box had started; return how many processes there were."""
