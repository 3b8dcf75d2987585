"""Measures what a run costs, sandboxed and not: ``make bench`` or ``python bench/sandbox.py [--rounds N] [--jobs N]``.

Side by side, taken in turns so that a busy machine is busy for all: a bare process, a bare bwrap, and the real stage of
a box (ledger, run folder, engine) without and with the sandbox. Then so many no-op jobs through two slots.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from boxes import Image, TestBox, new_box

from magickbox.allotment import unbounded
from magickbox.dropins.folder import Dropins, read_dropins
from magickbox.engines.bubblewrap import WALLS
from magickbox.engines.limits import Limits as Resources
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.engines.protection import AUTO, OFF, find_out
from magickbox.job import JobState
from magickbox.ledger import jobs
from magickbox.logs import silent
from magickbox.process import Process
from magickbox.runs.runner import Limits, Runner

SCRIPT = '#!/bin/sh\ndate +%s%N > "$2/began"\n'
BARE = ("bwrap", *WALLS, "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
        "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--")  # fmt: skip


@contextmanager
def stage(root: Path, setting: str) -> Iterator[tuple[TestBox, Process]]:
    """The process stage of a box with two slots and one processor, ``Proc``."""
    root.mkdir()
    box = new_box(root)
    place = root / "processors"
    place.mkdir()
    (place / "Proc").write_text(SCRIPT)
    (place / "Proc").chmod(0o755)
    found = find_out(
        setting, box.data.root, Resources(memory=1 << 30, processes=1000, file_size=1 << 30), (), root / "etc"
    )
    engine = LocalEngine(clean_environment(os.environ, Path(sys.executable)), box.data.root, found)
    runner = Runner(box.ledger, engine, lambda job: box.data.jobs / job, Limits(), lambda: True, lambda: None, silent)
    dropins: Dropins = read_dropins(place)
    process = Process(
        box.ledger, runner, lambda job: box.data.jobs / job, lambda: dropins, unbounded(2), lambda: True,
        lambda: None, silent,
    )  # fmt: skip
    try:
        yield box, process
    finally:
        process.stop(10)
        box.ledger.close()


def one_job(box: TestBox, process: Process, n: int) -> float:
    """Seconds from a job READY and the stage woken to the first line of its processor."""
    job = box.job(Image(f"1.2.{n}", study=f"1.9.{n}"))
    ready = time.time_ns()
    process.wake()
    began = box.data.jobs / job.id / "OUTPUT" / "began"
    until(lambda: began.exists() and began.read_text().strip() != "")
    while box.row(job).state is not JobState.PROCESSED:
        time.sleep(0.002)
    return (int(began.read_text()) - ready) / 1e9


def bare(command: tuple[str, ...]) -> float:
    """Seconds from a call of subprocess to the first line of a program."""
    asked = time.time_ns()
    done = subprocess.run(  # noqa: S603  # the bench's own
        [*command, "/bin/sh", "-c", "date +%s%N"], stdout=subprocess.PIPE, check=True
    )
    return (int(done.stdout) - asked) / 1e9


def many_jobs(box: TestBox, process: Process, count: int) -> float:
    """Seconds for so many jobs, all READY at the beginning, until the last is PROCESSED."""
    for n in range(count):
        box.job(Image(f"1.3.{n}", study=f"1.8.{n}"))
    began = time.monotonic()
    process.start()
    until(lambda: processed(box) >= count, 0.05)
    return time.monotonic() - began


def processed(box: TestBox) -> int:
    """How many jobs are."""
    with box.ledger.reading() as tx:
        return len(jobs.in_state(tx, JobState.PROCESSED))


def until(true: Callable[[], bool], pause: float = 0.002) -> None:
    """Wait."""
    while not true():
        time.sleep(pause)


def row(name: str, seconds: list[float]) -> str:
    """One line of the table: least, median, nine of ten, in milliseconds."""
    ordered = sorted(seconds)
    values = (ordered[0], statistics.median(ordered), ordered[int(len(ordered) * 0.9)])
    return f"| {name} | " + " | ".join(f"{value * 1000:.1f}" for value in values) + " |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=1000)
    args = parser.parse_args()
    times: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="magickbox-bench-") as folder,
        stage(Path(folder) / "plain", OFF) as plain,
        stage(Path(folder) / "sandboxed", AUTO) as sandboxed,
    ):
        plain[1].start()
        sandboxed[1].start()
        for n in range(args.rounds):
            times.setdefault("a bare process: call to first line", []).append(bare(()))
            times.setdefault("a bare bwrap: call to first line", []).append(bare(BARE))
            times.setdefault("job ready to first line, no sandbox", []).append(one_job(*plain, n))
            times.setdefault("job ready to first line, sandbox", []).append(one_job(*sandboxed, n))
        print(f"load {os.getloadavg()[0]:.1f}, {args.rounds} rounds, milliseconds\n")
        print("| what | least | median | nine of ten |\n|---|---|---|---|")
        print("\n".join(row(name, values) for name, values in times.items()))
    for name, setting in (("no sandbox", OFF), ("sandbox", AUTO)) if args.jobs else ():
        with (
            tempfile.TemporaryDirectory(prefix="magickbox-bench-") as folder,
            stage(Path(folder) / "many", setting) as (box, process),
        ):
            cpu = os.times()
            took = many_jobs(box, process, args.jobs)
            used = [b - a for a, b in zip(cpu, os.times(), strict=True)]
        print(
            f"\n{args.jobs} no-op jobs through two slots, {name}: {took:.1f} s (load {os.getloadavg()[0]:.1f};"
            f" CPU: the box {used[0] + used[1]:.1f} s, what it started {used[2] + used[3]:.1f} s)"
        )


if __name__ == "__main__":
    main()
