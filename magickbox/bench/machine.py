"""On what was measured: the machine, the programs' versions, and what an fsync costs there."""

import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pynetdicom

from magickbox import __version__
from magickbox.bench.receivers import outside

_BUSY = 0.7  # a load that other work must have made


def about(folder: Path) -> dict[str, str]:
    """Facts with their names, for the head of a report; nothing that names the machine's owner."""
    facts = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "magickbox": _commit(__version__),
        "machine": f"{os.cpu_count()} cores, {_processor()}, {_memory()}",
        "system": f"{platform.system()} {_numbers(platform.release())}, Python {platform.python_version()}",
        "fsync": f"{fsync_cost(folder) * 1000:.2f} ms for a new file of 32 KB",
        "load": f"{os.getloadavg()[0]:.2f} processes ran or waited in the minute before",
        "pynetdicom": pynetdicom.__version__,
    }
    for name, program in (("DCMTK", "storescp"), ("Orthanc", "Orthanc")):
        path = outside(program)
        if path:
            facts[name] = _version(_first_line([path, "--version"]))
    return facts


def fsync_cost(folder: Path, times: int = 30) -> float:
    """Seconds to write, fsync and close a new file of 32 KB, the median."""
    took = []
    with tempfile.TemporaryDirectory(dir=folder) as own:
        for number in range(times):
            began = time.perf_counter()
            with (Path(own) / str(number)).open("wb", buffering=0) as file:
                file.write(bytes(32768))
                os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def _processor() -> str:
    return _proc_value("/proc/cpuinfo", "model name") or platform.machine()


def _memory() -> str:
    words = _proc_value("/proc/meminfo", "MemTotal").split()
    return f"{int(words[0]) / 2**20:.0f} GiB" if words else "memory unknown"


def _proc_value(file: str, key: str) -> str:
    try:
        lines = Path(file).read_text("ascii", "replace").splitlines()
    except OSError:
        return ""
    found: Mapping[str, str] = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    return found.get(key, "")


def busy_problem() -> str | None:
    """Why figures that are taken now say little, or None: how many other processes wanted to run of late."""
    load = os.getloadavg()[0]
    return f"the machine is busy (load {load:.1f}): the figures say little" if load > _BUSY else None


def _version(said: str) -> str:
    found = re.search(r"\d+(\.\d+)+", said)
    return found.group() if found else said


def _numbers(release: str) -> str:
    """A kernel's version without what a provider adds to it."""
    return re.split(r"[^\d.]", release)[0]


def _commit(version: str) -> str:
    """The version, with the commit if this is a checkout."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists():
        return version
    try:
        said = _first_line(["git", "-C", str(source), "describe", "--always", "--dirty", "--exclude", "*"])
    except OSError:
        return version
    return f"{version}, commit {said}" if said else version


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  no shell, no input
    return (done.stdout.strip().splitlines() or [""])[0].strip("$ ")
