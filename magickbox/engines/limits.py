"""How much of the machine a run may have: what its processor.json says, else the box's settings."""

import os
import re
import resource
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from magickbox.bytesize import in_bytes, shown
from magickbox.processor import Processor
from magickbox.run import Limit

SHORT_OF_MEMORY = re.compile(r"MemoryError|[Cc]annot allocate memory|bad_alloc|[Oo]ut of memory")
LOOKED_AT = 10_000  # files among which one is looked for that has grown to its limit


@dataclass(frozen=True)
class Limits:
    """``memory`` and ``file_size`` are bytes, ``cpus`` cores (parts allowed), ``processes`` counts threads too.

    None means that nothing is limited. ``file_size`` is for each single file.
    """

    memory: int | None = None
    cpus: float | None = None
    processes: int | None = None
    file_size: int | None = None

    def told(self) -> dict[str, object]:
        """Those that are set, as run.json has them."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Events:
    """What the kernel counted while a run was under way: kills for want of memory, refused forks, most memory used."""

    memory_kills: int = 0
    refused_forks: int = 0
    peak_memory: int | None = None


def limits_of(processor: Processor, default: Limits) -> Limits:
    """The limits of a processor's runs: its ``resources``, and the box's default for what it does not name.

    A package that says what it needs at least (``memory_needed``) gets that, also if the default is less.
    """
    asked = dict(processor.resources)
    usual = default.memory
    if usual is not None and "memory_needed" in asked:
        usual = max(usual, in_bytes(asked["memory_needed"]))
    return Limits(
        memory=in_bytes(asked["memory"]) if "memory" in asked else usual,
        cpus=float(str(asked["cpus"])) if "cpus" in asked else default.cpus,
        processes=int(str(asked["processes"])) if "processes" in asked else default.processes,
        file_size=in_bytes(asked["file_size"]) if "file_size" in asked else default.file_size,
    )


def restrain(pid: int, limits: Limits, in_group: bool) -> None:
    """Set the limits of a process that it hands on to what it starts; raises OSError.

    No core dumps: they hold what a patient's images hold. Without a control group memory is limited for each process
    alone, and the number of processes only for a box that is not root (the kernel does not hold root to it).
    """
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        if limits.file_size is not None:
            _lower(pid, resource.RLIMIT_FSIZE, limits.file_size)
        if in_group:
            return
        if limits.memory is not None:
            _lower(pid, resource.RLIMIT_DATA, limits.memory)
        if limits.processes is not None and os.getuid() != 0:
            _lower(pid, resource.RLIMIT_NPROC, limits.processes + _running_now())


@dataclass(frozen=True)
class Overrun:
    """A limit that a run met: which, and in words."""

    limit: Limit
    said: str


def verdict(limits: Limits, events: Events, code: int | None, last_line: str, workdir: Path) -> Overrun | None:
    """The limit that ended a run; None if it ended well or for another reason."""
    if code in (0, None):
        return None
    if (found := _limit_met(limits, events, code, workdir)) is not None:
        return found
    if limits.memory is not None and events.peak_memory is None and SHORT_OF_MEMORY.search(last_line):
        return Overrun(Limit.MEMORY, f"out of memory (limit {shown(limits.memory)} for each process): {last_line}")
    return None


def met(limits: Limits, events: Events, code: int | None, workdir: Path) -> str:
    """The limit that a run met although it ended well, in words: its results may lack something. Empty if none."""
    found = _limit_met(limits, events, code, workdir) if code == 0 else None
    return f"it ended well, but met a limit: {found.said}" if found else ""


def _limit_met(limits: Limits, events: Events, code: int | None, workdir: Path) -> Overrun | None:
    if events.memory_kills and limits.memory is not None:
        return Overrun(Limit.MEMORY, f"out of memory (limit {shown(limits.memory)})")
    if events.refused_forks and limits.processes is not None:
        return Overrun(Limit.OTHER, f"too many processes (limit {limits.processes})")
    if limits.file_size is not None and (code == -signal.SIGXFSZ or _is_reached(limits.file_size, workdir)):
        return Overrun(Limit.OTHER, f"a file became too large (limit {shown(limits.file_size)})")
    return None


def _lower(pid: int, which: int, value: int) -> None:
    _, hard = resource.prlimit(pid, which)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.prlimit(pid, which, (most, most))


def _running_now() -> int:
    """How many threads this user has: the kernel counts them all against the limit of each."""
    count = 0
    for entry in os.scandir("/proc"):
        with suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count


def _is_reached(size: int, workdir: Path) -> bool:
    files = (each for each, _ in zip(_sizes(workdir), range(LOOKED_AT), strict=False))
    return any(each >= size for each in files)


def _sizes(workdir: Path) -> Iterator[int]:
    """The sizes of what a run wrote: not of its INPUT."""
    for folder, inner, names in os.walk(workdir):
        if "INPUT" in inner and folder == str(workdir):
            inner.remove("INPUT")
        for name in names:
            with suppress(OSError):
                yield os.lstat(os.path.join(folder, name)).st_size
