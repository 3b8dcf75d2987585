"""Test runs of processors: each in a process of its own, one after another, forgotten after a while."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from magickbox.clock import now
from magickbox.errors import NotFound
from magickbox.web.problems import Problem

KEPT = 20
LONGEST = 900.0  # seconds that a test run may take, whatever its processor may otherwise
GRACE = 60.0  # seconds more, for copying and for its end, until its process is killed


@dataclass(frozen=True)
class Trial:
    """A test run; ``report`` is what came of it, ``trouble`` why it could not be made."""

    id: str
    processor: str
    job: str
    who: str
    began: datetime
    running: bool = True
    trouble: str = ""
    report: Mapping[str, Any] | None = None


class Trials:
    """The test runs of this process; safe from any thread."""

    def __init__(self, folder: Path, longest: float = LONGEST, grace: float = GRACE) -> None:
        """``folder`` is where they work; what an earlier process left there is removed."""
        self._folder, self._longest, self._grace = folder, longest, grace
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Trial] = OrderedDict()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        shutil.rmtree(folder, ignore_errors=True)

    def begin(self, start: bytes, processor: str, job: str, source: Path, who: str) -> Trial:
        """Begin a run on what lies in ``source``; ``start`` is what ``Start.to_line`` says. Raises Problem 429."""
        trial = Trial(secrets.token_hex(8), processor, job, who, now())
        with self._lock:
            if self._closed or any(each.running for each in self._known.values()):
                raise Problem(429, "Too Many Requests", "another test run is under way; one is made at a time")
            self._known[trial.id] = trial
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            asked = {"processor": processor, "source": str(source), "longest": self._longest}
            self._thread = threading.Thread(target=self._run, args=(trial, start, asked), name="trial", daemon=True)
            self._thread.start()
        return trial

    def get(self, trial: str) -> Trial:
        """One of them; raises NotFound."""
        with self._lock:
            if trial not in self._known:
                raise NotFound("there is no such test run; they are kept until the window starts again")
            return self._known[trial]

    def listing(self, processor: str) -> list[Trial]:
        """Those of a processor, newest first."""
        with self._lock:
            return [each for each in reversed(self._known.values()) if each.processor == processor]

    def stop(self, trial: str) -> None:
        """End one that runs; raises NotFound."""
        if self.get(trial).running:
            self._kill()

    def close(self) -> None:
        """End what runs, and begin nothing more."""
        with self._lock:
            self._closed = True
        self._kill()
        if self._thread is not None:
            self._thread.join(10)

    def _kill(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.terminate()

    def _run(self, trial: Trial, start: bytes, asked: dict[str, object]) -> None:
        """The worker boundary: whatever happens, the trial ends and its folder goes."""
        workdir = self._folder / trial.id
        try:
            workdir.mkdir(parents=True, mode=0o700)
            ended = self._ended(workdir, start, asked)
        except Exception as exc:  # noqa: BLE001  # worker boundary: a trial that breaks is told of as one
            ended = replace(trial, trouble=f"it could not be made: {exc}")
        finally:
            shutil.rmtree(workdir, ignore_errors=True)
        with self._lock:
            self._known[trial.id] = replace(trial, running=False, trouble=ended.trouble, report=ended.report)

    def _ended(self, workdir: Path, start: bytes, asked: dict[str, object]) -> Trial:
        given = start + json.dumps({**asked, "workdir": str(workdir)}).encode() + b"\n"
        with subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-m", "magickbox.web.trialrun", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            with self._lock:
                self._process = process
            try:
                out, err = process.communicate(given, timeout=self._longest + self._grace)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = b"", b"it did not end in time"
            finally:
                with self._lock:
                    self._process = None
        blank = Trial("", "", "", "", now(), running=False)
        if process.returncode == 0 and out:
            return replace(blank, report=json.loads(out))
        said = err.decode("utf-8", "replace").strip().splitlines()
        return replace(blank, trouble=said[-1][:500] if said else "its process ended without a word")
