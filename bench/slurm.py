"""What a run at a Slurm cluster costs the box: CPU time of a job, the state of many, and finding them after a restart.

``python bench/slurm.py`` starts a Slurm of its own (Debian's slurmctld, slurmd, munge), as the tests do.
"""

import argparse
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from slurmcluster import PATH, Cluster, cluster

from magickbox.engine import Run
from magickbox.engines.local import clean_environment
from magickbox.engines.slurm import ClusterSettings, SlurmEngine
from magickbox.engines.slurm_client import SlurmClient
from magickbox.processor import Processor


def cpu() -> float:
    """Seconds of CPU time of this process and of the programs that it has called."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def an_engine(made: Cluster, place: Path) -> SlurmEngine:
    """The engine as a box has it: its own patience, its own rhythm."""
    environment = clean_environment({"PATH": PATH}, Path(sys.executable))
    client = SlurmClient(made.environment)
    return SlurmEngine(client, environment, place, lambda name: place / name, ClusterSettings(), print)


def runs_of(place: Path, kind: str, count: int, command: tuple[str, ...]) -> list[Run]:
    """So many runs, each with its folder."""
    found = []
    for number in range(count):
        workdir = place / f"mb-{kind}{number}-1"
        for folder in ("INPUT", "OUTPUT"):
            (workdir / folder).mkdir(parents=True)
        processor = Processor("Bench", place, command, "Bench", resources=(("cpus", 40),) if kind == "wait" else ())
        found.append(Run(workdir.name, f"{kind}{number}", 1, processor, workdir, workdir / "log", 600.0))
    return found


def cost(made: Cluster, place: Path, count: int, seconds: float) -> None:
    """CPU time of the box for each of so many jobs, from the call to its end."""
    engine = an_engine(made, place)
    runs = runs_of(place, "run", count, ("sh", "-c", f"sleep {seconds}"))
    before, began = cpu(), time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        ends = list(pool.map(lambda run: engine.run(run, lambda _: None), runs))
    used = (cpu() - before) / count
    good = sum(each.exit_code == 0 for each in ends)
    print(f"{count} jobs of {seconds:g} s: {used * 1000:.1f} ms of CPU each, {time.monotonic() - began:.1f} s in all, "
          f"{good} good")  # fmt: skip


def state(made: Cluster, place: Path, count: int) -> None:
    """One question for the state of so many submitted jobs."""
    script = place / "held.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    client = SlurmClient(made.environment)
    options = ["--hold", "--comment=bench", "--output=/dev/null"]
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: client.submit(options, script), range(count)))
    took, used = [], cpu()
    for _ in range(5):
        began = time.monotonic()
        assert len(client.queue("bench")) == count
        took.append(time.monotonic() - began)
    used = (cpu() - used) / 5
    print(f"state of {count} jobs: {sorted(took)[2] * 1000:.0f} ms, {used * 1000:.0f} ms of CPU")
    client.cancel(ids)


def restart(made: Cluster, place: Path, count: int) -> None:
    """How long a box that starts again takes to find so many jobs at the cluster."""
    runs = runs_of(place, "wait", count, ("true",))
    threads = attend(an_engine(made, place), runs, "run")
    while sum(f"mb-wait{n}-1" in made.jobs() for n in range(count)) < count:
        time.sleep(0.5)
    again = an_engine(made, place)
    before, began = cpu(), time.monotonic()
    threads += attend(again, runs, "rejoin")
    while not all(known(again, run) for run in runs):
        time.sleep(0.05)
    print(f"{count} jobs found again: {time.monotonic() - began:.2f} s, {(cpu() - before) * 1000:.0f} ms of CPU")
    made.ask("scancel", "--state=PENDING,RUNNING", patience=60)


def attend(engine: SlurmEngine, runs: list[Run], how: str) -> list[threading.Thread]:
    """A thread for each run, as a box has them."""
    arguments = [(run, lambda _: None) if how == "run" else (run,) for run in runs]
    threads = [threading.Thread(target=getattr(engine, how), args=each, daemon=True) for each in arguments]
    for thread in threads:
        thread.start()
    return threads


def known(engine: SlurmEngine, run: Run) -> bool:
    """True if the engine knows the run's number at the cluster, or that it is over."""
    found = engine.watched(run.name)
    return found is None or (found.id is not None and found.course.known)


def main() -> None:
    """Measure all three, each in a Slurm of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=60, help="jobs that are run")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each of them runs")
    given = parser.parse_args()
    measures: tuple[Callable[[Cluster, Path], None], ...] = (
        lambda made, place: cost(made, place, given.jobs, given.seconds),
        lambda made, place: state(made, place, 1000),
        lambda made, place: restart(made, place, 200),
    )
    for measure in measures:
        with tempfile.TemporaryDirectory(prefix="mb-bench-") as folder, cluster() as made:
            measure(made, Path(folder))


if __name__ == "__main__":
    main()
