"""A real box in a process of its own, which can be killed at a step of section 8, with a sender and a station around.

The processes are forked from one that has imported everything and done nothing else: importing takes longer than most
of what is tried here. ``magickbox serve`` as a command is tried in test_interop_dcmtk.py.
"""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from magickbox.association import Association, End
from magickbox.clock import now
from magickbox.config import load
from magickbox.control import ask
from magickbox.datafolder import DataFolder
from magickbox.destination import Delivered, DicomDestination, Retry
from magickbox.incoming.quarantine import Quarantine
from magickbox.instance import Instance
from magickbox.intake import Refusal, Request
from magickbox.job import OPEN, Job
from magickbox.ledger import Ledger, jobs
from magickbox.owncalls import OwnCalls
from magickbox.pace import Pace
from magickbox.proof import INVALID_ARGUMENT, Report
from magickbox.scp.server import Port, Receiver
from magickbox.scu.store import StoreSender
from magickbox.scu.upperlayer import Timeouts
from magickbox.sender import Item
from magickbox.service import Places, Tuning, build
from magickbox.steps import Step

COPY = '#!/bin/sh\nif [ -n "$(ls "$1")" ]; then cp "$1"/* "$2"/; fi\necho copied\n'
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["__main__", "magickbox.service"])
QUICK = Timeouts(connect=5.0, associate=5.0, response=10.0, write=10.0)


QUICK_SETTINGS: dict[str, str | int | float] = {
    "host": "127.0.0.1",
    "port": 0,
    "settle": 0.2,
    "settle_after_abort": 0.4,
    "settle_open": 5,
    "slots": 2,
    "stop_grace": 2,
    "min_free": "0",
    "receivers": 0,
}


class KillAt:
    """Ends this process without a goodbye when a step is reached for the n-th time."""

    def __init__(self, step: str | None, nth: int) -> None:
        self._step, self._left = step, nth
        self._lock = threading.Lock()

    def __call__(self, step: Step) -> None:
        """Called by the box at each step."""
        if step.name != self._step:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def serve(options: dict[str, object], environment: dict[str, str], up: Connection) -> None:
    """Run a box until SIGTERM; its port is told when it listens."""
    os.environ.clear()
    os.environ.update(environment)
    root = Path(str(options["root"]))
    settings = load(None, {}, {**QUICK_SETTINGS, **options.get("settings", {})}).settings  # type: ignore[dict-item]
    pace = Pace(short=(0.1, 0.2), first=0.1, longest=0.5, confirm=0.1, full=0.1, probe=0.1, longest_probe=0.5)
    tuning = Tuning(pace=pace, reached=KillAt(options.get("step"), int(str(options.get("nth", 1)))))  # type: ignore[arg-type]
    box = build(settings, Places(DataFolder(root), root / "routing.json", root / "processors"), os.environ, tuning)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    box.start()
    up.send(box.receiver.address[1])
    while not stop.wait(0.1):  # see cli/serve.py
        pass
    box.stop()


