"""A receiver process: serves the connections that the coordinator hands over, and reports to it.

It writes its association folders and nothing else, never opens the ledger, and never outlives the coordinator: an
instance that is acknowledged after the box was killed would be one that the next box does not know of.
"""

import ctypes
import os
import queue
import resource
import signal
import socket as sockets
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace

from magickbox.association import Association, End
from magickbox.errors import ConfigError
from magickbox.instance import Instance
from magickbox.intake import Refusal, Request
from magickbox.proof import Report
from magickbox.scp import messages
from magickbox.scp.connections import Connections
from magickbox.steps import Step

_PR_SET_PDEATHSIG = 1
_SOON = 0.01  # seconds that reports of instances are gathered: each by itself would cost the coordinator a wakening
_SWITCH = 0.0005  # seconds after which a thread that waits for its turn gets it; Python's own 5 ms are an answer's time


class Reporter:
    """The coordinator as the connections of this process see it (``intake.Intake``)."""

    def __init__(self, reports: sockets.socket) -> None:
        self._reports = reports
        self._sending = threading.Lock()
        self._held: list[bytes] = []
        self._holds = threading.Event()
        threading.Thread(target=self._let_go, name="reports", daemon=True).start()
        self._answers: dict[int, queue.SimpleQueue[list[object]]] = {}
        self.room, self.delay = True, 0.0

    def say(self, kind: str, *values: object) -> None:
        """Send a report, after those that are held; raises OSError if the coordinator is gone."""
        line = messages.pack(kind, *values) + b"\n"
        with self._sending:
            self._held.append(line)
            self._send()

    def _send(self) -> None:
        held, self._held = self._held, []
        self._reports.sendall(b"".join(held))

    def _say_soon(self, kind: str, *values: object) -> None:
        line = messages.pack(kind, *values) + b"\n"
        with self._sending:
            self._held.append(line)
            self._holds.set()

    def _let_go(self) -> None:
        with suppress(OSError):  # the coordinator is gone, and this process with it
            while self._holds.wait():
                time.sleep(_SOON)
                with self._sending:
                    self._holds.clear()
                    self._send()

    def _ask(self, kind: str, *values: object) -> list[object]:
        number = threading.get_ident()
        answer = self._answers[number] = queue.SimpleQueue()
        self.say(kind, number, *values)
        return answer.get()

    def answered(self, number: int, values: list[object]) -> None:
        """The coordinator's answer to what a thread of that number has asked."""
        self._answers.pop(number).put(values)

    def admit(self, request: Request) -> Association | Refusal:
        """Ask the coordinator, and wait."""
        return messages.to_verdict(self._ask("admit", *messages.from_request(request)))

    def stored(self, association: Association, instance: Instance) -> None:
        """Report it, soon and in its order."""
        self._say_soon("stored", association.id, *messages.from_instance(instance))

    def refused(self, association: Association, sop_instance: str, status: int, why: str) -> None:
        """Report it."""
        self.say("refused", association.id, sop_instance, status, why[: messages.MOST_WORDS])

    def ended(self, association: Association, how: End) -> None:
        """Report it."""
        self.say("ended", association.id, how)

    def reported(self, association: Association, report: Report) -> int:
        """Ask the coordinator, and wait until it is durable."""
        (status,) = self._ask("reported", association.id, *messages.from_report(report))
        return int(str(status))

    def has_room(self) -> bool:
        """What the coordinator said last."""
        return self.room

    def pause(self) -> float:
        """What the coordinator said last."""
        return self.delay

    def reached(self, step: Step) -> None:
        """Let the coordinator's test do what it does at that step."""
        self._ask("reached", step.name)

    def trouble(self, why: str) -> None:
        """Report it."""
        self.say("trouble", why[: messages.MOST_WORDS])

    def closed(self) -> None:
        """Report that a connection is over."""
        self.say("closed")


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before


def main() -> None:
    """Serve until the order to stop; called by ``crew`` with the descriptors of both sockets and its process id."""
    orders_fd, reports_fd, parent = map(int, sys.argv[1:])
    _die_with(parent)
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # a stop of the box is the coordinator's to organize
    sys.setswitchinterval(_SWITCH)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    orders, reports = sockets.socket(fileno=orders_fd), sockets.socket(fileno=reports_fd)
    with suppress(EOFError, OSError):
        _serve(orders, Reporter(reports))
    os._exit(0)  # what still runs belongs to nobody


def _serve(orders: sockets.socket, reporter: Reporter) -> None:
    _, (settings,), _ = messages.receive_order(orders)
    port = messages.to_port(settings)
    if settings["watched"]:
        port = replace(port, reached=reporter.reached)
    try:
        connections = Connections(port, reporter, reporter.trouble, reporter.closed)
    except ConfigError as exc:
        reporter.say("unable", str(exc))
        return
    reporter.say("ready")
    while True:
        kind, values, descriptors = messages.receive_order(orders)
        if kind == "take":
            if not descriptors:  # the kernel had none left for this process
                reporter.say("full", values[0])
                continue
            reporter.say("taken", values[0])
            _take(connections, reporter, sockets.socket(fileno=descriptors[0]), *values[1:])
        elif kind == "answer":
            reporter.answered(values[0], values[1:])
        elif kind == "weather":
            reporter.room, reporter.delay = values
        elif kind == "stop":
            threading.Thread(target=_end, args=(connections, *values), daemon=True).start()


def _take(
    connections: Connections, reporter: Reporter, raw: sockets.socket, host: str, port: int, secure: bool
) -> None:
    try:
        connections.take(raw, (host, port), secure)
    except (OSError, RuntimeError):
        raw.close()
        reporter.trouble(f"{host}:{port}: the connection could not be set up")
        reporter.closed()


def _end(connections: Connections, grace: float) -> None:
    connections.end(grace)
    os._exit(0)


if __name__ == "__main__":
    main()
