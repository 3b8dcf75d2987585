"""What a process and all its descendants use, read from ``/proc`` (so on Linux only)."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_EVERY = 0.2  # seconds between two looks at the memory


@dataclass(frozen=True)
class Process:
    """One process: ``cpu`` are seconds, with those of its children that have ended and been waited for."""

    pid: int
    parent: int
    started: int
    cpu: float


def _process(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    part = text.rpartition(")")[2].split()  # the name before it may hold anything; proc(5) counts from it
    return Process(pid, int(part[1]), int(part[19]), sum(int(ticks) for ticks in part[11:15]) / _TICK)


def tree(root: int) -> list[Process]:
    """A process and its descendants, also those that have ended and have not been waited for."""
    everyone = (_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    by_parent: dict[int, list[Process]] = {}
    found = []
    for each in everyone:
        if each is not None:
            by_parent.setdefault(each.parent, []).append(each)
            if each.pid == root:
                found.append(each)
    for each in found:  # grows while it is walked
        found += by_parent.get(each.pid, [])
    return found


def is_same(process: Process) -> bool:
    """True if this process still lives, and its number was not given to another."""
    now = _process(process.pid)
    return now is not None and now.started == process.started


def cpu_seconds(root: int) -> float:
    """CPU time that a process and its descendants have used so far."""
    return sum(each.cpu for each in tree(root))


def memory(pid: int, key: str) -> int:
    """Bytes that ``/proc`` gives for a process under that key, such as ``VmHWM:``; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


class PeakMemory:
    """The most resident memory of a process and its descendants together, in bytes, as long as the block lasts."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.bytes = 0

    def __enter__(self) -> "PeakMemory":
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time, now also at what the system noted as each one's own peak."""
        self._over.set()
        self._thread.join()
        self._note("VmHWM:")

    def _watch(self) -> None:
        while not self._over.wait(_EVERY):
            self._note("VmRSS:")

    def _note(self, key: str) -> None:
        self.bytes = max(self.bytes, sum(memory(each.pid, key) for each in tree(self._root)))
