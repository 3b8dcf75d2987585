"""What the window costs the receiver: ``python bench/windowcost.py [--rounds 10] [--kind small] [--associations 4]``.

Two real boxes run side by side, one with its window and one without (``web = false``), and the benchmark's sender sends
to one at a time. In each round it sends to the box without a window, to the other one with no page open, to the first
again, and to the other one while the first page is open: its stream of events is followed, and its parts are fetched
anew at news, at most once a second, as a browser does. Ratios are taken between neighbours, since a machine's speed
drifts, and the order turns round every other time. The first box against itself says how much is noise.
"""

import argparse
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import count
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import httpx2 as httpx
from webbox import add_people, log_in

from magickbox.bench.objects import KINDS, dataset
from magickbox.bench.receivers import Conditions, box
from magickbox.bench.sender import Order, send
from magickbox.bench.trial import free_ports, running
from magickbox.datafolder import DataFolder
from magickbox.web.principal import Role

MAY_COST = 0.02
TOPICS = "status,jobs,deliveries"  # those of templates/now.html
NEXT_TO_EACH_OTHER = {  # what is compared: one's rate as a share of the other's
    "window, page closed": ("closed", "without"),
    "window, page open": ("open", "without again"),
    "page open against closed": ("open", "closed"),
    "no window against itself": ("without again", "without"),
}


@contextmanager
def boxes(folder: Path) -> Iterator[tuple[int, int, str]]:
    """A box without a window and one with it: both ports, and the window's address."""
    (plain, web_port), (port, spare) = free_ports(), free_ports()
    under = Conditions(folder / "without", plain, 0, 1, True, spare), Conditions(folder / "with", port, 0, 1, True, 0)
    for each in under:
        each.folder.mkdir()
    with running(box({"web": "false"}), under[0]), running(box({"web_port": str(web_port)}), under[1]):
        add_people(DataFolder(under[1].folder / "data").state)
        yield plain, port, f"http://127.0.0.1:{web_port}"


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


def measure(args: argparse.Namespace, folder: Path, pool: Executor) -> tuple[list[dict[str, float]], int]:
    """The rates of each round in instances per second, and how often the page was brought up to date meanwhile."""
    kind = KINDS[args.kind]
    number = count(1)

    def rate(port: int, seconds: float) -> float:
        order = Order(port, "", kind.sop_class, 131072, args.associations, 0, 0.0, 0)
        content = dataset(kind, f"1.2.826.0.1.3680043.10.1.{next(number)}")
        most = int(seconds * 4000 / args.associations)
        sent = pool.submit(send, order, content, args.associations, most, seconds).result()
        os.sync()
        return len(sent.ended) / sent.seconds

    with boxes(folder) as (plain, port, address):
        page = Page(address)

        def with_page() -> float:
            with page.open():
                time.sleep(1.0)
                return rate(port, args.seconds)

        ways: dict[str, Callable[[], float]] = {
            "without": lambda: rate(plain, args.seconds),
            "closed": lambda: rate(port, args.seconds),
            "without again": lambda: rate(plain, args.seconds),
            "open": with_page,
        }
        rate(plain, 1.0), rate(port, 1.0)
        found = []
        for turn in range(args.rounds):
            names = list(ways)[:: -1 if turn % 2 else 1]
            found.append({name: ways[name]() for name in names})
            print(f"round {turn + 1}: " + ", ".join(f"{name} {found[-1][name]:.0f}/s" for name in ways), flush=True)
        page.close()
        return found, page.parts


def spread(values: list[float]) -> str:
    """Median, and the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle:>8.3f}  ({low:.3f} to {high:.3f})"


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="each takes some 14 s")
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


def report(found: list[dict[str, float]]) -> int:
    """Print medians and ratios; 1 if the window costs more than it may."""
    for each in ("without", "closed", "open"):
        print(f"{each:28}{statistics.median(one[each] for one in found):>8.0f} instances/s, median")
    ratios = {what: [one[a] / one[b] for one in found] for what, (a, b) in NEXT_TO_EACH_OTHER.items()}
    for what, values in ratios.items():
        print(f"{what:28}{spread(values)}")
    dear = [what for what in list(ratios)[:2] if statistics.median(ratios[what]) < 1 - MAY_COST]
    print(f"costs more than {MAY_COST:.0%}: {', '.join(dear) or 'nothing'}", flush=True)
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())
