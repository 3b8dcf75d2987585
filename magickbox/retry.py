"""Which failures of a run are worth another try: pure."""

from dataclasses import dataclass

TIMEOUT, OUT_OF_MEMORY, EXIT = "timeout", "oom", "exit:"
PAUSE = 60.0  # seconds until a run is made again, if its processor does not say


@dataclass(frozen=True)
class Retry:
    """So many further tries after failures of these kinds, each after ``pause`` seconds."""

    times: int
    on: tuple[str, ...]
    pause: float = PAUSE

    def cause(self, limit: str | None, exit_code: int | None) -> str | None:
        """Which of its words a failure is, by the limit that ended it or its exit code; None if it is not retried.

        An exit code that a limit caused is not the processor's word; a signal counts as a shell shows it.
        """
        code = 128 - exit_code if exit_code is not None and exit_code < 0 else exit_code
        word = limit or f"{EXIT}{code}"
        return word if word in self.on else None
