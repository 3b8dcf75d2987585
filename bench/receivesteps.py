"""Where the time of one instance goes in the receiver: ``python bench/receivesteps.py [--kind small] [--folder DIR]``.

The receiver of the box runs in this process, the benchmark's sender in another. From the moment when an instance's
command is understood to the moment when its answer has left, each call into the system is timed, by the clock and by
CPU time; what is left over is Python. It is a profile, not a benchmark: the timing itself costs some microseconds.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from magickbox.bench.objects import KINDS, dataset
from magickbox.bench.sender import Order, send
from magickbox.incoming.quarantine import Quarantine
from magickbox.intake import RecordingIntake
from magickbox.scp.server import Port, Receiver
from magickbox.scp.store import StoreProvider

CALLS = ("fsync", "rename", "open", "writev", "pwrite", "utime", "close")
_now = threading.local()
_taken: list[tuple[float, float, dict[str, tuple[float, float]]]] = []


def time_call(name: str) -> None:
    """Let that function of ``os`` note how long it takes within an instance."""
    real = getattr(os, name)

    def timed(*values: Any, **named: Any) -> Any:
        began, cost = time.perf_counter(), time.thread_time()
        try:
            return real(*values, **named)
        finally:
            calls = getattr(_now, "calls", None)
            if calls is not None:
                clock, cpu = calls[name]
                calls[name] = clock + time.perf_counter() - began, cpu + time.thread_time() - cost

    setattr(os, name, timed)


def watch(begin: Callable[..., None], answer: Callable[..., None]) -> None:
    """Begin with a command, and take the sums when its answer has left."""

    def begins(self: StoreProvider, *values: Any) -> None:
        _now.calls, _now.began, _now.cost = defaultdict(lambda: (0.0, 0.0)), time.perf_counter(), time.thread_time()
        begin(self, *values)

    def answers(self: StoreProvider, *values: Any) -> None:
        answer(self, *values)
        if getattr(_now, "calls", None) is not None:
            _taken.append((time.perf_counter() - _now.began, time.thread_time() - _now.cost, dict(_now.calls)))
            _now.calls = None

    StoreProvider._begin_store, StoreProvider._answer = begins, answers  # type: ignore[assignment,method-assign]


def told(kind: str, pdu: int, associations: int) -> None:
    """Print the medians over the instances; the sums of the rows are not quite the whole, for they are medians."""
    print(f"{kind}, {associations} associations, PDU {pdu}: {len(_taken)} instances; medians in microseconds")
    print(f"{'':12}{'clock':>8}{'CPU':>8}{'share':>8}")
    whole = statistics.median(one for one, _, _ in _taken)
    rows = [(name, [calls.get(name, (0.0, 0.0)) for _, _, calls in _taken]) for name in CALLS]
    rest = [
        (clock - sum(a for a, _ in calls.values()), cpu - sum(b for _, b in calls.values()))
        for clock, cpu, calls in _taken
    ]
    rows += [("Python, send", rest), ("all", [(clock, cpu) for clock, cpu, _ in _taken])]
    for name, values in rows:
        clock, cpu = (statistics.median(value[place] for value in values) for place in (0, 1))
        if clock:
            print(f"{name:12}{clock * 1e6:8.0f}{cpu * 1e6:8.0f}{clock / whole:8.0%}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, default="small")
    parser.add_argument("--pdu", type=int, default=131072)
    parser.add_argument("--associations", type=int, default=1)
    parser.add_argument("--instances", type=int, default=1000, help="on each association")
    parser.add_argument("--folder", help="where to store, on the disk in question")
    chosen = parser.parse_args()
    kind = KINDS[chosen.kind]
    for name in CALLS:
        time_call(name)
    watch(StoreProvider._begin_store, StoreProvider._answer)
    sys.setswitchinterval(0.0005)  # as in a receiver process
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        root = Path(name)
        for folder in ("incoming", "quarantine"):
            (root / folder).mkdir()
        port = Port(root / "incoming", Quarantine(root / "quarantine"), host="127.0.0.1", port=0, receivers=0)
        receiver = Receiver(port, RecordingIntake(), print)
        receiver.start()
        order = Order(receiver.address[1], "", kind.sop_class, chosen.pdu, chosen.associations, 0, 0.0, 0)
        study = "1.2.826.0.1.3680043.10.1"
        pool.submit(
            send, order, dataset(kind, study), chosen.associations, chosen.instances, 3600.0
        ).result()  # fmt: skip
        receiver.stop()
    told(chosen.kind, chosen.pdu, chosen.associations)


if __name__ == "__main__":
    main()
