"""Receiver processes: connections are served on all cores, while one coordinator admits, limits and gathers.

A process that dies takes down only its own associations: they count as aborted, what they acknowledged is found in
their folders, and another process is started in its place.
"""

import os
import queue
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
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

_READY_WITHIN = 60.0
_LOOK_EVERY = 0.2
_SEND_LIMIT = 5.0
_PAUSES = (0.1, 1.0, 5.0, 15.0)


@dataclass(frozen=True, eq=False)
class _Caller:
    """A connection on its way to a process; the coordinator keeps the socket until that one says that it has it."""

    raw: sockets.socket
    address: Address
    secure: bool


class Crew:
    """``receivers`` processes, and one thread here for each of them."""

    def __init__(self, port: Port, intake: Intake, on_trouble: OnTrouble) -> None:
        self._intake = intake
        self._stranded: queue.SimpleQueue[_Caller] = queue.SimpleQueue()
        self._members = [_Member(n, port, intake, on_trouble, self._stranded.put) for n in range(port.receivers)]
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="receivers", daemon=True)

    def start(self) -> None:
        """Start the processes and wait until each is ready; raises ConfigError."""
        for member in self._members:
            member.start()
        until = time.monotonic() + _READY_WITHIN
        for member in self._members:
            member.wait_until_ready(until)
        self._watcher.start()

    def count(self) -> int:
        """How many connections are open, in all processes."""
        return sum(member.connections for member in self._members)

    def take(self, raw: sockets.socket, address: Address, secure: bool) -> None:
        """Hand a connected socket to the process with the fewest; waits while there is none, so that none is lost."""
        caller = _Caller(raw, address, secure)
        while not self._hand_over(caller):
            if self._over.wait(_PAUSES[0]):
                raise OSError("the box stops")

    def _hand_over(self, caller: _Caller) -> bool:
        return any(member.take(caller) for member in sorted(self._members, key=lambda m: m.connections))

    def end(self, grace: float) -> None:
        """Answer what is in hand and abort; kill what takes longer than ``grace`` seconds."""
        self._over.set()
        for member in self._members:
            member.tell_to_stop(grace)
        until = time.monotonic() + grace + 2.0
        for member in self._members:
            member.join(until)
        if self._watcher.ident is not None:
            self._watcher.join()
        while not self._stranded.empty():
            self._stranded.get().raw.close()

    def _watch(self) -> None:
        """Tell the processes what they cannot know: whether the disk has room, and whether to go slower.

        And hand connections over again whose process died before it had them.
        """
        while not self._over.wait(_LOOK_EVERY):
            for _ in range(self._stranded.qsize()):
                caller = self._stranded.get()
                if not self._hand_over(caller):
                    self._stranded.put(caller)
            weather = (self._intake.has_room(), self._intake.pause())
            for member in self._members:
                member.tell_weather(weather)


class _Member:
    """One process after the other in one place of the crew; the thread starts them and reads their reports."""

    def __init__(
        self, number: int, port: Port, intake: Intake, on_trouble: OnTrouble, strand: Callable[[_Caller], None]
    ) -> None:
        self._strand = strand
        self._on_the_way: dict[int, _Caller] = {}
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

    def take(self, caller: _Caller) -> bool:
        """Hand a connection over; False if the process is not there."""
        if not self._is_ready:
            return False
        self._on_the_way[id(caller)] = caller
        if not self._order(messages.pack("take", id(caller), *caller.address, caller.secure), caller.raw.fileno()):
            return self._on_the_way.pop(id(caller), None) is None  # not there: its burial has stranded it already
        self.connections += 1
        return True

    def tell_weather(self, weather: tuple[bool, float]) -> None:
        """Say whether there is room and how long to pause, if that has changed."""
        if weather != self._weather and self._order(messages.pack("weather", *weather)):
            self._weather = weather

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
            tries = 0 if time.monotonic() - began > _READY_WITHIN else tries + 1
            self._stopping.wait(_PAUSES[min(tries, len(_PAUSES) - 1)])

    def _live(self) -> None:
        """One process from its start to its end."""
        try:
            reports = self._spawn()
        except OSError as exc:
            self._failed(f"cannot be started: {exc.strerror or exc}")
            return
        with reports, reports.makefile("rb") as lines:
            for line in lines:
                self._take_report(line)
        assert self._process is not None
        code = self._process.wait()
        self._bury()
        if not self._stopping.is_set():
            self._failed(f"ended by itself ({code})", "; another one takes its place")

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
            with suppress(OSError):
                settle_parts(self._port.incoming / association.id)
            self._end(association.id, End.STOPPED if self._stopping.is_set() else End.ABORTED)

    def _end(self, number: str, how: End) -> None:
        association = self._open.pop(number)
        self._intake.ended(replace(association, how=how, ended=now()), how)

    def _take_report(self, line: bytes) -> None:
        if line.endswith(b"\n"):  # else it is cut off by its death
            kind, values = messages.unpack(line)
            take: Callable[..., None] = getattr(self, f"_hear_{kind}")
            take(*values)

    def _hear_ready(self) -> None:
        self._is_ready = True
        self._first.put(None)

    def _hear_taken(self, number: int) -> None:
        self._on_the_way.pop(number).raw.close()

    def _hear_unable(self, why: str) -> None:
        self._first.put(why)
        self._on_trouble(f"receiver process {self._number} cannot serve: {why}")

    def _hear_admit(self, number: int, *values: Any) -> None:
        verdict = self._intake.admit(messages.to_request(list(values)))
        if isinstance(verdict, Association):
            self._open[verdict.id] = verdict
        self._order(messages.pack("answer", number, *messages.from_verdict(verdict)))

    def _hear_stored(self, association: str, *values: Any) -> None:
        self._intake.stored(self._open[association], Instance(*values))

    def _hear_refused(self, association: str, sop_instance: str, status: int, why: str) -> None:
        self._intake.refused(self._open[association], sop_instance, status, why)

    def _hear_reported(self, number: int, association: str, *values: Any) -> None:
        report = messages.to_report(list(values))
        self._order(messages.pack("answer", number, self._intake.reported(self._open[association], report)))

    def _hear_ended(self, association: str, how: str) -> None:
        self._end(association, End(how))

    def _hear_trouble(self, why: str) -> None:
        self._on_trouble(why)

    def _hear_closed(self) -> None:
        self.connections -= 1

    def _hear_reached(self, number: int, step: str) -> None:
        self._port.reached(Step[step])
        self._order(messages.pack("answer", number))


def _environment() -> dict[str, str]:
    """This process's own, and this very package to be found first."""
    path = [str(Path(magickbox.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
