"""The sender, a program of its own: ``python -m magickbox.bench.sender JSON``, spoken to over its standard input.

Everything that goes out is built before. Then it does only what a sender must: one ``sendmsg`` of two ready buffers an
instance, one ``recv`` for the response, and the next instance only after that, as devices do. One thread for each
association, in one process: the calls that take time leave the interpreter's lock, what is between them is about
25 µs an instance, and one process can start all associations at once and read one clock.
"""

import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from magickbox.bench import wire
from magickbox.errors import PeerError

PATIENCE = 120  # seconds that one call may take


@dataclass(frozen=True)
class Order:
    """What to send, and how much of it: ``instances`` on each association, but no longer than ``seconds``."""

    port: int
    dataset: str
    sop_class: str
    pdu: int
    associations: int
    instances: int
    seconds: float
    warm_up: int


@dataclass(frozen=True)
class Sent:
    """What came of it: seconds from the start to the last response, and for each instance its end and its duration."""

    pdu: int
    seconds: float
    bytes: int
    ended: list[float]
    took: list[float]


class Association:
    """One association, its instances ready to go out."""

    def __init__(self, order: Order) -> None:
        self._sock = socket.create_connection(("127.0.0.1", order.port), PATIENCE)
        self._sock.settimeout(None)  # else Python looks before each call; the system's own time-outs cost nothing
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            self._sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PATIENCE, 0))
        self._sock.sendall(wire.associate_request(order.sop_class, wire.TRANSFER_SYNTAX))
        taken = wire.longest_taken(*self._pdu())
        self.pdu = min(order.pdu, taken) if taken else order.pdu
        self._heads: list[bytes] = []
        self._tail = b""
        self.times: list[tuple[float, float]] = []
        self.trouble: str | None = None

    def prepare(self, message: wire.Message, instances: Iterable[str]) -> None:
        """Make ready what it sends; all associations share what is the same in all instances."""
        self._heads = [message.head_for(sop_instance) for sop_instance in instances]
        self._tail = message.tail

    def _pdu(self) -> tuple[int, bytes]:
        head = self._sock.recv(wire.HEADER.size, socket.MSG_WAITALL)
        if len(head) < wire.HEADER.size:
            raise PeerError("the receiver closed the connection")
        kind, length = wire.HEADER.unpack(head)
        return kind, self._sock.recv(length, socket.MSG_WAITALL)

    def send(self, until: float) -> None:
        """Send one instance after the other, and note for each when it began and when its response was there."""
        try:
            for head in self._heads:
                began = time.perf_counter()
                if began > until:
                    return
                self._store(head)
                self.times.append((began, time.perf_counter()))
        except (OSError, PeerError) as exc:
            self.trouble = f"after {len(self.times)} instances: {exc}"

    def _store(self, head: bytes) -> None:
        sent = self._sock.sendmsg((head, self._tail))
        left = len(head) + len(self._tail) - sent
        if left:
            self._sock.sendall(memoryview(self._tail)[-left:])
        response = self._sock.recv(4096)
        while len(response) < 6 or len(response) < 6 + int.from_bytes(response[2:6], "big"):
            more = self._sock.recv(4096)
            if not more:
                raise PeerError("the receiver closed the connection")
            response += more
        if not wire.is_success(response):
            raise PeerError(f"the receiver answered {response.hex()}")

    def release(self) -> None:
        """End it in order."""
        try:
            self._sock.sendall(wire.RELEASE_REQUEST)
            self._pdu()
        except (OSError, PeerError) as exc:
            self.trouble = self.trouble or f"at its release: {exc}"
        self._sock.close()


def send(order: Order, dataset: bytes, associations: int, instances: int, seconds: float) -> Sent:
    """Open the associations, send on all of them at once, and release them; raises PeerError and OSError."""
    run = random.randrange(10**25, 10**26)  # noqa: S311  to be new, not to be secret
    opened = [Association(order) for _ in range(associations)]
    messages = {pdu: wire.message(order.sop_class, dataset, pdu) for pdu in {each.pdu for each in opened}}
    for number, each in enumerate(opened):
        each.prepare(messages[each.pdu], (wire.uid(run, number, n) for n in range(instances)))
    start = time.perf_counter()
    threads = [threading.Thread(target=each.send, args=(start + seconds,)) for each in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in opened:
        each.release()
    for each in opened:
        if each.trouble:
            raise PeerError(each.trouble)
    times = sorted((end, end - began) for each in opened for began, end in each.times)
    ended, took = [end - start for end, _ in times], [seconds for _, seconds in times]
    return Sent(opened[0].pdu, ended[-1], len(dataset) * len(times), ended, took)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Build, wait for ``warm``, say so, wait for ``go``, and print what came of it as a line of JSON."""
    order = Order(**json.loads(sys.argv[1]))
    dataset = Path(order.dataset).read_bytes()
    _say("built")
    try:
        for line in sys.stdin:
            if line.strip() == "warm":
                send(order, dataset, 1, order.warm_up, PATIENCE)
                _say("warm")
            else:
                _say(json.dumps(asdict(send(order, dataset, order.associations, order.instances, order.seconds))))
                return
    except (OSError, PeerError) as exc:
        _say(json.dumps({"trouble": str(exc)}))


if __name__ == "__main__":
    main()
