"""One place of the crew: a receiver process, and after its end the next one."""

import os
import queue
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import magickbox
from magickbox.association import Association, End
from magickbox.clock import now
from magickbox.errors import ConfigError
from magickbox.incoming.record import settle_parts
from magickbox.instance import Instance
from magickbox.intake import Intake
from magickbox.scp import messages
from magickbox.scp.connection import Port
from magickbox.scp.connections import OnTrouble
from magickbox.scp.listener import Address
from magickbox.steps import Step

READY_WITHIN = 60.0
_ANSWERS_WITHIN = 30.0
_SEND_LIMIT = 5.0
_PAUSES = (0.1, 1.0, 5.0, 15.0)


@dataclass(frozen=True, eq=False)
class Caller:
    """A connection on its way to a process; the coordinator keeps the socket until that one says that it has it."""

    raw: sockets.socket
    address: Address
    secure: bool
    since: float = field(default_factory=time.monotonic)


class Place:
    """One process after the other; the thread starts them and reads their reports.

    ``connections`` is how many it serves. ``strand`` gets the connections that a process did not live to take.
    """

    def __init__(
        self, number: int, port: Port, intake: Intake, on_trouble: OnTrouble, strand: Callable[[Caller], None]
    ) -> None:
        self._strand = strand
        self._on_the_way: dict[int, Caller] = {}
        self._number, self._port, self._intake, self._on_trouble = number, port, intake, on_trouble
        self._orders: sockets.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._open: dict[str, Association] = {}
        self._weather: tuple[bool, float] = (True, 0.0)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._first: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._is_ready = False
        self._thread = threading.Thread(target=self._run, name=f"receiver {number}", daemon=True)
        self.connections = 0

    def start(self) -> None:
        """Start the first process."""
        self._thread.start()

    def wait_until_ready(self, until: float) -> None:
        """Raises ConfigError with the reason if the first process does not come up."""
        try:
            problem = self._first.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            problem = f"receiver process {self._number} does not start"
        if problem is not None:
            raise ConfigError(problem)

    def _order(self, message: bytes, descriptor: int | None = None) -> bool:
        """Send an order; False if there is no process that hears it."""
        with self._lock:
            if self._orders is None:
                return False
            try:
                sockets.send_fds(self._orders, [message], [] if descriptor is None else [descriptor])
            except OSError:
                return False
        return True

    def _answer(self, number: int, *values: object) -> None:
        """Answer a thread of the process, which waits for it; raises OSError."""
        if not self._order(messages.pack("answer", number, *values)):
            raise OSError("an answer could not be passed on")

    def take(self, caller: Caller) -> bool:
        """Hand a connection over; False if the process is not there."""
        if not self._is_ready:
            return False
        caller = replace(caller, since=time.monotonic())
        self._on_the_way[id(caller)] = caller
        order = messages.pack("take", id(caller), *caller.address, caller.secure)
        if not self._order(order, caller.raw.fileno()):
            return self._on_the_way.pop(id(caller), None) is None  # not there: its burial has stranded it already
        self.connections += 1
        return True

    def tell_weather(self, weather: tuple[bool, float]) -> None:
        """Say whether there is room and how long to pause, if that has changed."""
        if weather != self._weather and self._order(messages.pack("weather", *weather)):
            self._weather = weather

    def look(self) -> None:
        """Kill a process that does not take what it was handed: it hangs, and its callers would with it."""
        oldest = min((caller.since for caller in list(self._on_the_way.values())), default=None)
        if oldest is not None and time.monotonic() - oldest > _ANSWERS_WITHIN and self._process is not None:
            self._on_trouble(f"receiver process {self._number} does not answer, and is killed")
            self._process.kill()

    def tell_to_stop(self, grace: float) -> None:
        """Let the process end, and start no other."""
        self._stopping.set()
        self._order(messages.pack("stop", grace))

    def join(self, until: float) -> None:
        """Wait for the process's end; kill it then."""
        if self._thread.ident is None:
            return
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
        self._thread.join(_SEND_LIMIT)

    def _run(self) -> None:
        """The process dies with the thread that started it, so the thread stays as long as processes come."""
        tries = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._live()
            if self._stopping.is_set():
                break
            tries = 0 if time.monotonic() - began > READY_WITHIN else tries + 1
            self._stopping.wait(_PAUSES[min(tries, len(_PAUSES) - 1)])

    def _live(self) -> None:
        """One process from its start to its end."""
        try:
            reports = self._spawn()
        except OSError as exc:
            self._failed(f"cannot be started: {sys.executable}: {exc.strerror or exc}")
            return
        assert self._process is not None
        with reports:
            self._read(reports)
        code = self._process.wait()
        self._bury()
        if not self._stopping.is_set():
            self._failed(f"ended by itself ({code})", "; another one takes its place")

    def _read(self, reports: sockets.socket) -> None:
        """Read reports until the process ends. What cannot be taken ends it: nobody knows what it would wait for."""
        with reports.makefile("rb") as lines:
            try:
                for line in lines:
                    self._take_report(line)
            except Exception as exc:  # noqa: BLE001  # worker boundary: one report must not end receiving for good
                self._on_trouble(f"receiver process {self._number}: its report could not be taken: {exc!r}")
                assert self._process is not None
                self._process.kill()

    def _failed(self, why: str, then: str = "") -> None:
        """Tell it; if no process was ever ready in this place, the box does not start."""
        why = f"receiver process {self._number} {why}"
        self._on_trouble(why + then)
        self._first.put(why)

    def _spawn(self) -> sockets.socket:
        orders, theirs = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        reports, their_reports = sockets.socketpair()
        orders.settimeout(_SEND_LIMIT)
        command = [sys.executable, "-P", "-m", "magickbox.scp.member"]
        numbers = (theirs.fileno(), their_reports.fileno())
        with theirs, their_reports:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                [*command, *map(str, numbers), str(os.getpid())],
                pass_fds=numbers, stdin=subprocess.DEVNULL, env=_environment(),
            )  # fmt: skip
        with self._lock:
            self._orders, self._weather = orders, (True, 0.0)
        self._order(messages.pack("settings", messages.from_port(self._port)))
        return reports

    def _bury(self) -> None:
        """The process is gone: its associations are over, and what they had half received goes away."""
        self._is_ready = False
        with self._lock:
            if self._orders is not None:
                self._orders.close()
            self._orders = None
        self.connections = 0
        while self._on_the_way:
            self._strand(self._on_the_way.popitem()[1])
        for association in list(self._open.values()):
            folder = self._port.incoming / association.id
            with suppress(OSError):
                settle_parts(folder)
            self._end(association.id, End.STOPPED if self._stopping.is_set() else End.ABORTED)

    def _end(self, number: str, how: End) -> None:
        association = self._open.pop(number)
        self._intake.ended(replace(association, how=how, ended=now()), how)

    def _take_report(self, line: bytes) -> None:
        if not line.endswith(b"\n"):
            return  # cut off by its death
        kind, values = messages.unpack(line)
        take: Callable[..., None] = getattr(self, f"_hear_{kind}")
        take(*values)

    def _hear_ready(self) -> None:
        self._is_ready = True
        self._first.put(None)

    def _hear_taken(self, number: int) -> None:
        self._on_the_way.pop(number).raw.close()

    def _hear_full(self, number: int) -> None:
        host, port = self._on_the_way[number].address
        self._hear_taken(number)
        self.connections -= 1
        self._on_trouble(f"{host}:{port}: a receiver process has no file descriptors left (ulimit -n)")

    def _hear_unable(self, why: str) -> None:
        self._first.put(why)
        self._on_trouble(f"receiver process {self._number} cannot serve: {why}")

    def _hear_admit(self, number: int, *values: Any) -> None:
        verdict = self._intake.admit(messages.to_request(list(values)))
        if isinstance(verdict, Association):
            self._open[verdict.id] = verdict
        self._answer(number, *messages.from_verdict(verdict))

    def _hear_stored(self, association: str, *values: Any) -> None:
        self._intake.stored(self._open[association], Instance(*values))

    def _hear_refused(self, association: str, sop_instance: str, status: int, why: str) -> None:
        self._intake.refused(self._open[association], sop_instance, status, why)

    def _hear_reported(self, number: int, association: str, *values: Any) -> None:
        report = messages.to_report(list(values))
        self._answer(number, self._intake.reported(self._open[association], report))

    def _hear_ended(self, association: str, how: str) -> None:
        self._end(association, End(how))

    def _hear_trouble(self, why: str) -> None:
        self._on_trouble(why)

    def _hear_closed(self) -> None:
        self.connections -= 1

    def _hear_reached(self, number: int, step: str) -> None:
        self._port.reached(Step[step])
        self._answer(number)


def _environment() -> dict[str, str]:
    """This process's own, and this very package to be found first."""
    home = str(Path(magickbox.__file__).parent.parent)
    path = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
