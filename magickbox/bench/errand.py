"""One trial of a sender: a newly started storescp takes what it sends, and the files that come tell how fast it was.

All senders have the same clock: the time from the first stored file's end to the last one's. So a start, a look through
the files beforehand, an association and its release do not count; ``whole`` has them all.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from magickbox.bench import usage
from magickbox.bench.receivers import Conditions, dcmtk
from magickbox.bench.senders import PDU, Errand, Sender, magickbox
from magickbox.bench.trial import free_ports, let_settle, running, wait_for
from magickbox.config import PREFIX
from magickbox.errors import PeerError

PATIENCE = 300.0  # seconds that a sender may take
_EVERY = 0.01
_LOOK_EVERY = 0.05  # at a folder with thousands of files, beside a box that needs the processors
_SCRIPT = '#!/bin/sh\ncp "$1"/* "$2"/\n'


@dataclass(frozen=True)
class Taken:
    """What one trial came to: seconds, CPU seconds for each instance, resident memory in bytes."""

    instances: int
    seconds: float
    whole: float
    cpu: float
    memory: int


def run(sender: Sender, one: Path, many: Path, folder: Path) -> Taken:
    """Send the file of ``one`` to warm up, then those of ``many``; raises PeerError if any of them is not stored."""
    with TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        port, spare = free_ports()
        under = Conditions(Path(own) / "scp", port, PDU, 1, False, spare)
        under.folder.mkdir()
        with running(dcmtk(tuned=True), under):
            send = _by_box if sender.command is None else _by_program
            taken = send(sender, one, many, Errand(many, port, Path(own) / "sender"), under.store)
    os.sync()  # what this one left to be written must not slow down the next one
    return taken


def _span(store: Path, count: int) -> float:
    """Seconds from the first stored file's end to the last one's; raises PeerError if some are missing."""
    moments = sorted(entry.stat().st_mtime for entry in os.scandir(store))
    if len(moments) != count:
        raise PeerError(f"{count} instances were sent, {len(moments)} are stored")
    return moments[-1] - moments[0]


def _empty(store: Path) -> None:
    for entry in os.scandir(store):
        os.unlink(entry)


def _count(folder: Path) -> int:
    return sum(1 for _ in os.scandir(folder))


def _environment(sender: Sender) -> dict[str, str]:
    return {**{key: text for key, text in os.environ.items() if not key.startswith(PREFIX)}, **sender.environment}


def _by_program(sender: Sender, one: Path, many: Path, errand: Errand, store: Path) -> Taken:
    """The CPU time of the warm-up, which is a start and one instance, is taken off."""
    errand.folder.mkdir()
    start, _, _ = _once(sender, Errand(one, errand.port, errand.folder))
    _empty(store)
    cpu, memory, whole = _once(sender, errand)
    count = _count(many)
    return Taken(count, _span(store, count), whole, max(0.0, cpu - start) / (count - 1), memory)


def _once(sender: Sender, errand: Errand) -> tuple[float, int, float]:
    """Run it to its end: CPU seconds, peak memory, and how long it took; raises PeerError if it fails."""
    assert sender.command is not None
    began, output = time.monotonic(), errand.folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  a list, no shell
            sender.command(errand), env=_environment(sender), stdout=file, stderr=subprocess.STDOUT
        )
    most, ended = 0, 0
    while not ended:
        time.sleep(_EVERY)
        if time.monotonic() - began > PATIENCE:
            process.kill()
        most = max(most, usage.memory(process.pid, "VmHWM:"))  # rusage has its parent's in it
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
    whole = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = output.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise PeerError(f"it ended with {process.returncode}: {last[0]}")
    return used.ru_utime + used.ru_stime, most, whole


def _by_box(sender: Sender, one: Path, many: Path, errand: Errand, store: Path) -> Taken:
    """A box takes a study, copies it and delivers it; CPU time is what it uses between the first and the last one."""
    bare = Sender("to the box", "", lambda to: magickbox("send", "127.0.0.1", to.port, to.files, "--called", "COPY"))
    with _a_box(errand, sender) as (port, process):
        for files in (one, many):
            _empty(store)
            inbound = errand.folder / f"send-{files.name}"
            inbound.mkdir()
            _once(bare, Errand(files, port, inbound))
            began = _wait(store, 1)
            before, at_first = usage.cpu_seconds(process.pid), _count(store)
            with usage.PeakMemory(process.pid) as memory:
                whole = _wait(store, _count(files)) - began
            cpu, seen = usage.cpu_seconds(process.pid) - before, _count(store) - at_first
    count = _count(many)
    return Taken(count, _span(store, count), whole, cpu / max(1, seen), memory.bytes)


def _wait(store: Path, count: int) -> float:
    """Wait until that many are stored; the moment. Raises PeerError."""
    began = time.monotonic()
    while _count(store) < count:
        if time.monotonic() - began > PATIENCE:
            raise PeerError(f"only {_count(store)} of {count} instances were delivered in {PATIENCE:g} s")
        time.sleep(_LOOK_EVERY)
    return time.monotonic()


@contextmanager
def _a_box(errand: Errand, sender: Sender) -> "Iterator[tuple[int, subprocess.Popen[bytes]]]":
    """A running box whose one processor copies, and whose one rule sends to the errand's port."""
    data, (port, _) = errand.folder / "data", free_ports()
    dropin = data / "processors" / "COPY"
    dropin.parent.mkdir(parents=True)
    dropin.write_text(_SCRIPT)
    dropin.chmod(0o755)
    to = {"IP": "127.0.0.1", "PORT": errand.port, "AETitleSender": "BOX", "AETitleTo": "STORESCP"}
    (data / "routing.json").write_text(json.dumps({"routing": [{"name": "all", "send": [{"success": to}]}]}))
    settings = {
        "data": data,
        "processors": dropin.parent,
        "host": "127.0.0.1",
        "port": port,
        "settle": 0,
        "min_free": 0,
    }
    environment = {**_environment(sender), **{PREFIX + key.upper(): str(value) for key, value in settings.items()}}
    output = errand.folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  a list, no shell
            magickbox("serve"), env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        wait_for(process, port, output)
        let_settle(process)
        yield port, process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
