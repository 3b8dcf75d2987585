"""Receiver processes: connections are served on all cores, while one coordinator admits, limits and gathers.

A process that dies takes down only its own associations: they count as aborted, what they acknowledged is found in
their folders, and another process is started in its place.
"""

import queue
import socket as sockets
import threading
import time

from magickbox.intake import Intake
from magickbox.scp.connection import Port
from magickbox.scp.connections import OnTrouble
from magickbox.scp.listener import Address
from magickbox.scp.place import READY_WITHIN, Caller, Place

_LOOK_EVERY = 0.2
_WITHOUT_ANY = 0.1


class Crew:
    """``receivers`` processes, and one thread here for each of them."""

    def __init__(self, port: Port, intake: Intake, on_trouble: OnTrouble) -> None:
        self._intake = intake
        self._stranded: queue.SimpleQueue[Caller] = queue.SimpleQueue()
        self._places = [Place(n, port, intake, on_trouble, self._stranded.put) for n in range(port.receivers)]
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="receivers", daemon=True)

    def start(self) -> None:
        """Start the processes and wait until each is ready; raises ConfigError."""
        for place in self._places:
            place.start()
        until = time.monotonic() + READY_WITHIN
        for place in self._places:
            place.wait_until_ready(until)
        self._watcher.start()

    def count(self) -> int:
        """How many connections are open, in all processes."""
        return sum(place.connections for place in self._places)

    def take(self, raw: sockets.socket, address: Address, secure: bool) -> None:
        """Hand a connected socket to the process with the fewest; waits while there is none, so that none is lost."""
        caller = Caller(raw, address, secure)
        while not self._hand_over(caller):
            if self._over.wait(_WITHOUT_ANY):
                raise OSError("the box stops")

    def _hand_over(self, caller: Caller) -> bool:
        return any(place.take(caller) for place in sorted(self._places, key=lambda m: m.connections))

    def end(self, grace: float) -> None:
        """Answer what is in hand and abort; kill what takes longer than ``grace`` seconds."""
        self._over.set()
        for place in self._places:
            place.tell_to_stop(grace)
        until = time.monotonic() + grace + 2.0
        for place in self._places:
            place.join(until)
        if self._watcher.ident is not None:
            self._watcher.join()
        while not self._stranded.empty():
            self._stranded.get().raw.close()

    def _watch(self) -> None:
        """Tell the processes what they cannot know: whether the disk has room, and whether to go slower.

        Hand connections over again whose process died before it had them, and look whether the others still answer.
        """
        while not self._over.wait(_LOOK_EVERY):
            for _ in range(self._stranded.qsize()):
                caller = self._stranded.get()
                if not self._hand_over(caller):
                    self._stranded.put(caller)
            for place in self._places:
                place.look()
            weather = (self._intake.has_room(), self._intake.pause())
            for place in self._places:
                place.tell_weather(weather)
