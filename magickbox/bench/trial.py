"""One trial: one receiver, newly started, takes what one sender sends; then all is counted, ended and removed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from magickbox.bench import usage
from magickbox.bench.objects import Kind
from magickbox.bench.receivers import Conditions, Receiver
from magickbox.bench.sender import Order, Sent
from magickbox.config import PREFIX
from magickbox.errors import PeerError

_START = 30.0  # seconds that a receiver may take to listen
_SETTLED, _MOMENT, _IDLE = 20.0, 0.5, 0.05  # seconds until it does nothing more, of a look, and of CPU in a second


@dataclass(frozen=True)
class Cell:
    """What is the same for all receivers that are compared; ``pdu`` in bytes, as far as the receiver takes it."""

    kind: Kind
    associations: int
    pdu: int
    fsync: bool


@dataclass(frozen=True)
class Amount:
    """How much is sent in one trial: at most this many instances, and for no longer than that."""

    instances: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """One trial's figures, as they were measured."""

    sent: Sent
    cpu: float
    memory: int


def run(receiver: Receiver, cell: Cell, amount: Amount, dataset: Path, folder: Path) -> Measured:
    """Measure once; raises PeerError if the receiver does not start, refuses, or has not stored every instance."""
    with TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        port, spare = free_ports()
        under = Conditions(Path(own), port, cell.pdu, cell.associations, cell.fsync, spare)
        with _sending(_order(cell, amount, dataset, port)) as sender, running(receiver, under) as process:
            _ask(sender, "warm")
            before = usage.cpu_seconds(process.pid)
            with usage.PeakMemory(process.pid) as memory:
                sent = Sent(**_ask(sender, "go"))
                cpu = usage.cpu_seconds(process.pid) - before
            stored, expected = receiver.stored(under), len(sent.ended) + cell.kind.warm_up
        if stored != expected:
            raise PeerError(f"{expected} instances were answered with success, {stored} are stored")
    os.sync()  # what this one left to be written must not slow down the next one
    return Measured(sent, cpu, memory.bytes)


def _order(cell: Cell, amount: Amount, dataset: Path, port: int) -> Order:
    each = max(1, amount.instances // cell.associations)
    kind = cell.kind
    return Order(port, str(dataset), kind.sop_class, cell.pdu, cell.associations, each, amount.seconds, kind.warm_up)


def free_ports() -> tuple[int, int]:
    """Two ports of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def _sending(order: Order) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "magickbox.bench.sender", json.dumps(asdict(order))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _ask(sender: "subprocess.Popen[str]", word: str) -> dict[str, Any]:
    """Tell the sender what to do next and return what it says when it is done; raises PeerError."""
    assert sender.stdin is not None
    assert sender.stdout is not None
    with suppress(BrokenPipeError):
        sender.stdin.write(word + "\n")
        sender.stdin.flush()
    for line in sender.stdout:
        if line.startswith("{"):
            said: dict[str, Any] = json.loads(line)
            if "trouble" in said:
                raise PeerError(str(said["trouble"]))
            return said
        if line.strip() == word:
            return {}
    raise PeerError("the sender ended without a word")


@contextmanager
def running(receiver: Receiver, under: Conditions) -> "Iterator[subprocess.Popen[bytes]]":
    """The receiver, once it listens; ended with all its children when the block is left."""
    launch = receiver.launch(under)
    environment = {key: text for key, text in os.environ.items() if not key.startswith(PREFIX)}
    output = under.folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  a list, no shell
            launch.command,
            env={**environment, **launch.environment},
            cwd=under.folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(process, under.port, output)
        let_settle(process)
        yield process
    finally:
        _end(process)


def wait_for(process: "subprocess.Popen[bytes]", port: int, output: Path) -> None:
    """Wait until it listens; raises PeerError with its last words if it does not."""
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    last = output.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
    raise PeerError(f"it does not listen: {last[0]}")


def let_settle(process: "subprocess.Popen[bytes]") -> None:
    """Wait until its start is over: a box listens before its window, which is a process of its own, has started."""
    deadline = time.monotonic() + _SETTLED
    before = usage.cpu_seconds(process.pid)
    while time.monotonic() < deadline:
        time.sleep(_MOMENT)
        after = usage.cpu_seconds(process.pid)
        if after - before <= _IDLE * _MOMENT:
            return
        before = after


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it at once: what it has stored was counted, and is thrown away."""
    everyone = usage.tree(process.pid)
    process.kill()
    for each in everyone:
        if each.pid != process.pid and usage.is_same(each):
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
    process.wait()
