"""Worker processes that answer requests, several at once: what may end a process is done in one of them.

A worker that dies, takes too long or too much memory costs its request and nothing else: the next one gets a new one.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import magickbox
from magickbox import piped

_CHUNK = 64 * 1024
_LEFT_BY_ITSELF = "left"
_FAREWELL = 5.0  # seconds for a killed process to be gone
# numpy's own threads would only stand in each other's way: the workers are as many as there are cores.
_ENVIRONMENT = {"LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Limits:
    """For each request: bytes of memory (address space) and seconds; ``workers`` at once, ``files`` for each process.

    A worker that nobody asks for ``idle`` seconds ends by itself; ``nice`` is how far it stands back behind others.
    """

    memory: int = 4 * 1024**3
    seconds: float = 900.0
    workers: int = os.cpu_count() or 1
    files: int = 1000
    idle: float = 300.0
    nice: int = 0


class Why(Enum):
    """Why there is no answer."""

    STOPPING = "the box stops"
    NO_PROCESS = "no process can be started"
    TOO_LONG = "it takes too long"
    DIED = "the process ended"


@dataclass(frozen=True)
class Failed:
    """No answer; ``detail`` says more: seconds, a signal's name, the system's words."""

    why: Why
    detail: str = ""


Answer = Mapping[str, Any]


class Workers:
    """Processes that run ``module``, whose ``main`` calls ``workers.serving.serve``."""

    def __init__(self, module: str, limits: Limits) -> None:
        self._module = module
        self._limits = limits
        self._changed = threading.Condition()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False

    def ask(self, request: Mapping[str, object], again: Callable[[], None] = lambda: None) -> Answer | Failed:
        """What a worker answers; waits for a free one. ``again`` is called before a request is made a second time."""
        killed = 0
        while True:
            worker = self._take(fresh=killed > 0)
            if isinstance(worker, Failed):
                return worker
            answer = worker.ask(request, self._limits.seconds)
            self._give_back(worker, fit=not isinstance(answer, Failed))
            if not isinstance(answer, Failed) or answer.why is Why.TOO_LONG:
                return answer
            if self._closed:
                return Failed(Why.STOPPING)
            if answer.detail == signal.SIGKILL.name:  # may have been meant for anybody: a second one is this request's
                killed += 1
            if killed == 2 or answer.detail not in (signal.SIGKILL.name, _LEFT_BY_ITSELF):
                return answer
            again()

    def close(self) -> None:
        """End all workers, at once; who waits for one is told that the box stops."""
        with self._changed:
            self._closed = True
            for worker in self._busy:
                worker.interrupt()
            idle, self._idle = self._idle, []
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._busy, _FAREWELL)
        for worker in idle:
            worker.kill()

    def _take(self, *, fresh: bool) -> "_Worker | Failed":
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._busy) < self._limits.workers)
            if self._closed:
                return Failed(Why.STOPPING)
            try:
                worker = self._idle_one(fresh=fresh) or _Worker(self._module, self._limits)
            except OSError as exc:
                return Failed(Why.NO_PROCESS, exc.strerror or type(exc).__name__)
            self._busy.add(worker)
            return worker

    def _idle_one(self, *, fresh: bool) -> "_Worker | None":
        """An idle worker that lives; None if a ``fresh`` one is to take the place of an idle one.

        Who kills one often kills all: an idle one that dies just now would count as the second death of a request.
        """
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive() and not fresh:
                return worker
            worker.kill()
            if fresh:
                break
        return None

    def _give_back(self, worker: "_Worker", *, fit: bool) -> None:
        keep = fit and worker.requests < self._limits.files
        with self._changed:
            self._busy.discard(worker)
            keep = keep and not self._closed
            if keep:
                self._idle.append(worker)
            self._changed.notify_all()
        if not keep:
            worker.kill()


class _Worker:
    """One worker process, used by one thread at a time."""

    def __init__(self, module: str, limits: Limits) -> None:
        self.requests = 0
        numbers = (limits.memory, limits.seconds, limits.idle, limits.nice)
        self._process = piped.start(
            [sys.executable, "-P", "-m", module, *map(str, numbers)],
            {**_ENVIRONMENT, "PYTHONPATH": str(Path(magickbox.__file__).parent.parent)},
            answers=True,
            folder="/",
        )

    def ask(self, request: Mapping[str, object], seconds: float) -> Answer | Failed:
        """What it answers to one request, or how it ended."""
        self.requests += 1
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            line = self._line(time.monotonic() + seconds)
        except TimeoutError:
            self.kill()
            return Failed(Why.TOO_LONG, f"{seconds:g} s")
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            return Failed(Why.DIED, self._how_it_ended())
        answer: Answer = json.loads(line)
        return answer

    def is_alive(self) -> bool:
        """False once its process has ended."""
        return self._process.poll() is None

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        output, line = self._process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            piece = os.read(output, _CHUNK)
            if not piece:
                break
            line += piece
        return line

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        if code == 0:
            return _LEFT_BY_ITSELF
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def interrupt(self) -> None:
        """End the process, from any thread; who waits for its answer finds out, and cleans up."""
        self._process.kill()

    def kill(self) -> None:
        """End the process and let go of it; only for the thread that has it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