@dataclass
class BoxProcess:
    """A box in a child process; ``port`` is None if it died before it listened."""

    root: Path
    process: ForkServerProcess
    port: int | None

    def wait(self, timeout: float = 20.0) -> int:
        """Its exit code, negative for a signal; raises TimeoutError."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise TimeoutError(f"the box has not ended within {timeout} s")
        return self.process.exitcode

    def kill(self) -> None:
        """SIGKILL, now."""
        self.process.kill()
        self.process.join()

    def status(self) -> dict[str, Any]:
        """What the running box says of itself."""
        answer = ask(DataFolder(self.root).control, "status")
        assert answer is not None
        return dict(answer["status"])

    def ask(self, verb: str, subject: str = "") -> None:
        """Give a command to the running box."""
        ask(DataFolder(self.root).control, verb, subject, "test")


@contextmanager
def running(root: Path, **options: object) -> Iterator[BoxProcess]:
    """Start a box on ``root``; end it with SIGTERM at the end of the block if it still lives."""
    here, there = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=serve, args=({"root": str(root), **options}, dict(os.environ), there))
    process.start()
    there.close()
    box = BoxProcess(root, process, None)
    with here, suppress(EOFError):  # it died before
        box.port = here.recv()
    try:
        yield box
    finally:
        if process.is_alive():
            process.terminate()
            try:
                box.wait(30)
            finally:
                box.kill()
        process.close()


class Recorder:
    """An intake that takes everything and remembers what it was sent: the station that results go to."""

    def __init__(self, on_association: Callable[[], None], on_instance: Callable[[], None]) -> None:
        self.seen: Counter[str] = Counter()
        self._count = 0
        self._on_association, self._on_instance = on_association, on_instance

    def admit(self, request: Request) -> Association | Refusal:
        """Let anyone in."""
        self._on_association()
        self._count += 1
        return Association(f"a{self._count}", request.calling_ae, request.called_ae, request.address[0], now())

    def stored(self, association: Association, instance: Instance) -> None:
        """Count it."""
        self.seen[instance.sop_instance] += 1
        self._on_instance()

    def refused(self, association: Association, sop_instance: str, status: int, why: str) -> None:
        """Nothing is refused."""

    def ended(self, association: Association, how: End) -> None:
        """Nothing to do."""

    def reported(self, association: Association, report: Report) -> int:
        """Nobody was asked."""
        return INVALID_ARGUMENT

    def has_room(self) -> bool:
        """Always."""
        return True

    def pause(self) -> float:
        """Never."""
        return 0.0


@dataclass
class Station:
    """Where results arrive."""

    port: int
    seen: Counter[str]


@contextmanager
def station(
    folder: Path,
    on_association: Callable[[], None] = lambda: None,
    on_instance: Callable[[], None] = lambda: None,
    port: int = 0,
) -> Iterator[Station]:
    """A receiving station, on a free port if none is given."""
    (folder / "incoming").mkdir(parents=True)
    (folder / "quarantine").mkdir()
    recorder = Recorder(on_association, on_instance)
    where = Port(folder / "incoming", Quarantine(folder / "quarantine"), port=port, fsync=False)
    receiver = Receiver(where, recorder)
    receiver.start()
    try:
        yield Station(receiver.address[1], recorder.seen)
    finally:
        receiver.stop(2.0)


def set_up(root: Path, station_port: int, called: str = "COPY") -> None:
    """A data folder with one rule, everything to the station, and one processor, which copies."""
    (root / "processors").mkdir(parents=True, exist_ok=True)
    script = root / "processors" / called
    script.write_text(COPY)
    script.chmod(0o755)
    to = {"IP": "127.0.0.1", "PORT": station_port, "AETitleSender": "BOX", "AETitleTo": "STATION"}
    rules = {"routing": [{"name": "all", "send": [{"success": to}]}]}
    (root / "routing.json").write_text(json.dumps(rules))


@dataclass
class Sent:
    """What a sender knows: which SOP Instance UIDs were acknowledged with 0x0000, and which were not."""

    acknowledged: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)


def send(port: int, items: list[Item], called: str = "COPY", calling: str = "SCANNER") -> Sent:
    """Send items over one association, as far as the peer lives."""
    sent = Sent()
    destination = DicomDestination("127.0.0.1", port, calling, called)
    session = StoreSender(OwnCalls(), QUICK).connect(destination, items, "")
    if isinstance(session, Retry):
        return Sent(set(), {item.sop_instance for item in items})
    with session:
        for item in items:
            result = session.send(item)
            (sent.acknowledged if isinstance(result, Delivered) else sent.unanswered).add(item.sop_instance)
    return sent


def until(condition: Callable[[], bool], timeout: float = 30.0, what: str = "") -> None:
    """Wait until something is so; fails with ``what`` if it never is."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain: {what}"
        time.sleep(0.02)


def all_jobs(root: Path) -> list[Job]:
    """Every job of a data folder, whether its box runs or not."""
    if not DataFolder(root).ledger.exists():
        return []
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    try:
        with ledger.reading() as tx:
            return jobs.newest(tx, -1)
    finally:
        ledger.close()


def is_quiet(root: Path) -> bool:
    """True if nothing is being gathered and no job is on its way."""
    data = DataFolder(root)
    gathering = any(path.is_dir() for path in data.incoming.iterdir())
    return not gathering and not any(job.state in OPEN for job in all_jobs(root))
