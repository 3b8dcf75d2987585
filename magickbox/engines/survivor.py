"""A container that has outlived its box: whether its end can be told, and the two programs that wait for it."""

import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from magickbox.engines.attended import Attended
from magickbox.engines.container_cli import ContainerCli, told_by
from magickbox.engines.container_options import BOX, RUN
from magickbox.engines.output_log import OutputLog

RUNNING = ("running", "paused", "stopping")
LAST_WORDS = 5.0  # seconds of silence after which the log of an ended container is whole


@dataclass(frozen=True)
class Survivor:
    """A container that runs or has ended in order; ``age`` is seconds since its start."""

    running: bool
    age: float
    exit_code: int


def survivor(cli: ContainerCli, name: str, box: str) -> Survivor | None:
    """Look for the container of a run; None if there is none that tells an end. Raises EngineDown.

    A container whose machine was switched off under it has an exit code, too: one that nothing in it has said.
    """
    told = told_by(cli.ask("container", "inspect", "--format", "{{json .}}", name))
    labels = told.get("Config", {}).get("Labels") or {}
    if (labels.get(BOX), labels.get(RUN)) != (box, name):
        return None
    state: dict[str, Any] = told.get("State", {})
    running = str(state.get("Status", "")).casefold() in RUNNING
    code = int(state.get("ExitCode", -1))
    began, ended = _moment(state.get("StartedAt")), _moment(state.get("FinishedAt"))
    if began is None or (not running and (code < 0 or ended is None or ended < began or began < _booted() < ended)):
        return None
    return Survivor(running, (datetime.now(UTC) - began).total_seconds(), code)


def _moment(text: object) -> datetime | None:
    """A time as engines write it; None for the year 1, which says never."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.year > 1 and moment.tzinfo is not None else None


def _booted() -> datetime:
    with open("/proc/stat", encoding="ascii") as file:
        seconds = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    return datetime.fromtimestamp(seconds, UTC)


class Waiter(Attended):
    """Waits for a container that nobody is attached to; its log is told from the beginning."""

    def __init__(self, cli: ContainerCli, name: str, marks: Mapping[str, str], log: OutputLog) -> None:
        """Start to wait; raises OSError. The marks are on both programs, so that they do not outlive this box."""
        self._teller = _start(cli, marks, subprocess.PIPE, "logs", "--follow", name)
        try:
            super().__init__(_start(cli, marks, subprocess.DEVNULL, "wait", name), log, self._teller.stdout)
        except OSError:
            self._end_teller()
            raise

    def finish(self) -> int:
        """Wait for the end and for the last words; the exit code is that of the waiting program."""
        ready = select.poll()
        ready.register(self._output, select.POLLIN)
        while not self.is_silent and ready.poll(LAST_WORDS * 1000):
            self._pump()
        self._teller.kill()
        code = super().finish()
        self._end_teller()
        return code

    def _end_teller(self) -> None:
        self._teller.kill()
        self._teller.wait()
        if self._teller.stdout is not None:
            self._teller.stdout.close()


def _start(cli: ContainerCli, marks: Mapping[str, str], output: int, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603  a list of arguments, no shell
        [*cli.words, *words],
        env={**cli.environment, **marks},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,
    )


def until(found: Survivor, timeout: float, patience: float) -> float:
    """When the run is out of time, as ``time.monotonic`` says it; one that has ended is not."""
    return time.monotonic() + (max(timeout - found.age, 1.0) if found.running else patience)
