"""Measures how long the window takes to answer: ``python bench/window.py [--jobs N] [--instances N] [--data DIR]``.

A ledger of that many jobs is made by SQL, without images. Each page and each answer of the API is asked for again and
again, in this process, so that the times are those of the server alone; the median and the worst are printed.
50,000 jobs of 500 instances need some GB of disk and some minutes: ``make bench-window``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from bigledger import fill
from starlette.testclient import TestClient
from webbox import desk

from magickbox.datafolder import DataFolder
from magickbox.ledger import Ledger, jobs
from magickbox.web.catalogue import Catalogue, Series, Study
from magickbox.web.principal import Role

LIST, JOB = 0.100, 0.150  # seconds that a list and a job may take


def catalogue_all(catalogue: Catalogue, root: Path) -> str:
    """A row of the catalogue for every job; returns the job in the middle."""
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    with ledger.reading() as tx:
        every = jobs.newest(tx, -1)
    ledger.close()
    known = catalogue.known()
    for number, job in enumerate(every):
        if job.id in known:
            continue
        series = tuple(Series(f"{job.study}.{n}", "MR", f"series {n}", 100) for n in range(5))
        catalogue.keep(
            job.id, Study(f"Name{number}^First", f"ID{number}", "19700101", "A1", "20260101", "knee", series)
        )
    return next(job.id for job in every[len(every) // 2 :] if job.state == "DONE")


def questions(job: str, middle: str) -> dict[str, tuple[str, float]]:
    """What is asked for, and how long it may take."""
    return {
        "now": ("/", LIST),
        "now, what changes": ("/now/parts", LIST),
        "jobs, first page": ("/jobs", LIST),
        "jobs, middle page": (f"/jobs?cursor={middle}", LIST),
        "jobs in ATTENTION": ("/jobs?state=ATTENTION", LIST),
        "jobs in no such state": ("/jobs?state=LOST", LIST),
        "jobs by AE and day": ("/jobs?calling_ae=scanner*&since=2026-01-05&until=2026-01-06", LIST),
        "jobs by modality": ("/jobs?modality=MR", LIST),
        "jobs by a name that one has": ("/jobs?text=Name17", LIST),
        "jobs by a name that nobody has": ("/jobs?text=nobody", LIST),
        "jobs, API, 100": ("/api/v1/jobs?limit=100", LIST),
        "counts by state": ("/api/v1/jobs/counts", LIST),
        "deliveries": ("/api/v1/deliveries?limit=100", LIST),
        "dead letters": ("/api/v1/deliveries?state=DEAD&limit=100", LIST),
        "log": ("/log", LIST),
        "one job": (f"/jobs/{job}", JOB),
        "one job, API": (f"/api/v1/jobs/{job}", JOB),
        "one delivery": ("/deliveries/7", JOB),
    }


def measure(ask: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Median and worst of some rounds, after one that does not count."""
    ask()
    times = [ask() for _ in range(rounds)]
    return statistics.median(times), max(times)


def asker(client: TestClient, path: str) -> Callable[[], float]:
    """Ask once and say how long it took."""

    def ask() -> float:
        began = time.perf_counter()
        answer = client.get(path)
        took = time.perf_counter() - began
        assert answer.status_code == 200, answer.text
        return took

    return ask


def main() -> int:
    """Print the table; 1 if a page took longer than it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--instances", type=int, default=500, help="of each job, each with a row of its own")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--data", type=Path, help="make the data folder here and keep it, or use the one that is here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        root = args.data or Path(top) / "data"
        if not DataFolder(root).ledger.exists():
            make(root, args.jobs, args.instances)
        with desk(root, people=not (root / "made").exists()) as window:
            job = catalogue_all(window.context.catalogue, root)
            (root / "jobs" / job / "INPUT").mkdir(parents=True, exist_ok=True)
            (root / "made").touch()
            client = window.client(Role.OPERATOR)
            middle = client.get("/api/v1/jobs?limit=500").json()["next"]
            return report(client, questions(job, middle), args.rounds)


def make(root: Path, jobs_: int, instances: int) -> None:
    """Make the ledger, and say how big it is."""
    DataFolder(root).prepare()
    began = time.perf_counter()
    fill(DataFolder(root).ledger, jobs_, instances)
    size = DataFolder(root).ledger.stat().st_size / 1e9
    took = time.perf_counter() - began
    print(f"{jobs_} jobs of {instances} instances, {size:.1f} GB, made in {took:.0f} s", flush=True)


def report(client: TestClient, asked: dict[str, tuple[str, float]], rounds: int) -> int:
    """Ask for everything and print how long it took."""
    late = 0
    print(f"{'':32}{'median':>10}{'worst':>10}{'may take':>10}{'bytes':>10}")
    for name, (path, most) in asked.items():
        median, worst = measure(asker(client, path), rounds)
        late += median > most
        mark = "  LATE" if median > most else ""
        weight = len(client.get(path).content)
        print(f"{name:32}{median * 1e3:>7.1f} ms{worst * 1e3:>7.1f} ms{most * 1e3:>7.0f} ms{weight:>10}{mark}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
