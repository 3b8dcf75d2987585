"""What this machine has for runs: cores, memory and graphics cards, as far as the box itself may use them."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

from magickbox.allotment import Amount, unbounded
from magickbox.config import Settings

KEPT_BACK = 17 / 16  # the kernel tells of a little less memory than is built in: "16G" fits a machine with 16 GB
CARDS = (("", r"nvidia\d+"), ("", "dxg"), ("dri", r"renderD\d+"))  # the first kind that is there is counted


def room_of(settings: Settings) -> Amount:
    """What the box gives to its runs, all together: its settings, else what the machine has.

    More slots than cores are somebody's wish: so many runs that ask for one core each then find one. A cluster counts
    its cores, memory and cards itself.
    """
    if settings.engine == "slurm":
        return unbounded(settings.slurm_jobs)
    cpus = settings.cpus if settings.cpus is not None else max(cores(), settings.slots)
    memory = settings.memory.of(int(main_memory())) if settings.memory is not None else main_memory() * KEPT_BACK
    gpus = settings.gpus if settings.gpus is not None else cards()
    return Amount(settings.slots, cpus, memory or inf, gpus)


def cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Processor cores that this process may use; parts of one where its control group is limited so."""
    found = float(len(os.sched_getaffinity(0)))
    for text in _limits("cpu", "cpu.max", groups, own):
        quota, _, period = text.partition(" ")
        if quota.isdecimal() and period.strip().isdecimal():
            found = min(found, int(quota) / int(period))
    return found


def main_memory(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Bytes of memory that this process may use."""
    limits = [*_limits("memory", "memory.max", groups, own), *_limits("memory", "memory.limit_in_bytes", groups, own)]
    built_in = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([float(built_in), *(float(text) for text in limits if text.strip().isdecimal())])


def cards(devices: Path = Path("/dev")) -> int:
    """Graphics cards that can compute, by their devices."""
    for folder, name in CARDS:
        with suppress(OSError):
            count = sum(re.fullmatch(name, each) is not None for each in os.listdir(devices / folder))
            if count:
                return count
    return 0


def _limits(controller: str, file: str, groups: Path, own: Path) -> Iterator[str]:
    """What the control groups say that this process is in, from its own up to the outermost; version 1 and 2."""
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            top = groups if not controllers else groups / controllers
            if controllers and controller not in controllers.split(","):
                continue
            here = top / path.lstrip("/")
            for folder in (here, *here.parents):
                with suppress(OSError):
                    yield (folder / file).read_text()
                if folder == top:
                    break
