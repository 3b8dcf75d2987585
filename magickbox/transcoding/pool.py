"""Worker processes that convert files, several at once; implements ``transcoder.Transcoder``.

A worker that dies, takes too long or too much memory costs its file and nothing else: the next file gets a new one.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import magickbox
from magickbox import transfersyntax as ts
from magickbox.transcoder import CannotTranscode, Transcoded
from magickbox.transcoding import codecs

_CHUNK = 64 * 1024
_LEFT_BY_ITSELF = "left"
_PLACE, _RESULT = "converting-", "converted-"
_FAREWELL = 5.0  # seconds for a killed process to be gone
# numpy's own threads would only stand in each other's way: the workers are as many as there are cores.
_ENVIRONMENT = {"LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Limits:
    """For each file: bytes of memory (address space) and seconds; ``workers`` at once, ``files`` for each process."""

    memory: int = 4 * 1024**3
    seconds: float = 900.0
    workers: int = os.cpu_count() or 1
    files: int = 1000


class WorkerPool:
    """Converts files in processes of their own, below ``folder``, which has to be there and is for it alone.

    What an earlier pool left in there is removed.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self._folder = folder
        self._limits = limits or Limits()
        self._changed = threading.Condition()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False
        for left in (*folder.glob(f"{_PLACE}*"), *folder.glob(f"{_RESULT}*.dcm")):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    def targets(self, stored: str) -> Collection[str]:
        """See ``transcoder.Transcoder.targets``; what would need a codec that is not installed is left out."""
        if stored not in ts.NATIVE and not codecs.can_decode(stored):
            return ()
        every = (*ts.LOSSLESS_TARGETS, ts.JPEG_2000, ts.HTJ2K, ts.JPEG_LS_NEAR)
        native = (each for each in every if each in ts.NATIVE)
        return (*native, *(each for each in every if codecs.can_encode(each) and not codecs.missing(each, encode=True)))

    def transcode(self, source: Path, stored: str, targets: Sequence[str]) -> Transcoded | CannotTranscode:
        """See ``transcoder.Transcoder.transcode``; waits for a free worker."""
        place = Path(tempfile.mkdtemp(prefix=_PLACE, dir=self._folder))
        try:
            request: dict[str, object] = {
                "source": str(source.absolute()),
                "stored": stored,
                "targets": list(targets),
                "folder": str(place.absolute()),
            }
            answer = self._ask(request, place)
            if isinstance(answer, CannotTranscode):
                return answer
            if not answer.path.is_relative_to(place.absolute()):
                raise RuntimeError("a worker named a file that is not its own")  # never move a job's file away
            final = self._folder / f"{_RESULT}{uuid4().hex}.dcm"
            os.rename(answer.path, final)
            return Transcoded(final, answer.transfer_syntax)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def close(self) -> None:
        """End all workers, at once; who waits for one gets CannotTranscode for now."""
        with self._changed:
            self._closed = True
            for worker in self._busy:
                worker.interrupt()
            idle, self._idle = self._idle, []
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._busy, _FAREWELL)
        for worker in idle:
            worker.kill()

    def _ask(self, request: dict[str, object], place: Path) -> Transcoded | CannotTranscode:
        killed = 0
        while True:
            worker = self._take()
            if isinstance(worker, CannotTranscode):
                return worker
            answer = worker.ask(request, self._limits.seconds)
            self._give_back(worker, fit=not isinstance(answer, str))
            if not isinstance(answer, str):
                return answer
            if self._closed:
                return CannotTranscode("the box stops", passing=True)
            if answer == signal.SIGKILL.name:  # may have been meant for anybody: a second one is this file's
                killed += 1
            if killed == 2 or answer not in (signal.SIGKILL.name, _LEFT_BY_ITSELF):
                return CannotTranscode(f"the process that converted it ended with {answer}")
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()

    def _take(self) -> "_Worker | CannotTranscode":
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._busy) < self._limits.workers)
            if self._closed:
                return CannotTranscode("the box stops", passing=True)
            try:
                worker = self._idle.pop() if self._idle else _Worker(self._limits)
            except OSError as exc:
                return CannotTranscode(f"no process can be started: {exc.strerror}", passing=True)
            self._busy.add(worker)
            return worker

    def _give_back(self, worker: "_Worker", *, fit: bool) -> None:
        keep = fit and worker.files < self._limits.files
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

    def __init__(self, limits: Limits) -> None:
        self.files = 0
        self._process = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-P", "-m", "magickbox.transcoding.worker", str(limits.memory), str(limits.seconds)],
            env={**_ENVIRONMENT, "PYTHONPATH": str(Path(magickbox.__file__).parent.parent)},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )

    def ask(self, request: dict[str, object], seconds: float) -> Transcoded | CannotTranscode | str:
        """What became of one file; a text says that the process is gone, and by which signal or exit code."""
        self.files += 1
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            line = self._line(time.monotonic() + seconds)
        except TimeoutError:
            self.kill()
            return CannotTranscode(f"it takes longer than {seconds:g} s to convert")
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            return self._how_it_ended()
        answer = json.loads(line)
        if "path" in answer:
            return Transcoded(Path(answer["path"]), answer["syntax"])
        return CannotTranscode(answer["reason"], answer["passing"])

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
