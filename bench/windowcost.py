"""What the window costs the receiver: ``python bench/windowcost.py [--rounds 9] [--kind small] [--associations 4]``.

Two real boxes run side by side, one with its window and one without (``web = false``), and the benchmark's sender sends
to one at a time, in turns, so that none follows itself; before the next one is sent to, the last one has come to rest.
In each round the box with a window is sent to twice: with no page open, and while the first page is open: its stream of
events is followed, and its parts are fetched anew at news, at most once a second, as a browser does. Each is compared
with the box without a window just before it, since a machine's speed drifts; which of them comes first changes from
round to round. The box without a window against itself says how much is noise. The CPU time of an instance, the
window's share included, is less shaken by what else the machine does than the rate is.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import httpx2 as httpx
from webbox import add_people, log_in

from magickbox.bench import usage
from magickbox.bench.objects import KINDS, dataset
from magickbox.bench.receivers import Conditions, box
from magickbox.bench.sender import Order, send
from magickbox.bench.trial import free_ports, let_settle, running
from magickbox.datafolder import DataFolder
from magickbox.web.principal import Role

MAY_COST = 0.02
TOPICS = "status,jobs,deliveries"  # those of templates/now.html
NEXT_TO_EACH_OTHER = {  # what is compared: one's rate as a share of the other's
    "window, page closed": ("closed", "before closed"),
    "window, page open": ("open", "before open"),
    "page open against closed": ("open", "closed"),
    "no window against itself": ("before open", "before closed"),
}


@dataclass(frozen=True)
class Box:
    """A running box: its process and port."""

    process: "subprocess.Popen[bytes]"
    port: int

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.process.pid

    def window(self) -> float:
        """CPU seconds of its window so far."""
        return sum(each.cpu for each in usage.tree(self.pid) if b"magickbox.web.main" in words_of(each.pid))


def words_of(pid: int) -> bytes:
    """A process's command line."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclass(frozen=True)
class Taken:
    """One sending: instances a second, CPU seconds of the box for 1000 of them, the window's share of one core."""

    rate: float
    cpu: float
    window: float


@contextmanager
def boxes(folder: Path) -> Iterator[tuple[Box, Box, str]]:
    """A box without a window, one with it, and the window's address."""
    (plain, web_port), (port, spare) = free_ports(), free_ports()
    under = Conditions(folder / "without", plain, 0, 1, True, spare), Conditions(folder / "with", port, 0, 1, True, 0)
    for each in under:
        each.folder.mkdir()
    with running(box({"web": "false"}), under[0]) as one, running(box({"web_port": str(web_port)}), under[1]) as other:
        add_people(DataFolder(under[1].folder / "data").state)
        yield Box(one, plain), Box(other, port), f"http://127.0.0.1:{web_port}"


class Page:
    """The first page, open in a browser while the block lasts; ``parts`` counts how often it was brought up to date."""

    def __init__(self, address: str) -> None:
        self._client = log_in(httpx.Client(base_url=address, timeout=30), Role.VIEWER)
        self.parts = 0
        self._news, self._closed = threading.Event(), threading.Event()

    def close(self) -> None:
        """Log in no more."""
        self._client.close()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Load it and follow it."""
        self._client.get("/").raise_for_status()
        self._closed.clear()
        with self._client.stream("GET", f"/api/v1/events?topics={TOPICS}") as stream:
            threads = [threading.Thread(target=each) for each in (lambda: self._follow(stream), self._refresh)]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self._closed.set()
                self._news.set()
                stream.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
                for thread in threads:
                    thread.join()

    def _follow(self, stream: httpx.Response) -> None:
        try:
            for line in stream.iter_lines():
                if line.startswith("event:"):
                    self._news.set()
        except httpx.TransportError:
            assert self._closed.is_set(), "the window ended the stream"

    def _refresh(self) -> None:
        while not self._closed.is_set():
            self._news.wait()
            self._news.clear()
            if not self._closed.wait(0.3):
                self._client.get("/now/parts", headers={"HX-Request": "true"}).raise_for_status()
                self.parts += 1
                self._closed.wait(0.7)


def measure(args: argparse.Namespace, folder: Path, pool: Executor) -> tuple[list[dict[str, Taken]], int]:
    """What each round came to, and how often the page was brought up to date meanwhile."""
    kind = KINDS[args.kind]
    number = count(1)

    def take(to: Box, seconds: float) -> Taken:
        order = Order(to.port, "", kind.sop_class, 131072, args.associations, 0, 0.0, 0)
        content = dataset(kind, f"1.2.826.0.1.3680043.10.1.{next(number)}")
        most = int(seconds * 4000 / args.associations)
        began, cpu, window = time.monotonic(), usage.cpu_seconds(to.pid), to.window()
        sent = pool.submit(send, order, content, args.associations, most, seconds).result()
        cpu, window = usage.cpu_seconds(to.pid) - cpu, to.window() - window
        share, instances = window / (time.monotonic() - began), len(sent.ended)
        os.sync()
        let_settle(to.process)
        return Taken(instances / sent.seconds, 1000 * cpu / instances, share)

    with boxes(folder) as (plain, windowed, address):
        page = Page(address)

        def with_page() -> Taken:
            with page.open():
                time.sleep(1.0)
                return take(windowed, args.seconds)

        ways: dict[str, Callable[[], Taken]] = {
            "closed": lambda: take(windowed, args.seconds),
            "open": with_page,
        }
        take(plain, 1.0), take(windowed, 1.0)
        found = []
        for turn in range(args.rounds):
            one: dict[str, Taken] = {}
            for name in list(ways)[:: -1 if turn % 2 else 1]:
                one[f"before {name}"] = take(plain, args.seconds)
                one[name] = ways[name]()
            print(
                f"round {turn + 1}: " + ", ".join(f"{name} {each.rate:.0f}/s" for name, each in one.items()), flush=True
            )
            found.append(one)
        page.close()
        return found, page.parts


def spread(values: list[float]) -> str:
    """Median, and the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="each takes some 16 s")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each sending lasts")
    parser.add_argument("--kind", choices=KINDS, default="small")
    parser.add_argument("--associations", type=int, default=4)
    parser.add_argument("--folder", help="where to store, on the disk in question")
    args = parser.parse_args()
    began = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=args.folder) as name, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found, parts = measure(args, Path(name), pool)
        print(
            f"\n{args.kind}, {args.associations} associations; load {began:.1f} before; page brought up {parts} times"
        )
        return report(found)


def report(found: list[dict[str, Taken]]) -> int:
    """Print medians and ratios; 1 if the window costs more than it may."""
    print(f"{'medians':28}{'instances/s':>12}{'CPU s/1000':>12}{'window, % of a core':>22}")
    for each in ("before closed", "before open", "closed", "open"):
        middle = [statistics.median(getattr(one[each], what) for one in found) for what in ("rate", "cpu", "window")]
        print(f"{each:28}{middle[0]:>12.0f}{middle[1]:>12.3f}{middle[2]:>22.1%}")
    print(f"\n{'ratios':28}{'instances/s (quartiles)':>28}{'CPU an instance (quartiles)':>30}")
    dear = []
    for what, (one, other) in NEXT_TO_EACH_OTHER.items():
        rates = [each[one].rate / each[other].rate for each in found]
        print(f"{what:28}{spread(rates):>28}{spread([each[one].cpu / each[other].cpu for each in found]):>30}")
        if what.startswith("window") and statistics.median(rates) < 1 - MAY_COST:
            dear.append(what)
    print(f"slower by more than {MAY_COST:.0%}: {', '.join(dear) or 'nothing'}", flush=True)
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())
