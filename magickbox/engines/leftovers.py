"""What a run has started and not ended: found in /proc, and ended.

A process belongs to a run if its environment carries the run's marks (its name and its box: two boxes on one machine
must not end each other's runs), if it is in the session that the run began, in its control group, or if its parent
belongs to it. Together that finds children, background jobs, double forks and ``setsid`` daemons, also those of a box
that was killed. Without a control group a daemon that clears its environment, leaves the session and outlives its
parent escapes; then only a process namespace holds it (the sandbox's work). ``PR_SET_CHILD_SUBREAPER`` would bring such
orphans to the box, but it holds for the whole process, the box would have to reap children that are not its own, and
with several runs at once nothing says whose orphan it is. So it is not used.

/proc is read directly: one look costs about 10 µs a process, and every end of a run takes one.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

GONE = (FileNotFoundError, ProcessLookupError, PermissionError)  # no process any more, or another user's
PATIENCE = 5.0  # seconds for killed processes to be gone
BATCH = 64  # process handles held open at once


@dataclass(frozen=True)
class Seen:
    """A process as /proc shows it; ``born`` (clock ticks since boot) tells it from a later one of the same pid."""

    pid: int
    parent: int
    session: int
    born: int
    alive: bool = True


@dataclass(frozen=True)
class Kin:
    """By what a run's processes are known; see above. ``born`` spares a look at those that are older than the run.

    ``members`` gives the processes of its control group, ``session`` is the one that the run began. ``enclosed`` says
    that nothing can leave that group, so that an empty one needs no look at all processes.
    """

    marks: Mapping[str, str]
    session: int | None = None
    born: int = 0
    members: Callable[[], set[int]] = set
    enclosed: bool = False


@dataclass(frozen=True)
class Ending:
    """How an end went: how many processes there were, and which could not be ended (waiting for a dead disk)."""

    ended: int
    alive: tuple[int, ...] = ()


def look_at(pid: int) -> Seen | None:
    """One process, or None if there is none; not ``alive`` if it only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except GONE:
        return None
    return Seen(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] not in (b"Z", b"X"))


def find(kin: Kin) -> list[Seen]:
    """The living processes of a run."""
    wanted = {os.fsencode(f"{key}={value}") for key, value in kin.marks.items()}
    members = kin.members()
    if kin.enclosed and not members:
        return []
    living = [seen for seen in _everything() if seen.born >= kin.born and seen.pid != os.getpid()]
    ours = {s.pid for s in living if s.session == kin.session or s.pid in members or _is_marked(s.pid, wanted)}
    return _with_children(living, ours)


def tell_inside(sandbox: int, number: signal.Signals) -> None:
    """Send a signal to everything in a sandbox, but not to the two that keep it up: ``sandbox`` and its child."""
    for seen in _with_children([seen for seen in _everything() if seen.pid != sandbox], set(), sandbox):
        if seen.parent != sandbox:
            with contextlib.suppress(*GONE):
                os.kill(seen.pid, number)


def _with_children(living: list[Seen], ours: set[int], parent: int | None = None) -> list[Seen]:
    ours = ours | {seen.pid for seen in living if seen.parent == parent}
    grown = -1
    while grown != len(ours):
        grown = len(ours)
        ours |= {seen.pid for seen in living if seen.parent in ours}
    return [seen for seen in living if seen.pid in ours]


def end_all(kin: Kin, patience: float = PATIENCE) -> Ending:
    """Kill everything that belongs to a run, look again until nothing is left, and say how many there were.

    A process may fork between the look and the kill, so one round is not enough. Raises OSError if for ``patience``
    seconds there were no file handles to look with.
    """
    ended: set[Seen] = set()
    give_up = time.monotonic() + patience
    while True:
        try:
            found = find(kin)
            if not found or time.monotonic() > give_up:
                return Ending(len(ended), tuple(seen.pid for seen in found))
            for start in range(0, len(found), BATCH):
                _kill(found[start : start + BATCH])
            ended.update(found)
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def _everything() -> Iterator[Seen]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (seen := look_at(int(entry))) is not None and seen.alive:
            yield seen


def _is_marked(pid: int, wanted: set[bytes]) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return wanted <= set(file.read().split(b"\0"))
    except GONE:
        return False


def _kill(batch: Iterable[Seen]) -> None:
    """Kill each and wait until all are gone, a second at most; handles make sure that no later process is hit."""
    with contextlib.ExitStack() as open_handles:
        handles = set()
        for seen in batch:
            with contextlib.suppress(*GONE):
                handle = os.pidfd_open(seen.pid)
                open_handles.callback(os.close, handle)
                if _still(seen):
                    handles.add(handle)
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
        _wait_for_all(handles, time.monotonic() + 1.0)


def _still(seen: Seen) -> bool:
    now = look_at(seen.pid)  # its parent may have changed since the look, its birth cannot
    return now is not None and now.born == seen.born


def _wait_for_all(handles: set[int], until: float) -> None:
    waiting = select.poll()
    for handle in handles:
        waiting.register(handle, select.POLLIN)
    while handles and (remaining := until - time.monotonic()) > 0:
        for handle, _ in waiting.poll(remaining * 1000):
            waiting.unregister(handle)
            handles.discard(handle)
