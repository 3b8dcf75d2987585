"""What jobs cost that only wait: a real box with so many READY behind one busy slot, and its processor time at rest.

python bench/waiting.py [--jobs 10000] [--seconds 20]
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from boxprocess import running, set_up, until

from magickbox.datafolder import DataFolder
from magickbox.job import JobState
from magickbox.ledger import Ledger, jobs

JOBS = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?),
     t(i, at) AS (SELECT i, '2026-01-01T' || strftime('%H:%M:%f', i, 'unixepoch') || '000+00:00' FROM n)
INSERT INTO jobs (id, state, since, reason, calling_ae, called_ae, peer, study, received, born, instances, bytes)
SELECT '20260101T' || strftime('%H%M%S', i, 'unixepoch') || 'Z-COPY-' || printf('%04x', i), 'READY', at, 'born',
       'SCANNER', 'COPY', '10.0.0.1', '1.2.3.' || i, at, at, 1, 1 FROM t
"""


def prepare(root: Path, count: int) -> None:
    """A data folder with so many READY jobs, whose processor takes its time."""
    set_up(root, 1)
    (root / "processors" / "COPY").write_text("#!/bin/sh\nexec sleep 600\n")
    data = DataFolder(root)
    data.prepare()
    ledger = Ledger(data.ledger)
    with ledger.transaction() as tx:
        tx.execute(JOBS, (count,))
        names = [str(row[0]) for row in tx.execute("SELECT id FROM jobs")]
    ledger.close()
    for name in names:
        (data.jobs / name / "INPUT").mkdir(parents=True)
        (data.jobs / name / "info.json").write_text("{}")


def used(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def states(root: Path) -> dict[str, int]:
    """How many jobs there are in each state."""
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    with ledger.reading() as tx:
        found = jobs.count_by_state(tx)
    ledger.close()
    return found


def main() -> None:
    """Measure, and print one line."""
    options = argparse.ArgumentParser(description="What jobs cost that only wait.")
    options.add_argument("--jobs", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=20.0)
    args = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="magickbox-waiting-") as folder:
        root = Path(folder)
        prepare(root, args.jobs)
        with running(root, settings={"slots": 1}) as box:
            until(lambda: states(root).get(JobState.RUNNING) == 1, 120)
            time.sleep(10)  # the start is over, and what is said of the first in line is written
            before, began = used(box.process.pid or 0), time.monotonic()
            time.sleep(args.seconds)
            spent, took = used(box.process.pid or 0) - before, time.monotonic() - began
            print(f"{states(root)}: {spent:.2f} s of processor time in {took:.0f} s, {spent / took:.1%}")


if __name__ == "__main__":
    main()
