"""Control groups: limits for all processes of a run together, and a list of them that nobody gets off.

Version 1 (one hierarchy for each controller) and version 2 (one for all). Groups are made below the box's own, so
that what holds for the box holds for its runs, and only where this user may: root, or a service with ``Delegate=yes``.
Under version 2 a group with limited children may hold no process itself, so the box steps into a child of its own.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2s
from pathlib import Path

from magickbox.engines.limits import Events, Limits

CONTROLLERS = ("memory", "pids", "cpu")
PERIOD = 100_000  # microseconds in which a share of the processors is counted
OWN = "magickbox-box"  # where the box itself goes under version 2
PATIENCE = 2.0  # seconds for the kernel to let go of the processes of a group


@dataclass(frozen=True)
class Group:
    """The control group of one run: its folder in each hierarchy, by controller."""

    folders: dict[str, Path]
    version: int

    def make(self, limits: Limits) -> None:
        """Make it with its limits; raises OSError."""
        for folder in dict.fromkeys(self.folders.values()):
            folder.mkdir(exist_ok=True)
        for controller, file, value in self._written(limits):
            (self.folders[controller] / file).write_text(value)
        if limits.memory is not None:
            with suppress(OSError):  # a kernel without accounting of swap has no such file
                swap = ("memory.swap.max", "0") if self.version == 2 else ("memory.memsw.limit_in_bytes", limits.memory)
                (self.folders["memory"] / swap[0]).write_text(str(swap[1]))

    def _written(self, limits: Limits) -> list[tuple[str, str, str]]:
        written = []
        if limits.memory is not None:
            file = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
            written.append(("memory", file, str(limits.memory)))
        if limits.processes is not None:
            written.append(("pids", "pids.max", str(limits.processes)))
        if limits.cpus is not None:
            quota = max(1000, int(limits.cpus * PERIOD))
            if self.version == 2:
                written.append(("cpu", "cpu.max", f"{quota} {PERIOD}"))
            else:
                written += [("cpu", "cpu.cfs_period_us", str(PERIOD)), ("cpu", "cpu.cfs_quota_us", str(quota))]
        return written

    def add(self, pid: int) -> None:
        """Put a process in; what it starts from now on is in too. Raises OSError."""
        for folder in dict.fromkeys(self.folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def members(self) -> set[int]:
        """The processes in it; a group that is not there has none."""
        found: set[int] = set()
        for folder in dict.fromkeys(self.folders.values()):
            with suppress(OSError):
                found.update(map(int, (folder / "cgroup.procs").read_text().split()))
        return found - {0}  # a process that this one may not see is shown as 0

    def events(self) -> Events:
        """What was counted in it."""
        memory, pids = self.folders["memory"], self.folders["pids"]
        kills = _counted(memory / ("memory.events" if self.version == 2 else "memory.oom_control"), "oom_kill")
        peak = _number(memory / ("memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"))
        return Events(kills, _counted(pids / "pids.events", "max"), peak)

    def remove(self) -> bool:
        """Remove it; False if for two seconds something was in it. One that is not there is no error."""
        give_up = time.monotonic() + PATIENCE
        left = list(dict.fromkeys(self.folders.values()))
        while left := [folder for folder in left if not _removed(folder)]:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.002)
        return True


class Groups:
    """Where this box may make control groups; see ``find``."""

    def __init__(self, parents: dict[str, Path], version: int, box: Path) -> None:
        self._parents, self.version = parents, version
        self._prefix = f"magickbox-{blake2s(os.fsencode(box), digest_size=4).hexdigest()}-"

    def of(self, run: str) -> Group:
        """The group of a run, made or not."""
        return Group({name: parent / f"{self._prefix}{run}" for name, parent in self._parents.items()}, self.version)

    def sweep(self) -> None:
        """Remove what a killed box has left empty; what still runs is ended by its name, and its group with it."""
        for parent in dict.fromkeys(self._parents.values()):
            for folder in parent.glob(f"{self._prefix}*"):
                _removed(folder)

    def works(self) -> bool:
        """True if a group with limits can be made here; tried with one that is removed again."""
        trial = self.of(f"trial-{os.getpid()}")
        try:
            trial.make(Limits(memory=1 << 30, cpus=1.0, processes=100))
            return True
        except OSError:
            return False
        finally:
            trial.remove()


def find(box: Path) -> Groups | None:
    """Where this process may make groups with limits of memory, processes and CPUs; None if it may not."""
    for look in (_version_1, _version_2):
        with suppress(OSError, ValueError):
            parents = look()
            if parents is not None:
                groups = Groups(parents, 1 if look is _version_1 else 2, box)
                if groups.works():
                    groups.sweep()
                    return groups
    return None


def _version_1() -> dict[str, Path] | None:
    mounts = {name: at for kind, options, at in _mounts() if kind == "cgroup" for name in options}
    if not set(CONTROLLERS) <= mounts.keys():
        return None
    own = {name: path for names, path in _memberships() for name in names}
    return {name: mounts[name] / own[name].lstrip("/") for name in CONTROLLERS if name in own}


def _version_2() -> dict[str, Path] | None:
    """Below the box's own group; the box has to leave it first, which is only done if nobody else is in it."""
    at = next((at for kind, _, at in _mounts() if kind == "cgroup2"), None)
    path = next((path for names, path in _memberships() if names == [""]), None)
    if at is None or path is None:
        return None
    own = at / path.lstrip("/")
    parent = own.parent if own.name == OWN else own
    if not set(CONTROLLERS) <= set((parent / "cgroup.controllers").read_text().split()):
        return None
    if parent == own:
        if set((own / "cgroup.procs").read_text().split()) != {str(os.getpid())}:
            return None
        (own / OWN).mkdir(exist_ok=True)
        (own / OWN / "cgroup.procs").write_text(str(os.getpid()))
    (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in CONTROLLERS))
    return dict.fromkeys(CONTROLLERS, parent)


def _mounts() -> list[tuple[str, list[str], Path]]:
    """Each mounted hierarchy of this process's root: its kind, its options, and where it is."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fields, (kind, _, options) = before.split(), after.split(maxsplit=2)
            if kind in ("cgroup", "cgroup2") and fields[3] == "/":
                found.append((kind, options.strip().split(","), Path(fields[4])))
    return found


def _memberships() -> list[tuple[list[str], str]]:
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        split = (line.rstrip("\n").split(":", 2) for line in file)
        return [(names.split(","), path) for _, names, path in split]


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _counted(file: Path, word: str) -> int:
    with suppress(OSError, ValueError):
        pairs = (line.split() for line in file.read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[0] == word), 0)
    return 0


def _number(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return None
