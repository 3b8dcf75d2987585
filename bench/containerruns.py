"""What the box adds to a container: from a run handed to the engine to its first instruction, beside a bare podman run.

Both start the same image without network, in turns, so that what else the machine does hits both. Needs podman and
busybox-static: ``python bench/containerruns.py [--runs N]``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from containers import Podman, podman
from test_container_engine import LIMITS, make_bench

from magickbox.dropins.folder import Dropins
from magickbox.engine import Run
from magickbox.processor import Processor

IMAGE = "bench/clock:1"
CLOCK = ("/bin/sh", "-c", "cut -d ' ' -f 1 /proc/uptime")  # seconds since boot, the same in a container


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    place = Path(tempfile.mkdtemp(prefix="bench-"))
    place.chmod(0o755)
    (place / "podman").mkdir()
    one = podman(place / "podman")
    try:
        one.image(IMAGE, {})
        measure(one, place, runs)
    finally:
        one.close()


def measure(one: Podman, place: Path, runs: int) -> None:
    """Alternate bare runs and runs by the engine."""
    bench = make_bench(one, place)
    processor = Processor("Clock", place, CLOCK, "Clock", image=IMAGE)
    bench.images.want(Dropins(good=(processor,)))
    bench.images.look_round()
    first: dict[str, list[float]] = {"bare": [], "engine": []}
    whole: dict[str, list[float]] = {"bare": [], "engine": []}
    for number in range(runs):
        asked = uptime()
        told = float(one.ask("run", "--network", "none", "--name", f"bare-{number}", IMAGE, *CLOCK))
        first["bare"].append(told - asked)
        whole["bare"].append(uptime() - asked)
        one.ask("rm", f"bare-{number}")
        work = place / f"run-{number}"
        for folder in ("INPUT", "OUTPUT"):
            (work / folder).mkdir(parents=True)
        run = Run(f"mb-bench-{number}", "bench", 1, processor, work, work / "log", 60.0)
        asked = uptime()
        told = float(bench.engine.run(run, lambda _: None).last_line)
        first["engine"].append(told - asked)
        whole["engine"].append(uptime() - asked)
    for what, values in (("to the first instruction", first), ("to the end, removed by the engine", whole)):
        bare, engine = (statistics.median(values[key]) for key in ("bare", "engine"))
        print(f"{what}: bare {bare * 1000:.0f} ms, engine {engine * 1000:.0f} ms, {engine / bare:.2f} times")
    print(f"{runs} runs each; limits {LIMITS.told()}")


def uptime() -> float:
    """Seconds since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    main()
