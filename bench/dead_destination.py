"""Measures what dead destinations cost a live one: ``python bench/dead_destination.py [--pairs N]``.

The deliver stage brings results to DCMTK's storescp, alone and beside destinations that are dead: one where nothing
listens, and one that takes connections and says nothing, each with deliveries waiting for it. Both are measured in
turn, so that whatever else the machine does meets both; the figure is the median of the pairs' ratios.
"""

import argparse
import gc
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import peers
from planned import entry, routed

from magickbox.deliver import Deliver
from magickbox.delivery import NewItem
from magickbox.destination import DicomDestination
from magickbox.job import JobState
from magickbox.ledger import Ledger, jobs
from magickbox.owncalls import OwnCalls
from magickbox.scu.pool import PoolingSender
from magickbox.scu.store import StoreSender

LIVE, INSTANCES = 80, 25  # jobs for the live destination, and instances in each
DEAD = 200  # jobs of one instance for each dead destination


@contextmanager
def silence() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield int(listener.getsockname()[1])


def plan(ledger: Ledger, folder: Path, to: DicomDestination, name: str, count: int) -> None:
    """A routed job with its files."""
    source = peers.sample("CT_small.dcm")
    sample = peers.item_of(source)
    (folder / name / "OUTPUT").mkdir(parents=True)
    items = []
    for n in range(count):
        (folder / name / "OUTPUT" / f"{n}.dcm").hardlink_to(folder / "sample.dcm")
        items.append(NewItem(f"OUTPUT/{n}.dcm", sample.sop_instance, sample.sop_class, sample.transfer_syntax))
    routed(ledger, entry(to, items), name=name)


def seconds(live: DicomDestination, dead: list[DicomDestination]) -> tuple[float, float]:
    """How long all live deliveries take beside the dead ones, and how much of a core that costs the box."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        closing(Ledger(Path(name) / "ledger.sqlite")) as ledger,
    ):
        folder = Path(name) / "jobs"
        folder.mkdir()
        (folder / "sample.dcm").write_bytes(peers.sample("CT_small.dcm").read_bytes())
        for number, to in enumerate(dead):
            for n in range(DEAD):
                plan(ledger, folder, to, f"dead-{number}-{n}", 1)
        for n in range(LIVE):
            plan(ledger, folder, live, f"live-{n}", INSTANCES)
        stage = Deliver(ledger, PoolingSender(StoreSender(OwnCalls())), lambda job: folder / job)
        gc.collect()
        began, cost = time.monotonic(), time.process_time()
        stage.start()
        while not _is_over(ledger):
            time.sleep(0.005)
        took = time.monotonic() - began, time.process_time() - cost
        stage.stop(0.2)
    return took


def _is_over(ledger: Ledger) -> bool:
    with ledger.reading() as tx:
        return jobs.get(tx, f"live-{LIVE - 1}").state is JobState.DONE


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as name, peers.storescp(Path(name) / "stored") as scp, silence() as hole:
        nowhere = DicomDestination("127.0.0.1", peers.free_port(), "BOX", "NOWHERE")
        dead = [nowhere, DicomDestination("127.0.0.1", hole, "BOX", "SILENT")]
        seconds(scp.destination, dead)  # warm up
        pairs_of: list[dict[bool, tuple[float, float]]] = []
        for pair in range(pairs):
            order = ([], dead) if pair % 2 else (dead, [])
            pairs_of.append({bool(each): seconds(scp.destination, each) for each in order})
    count = LIVE * INSTANCES
    print(f"{count} instances in {LIVE} jobs, {pairs} pairs: median, and half of the pairs")
    for what, place in (("time", 0), ("processor time of the box", 1)):
        alone, beside = (statistics.median(pair[is_beside][place] for pair in pairs_of) for is_beside in (False, True))
        low, middle, high = statistics.quantiles([pair[True][place] / pair[False][place] for pair in pairs_of], n=4)
        print(f"{what}: alone {alone:.3f} s, beside two dead ones {beside:.3f} s; each pair:")
        print(f"  more by {(middle - 1) * 100:.1f} % ({(low - 1) * 100:.1f} to {(high - 1) * 100:.1f})")


if __name__ == "__main__":
    main()
