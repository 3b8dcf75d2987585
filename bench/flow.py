"""Measures the box's own share of a job: ``make bench`` or ``python bench/flow.py [--instances N] [--rounds N]``.

A real box runs in a process of its own. A study of small MR images is sent to it, a shell script says when its first
line runs and when it ends, a station says when the association of the results comes in. Each round gives

- wait to processor: from the end of the wait (``settle`` after the association's end) to the processor's first line,
- processor to association: from the processor's end to the association with the destination,
- the box's own time: both together, and the end of the job after the last instance was taken.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from boxprocess import all_jobs, is_quiet, running, send, station, until
from studies import study

from magickbox.datafolder import DataFolder
from magickbox.ledger import Ledger, jobs
from magickbox.sender import Item

SETTLE = 1.0
SCRIPT = '#!/bin/sh\ndate +%s.%N > "$2/.began"\ncp "$1"/* "$2"/\ndate +%s.%N > "$2/.ended"\n'


@dataclass
class Round:
    """The seconds of one round."""

    receive: float
    to_processor: float
    to_association: float
    to_end: float
    processor: float = field(default=0.0)

    @property
    def own(self) -> float:
        """What the box itself adds, beside receiving, waiting, processing and sending."""
        return self.to_processor + self.to_association + self.to_end


def _moment(path: Path) -> float:
    return float(path.read_text())


def one_round(root: Path, items: list[Item], port: int, times: list[float], arrived: list[float]) -> Round:
    """Send a study, wait for its end, and read the clocks."""
    before = len(all_jobs(root))
    os.sync()  # what the benchmark itself has written is not the box's to make durable
    times.clear()
    arrived.clear()
    began = time.time()
    sent = send(port, items, "BENCH")
    receive = time.time() - began
    assert not sent.unanswered
    until(lambda: len(all_jobs(root)) > before and is_quiet(root), 120, "the job is done")
    job = all_jobs(root)[0]
    output = root / "jobs" / job.id / "OUTPUT"
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    with ledger.reading() as tx:
        ended = max(s.association.ended.timestamp() for s in jobs.shares_of(tx, job.id) if s.association.ended)
        done: datetime = jobs.get(tx, job.id).since
    ledger.close()
    first, last = _moment(output / ".began"), _moment(output / ".ended")
    return Round(receive, first - ended - SETTLE, times[0] - last, done.timestamp() - arrived[-1], last - first)


def measure(instances: int, rounds: int, which: bool) -> list[Round]:
    """All rounds, against one box."""
    times: list[float] = []
    arrived: list[float] = []
    with tempfile.TemporaryDirectory(prefix="magickbox-bench-") as folder:
        base, root = Path(folder), Path(folder) / "data"
        with station(base / "station", lambda: times.append(time.time()), lambda: arrived.append(time.time())) as goal:
            (root / "processors").mkdir(parents=True)
            script = root / "processors" / "BENCH"
            script.write_text(SCRIPT)
            script.chmod(0o755)
            to: dict[str, object] = {
                "IP": "127.0.0.1", "PORT": goal.port, "AETitleSender": "BOX", "AETitleTo": "STATION"
            }  # fmt: skip
            if which:
                to["which"] = [{"0008,103e": "T1.*", "0008,0060": "^MR$"}]
            (root / "routing.json").write_text(json.dumps({"routing": [{"send": [{"success": to}]}]}))
            with running(root, settings={"settle": SETTLE}) as box:
                assert box.port is not None
                return [
                    one_round(root, study(base / str(n), instances, pixels=128), box.port, times, arrived)
                    for n in range(rounds)
                ]


def row(name: str, seconds: list[float]) -> str:
    """One line of the table: minimum, median and maximum in milliseconds."""
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"| {name} | {low * 1000:.0f} | {middle * 1000:.0f} | {high * 1000:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--which", action="store_true", help="with a rule that looks at two tags of each file")
    args = parser.parse_args()
    rounds = measure(args.instances, args.rounds, args.which)
    print(f"{args.instances} instances of 128x128, {args.rounds} rounds, milliseconds\n")
    print("| what | least | median | most |\n|---|---|---|---|")
    print(row("end of the wait to the processor's first line", [r.to_processor for r in rounds]))
    print(row("processor's end to the association", [r.to_association for r in rounds]))
    print(row("last instance taken to the job's end", [r.to_end for r in rounds]))
    print(row("**the box's own time**", [r.own for r in rounds]))
    print(row("(receiving)", [r.receive for r in rounds]))
    print(row("(the processor itself)", [r.processor for r in rounds]))


if __name__ == "__main__":
    main()
