"""How long a connection to the window may keep quiet, so that nobody closes the window by holding all of them."""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

SPARE = 20  # connections below the limit from which on the ones that ask for nothing go


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, for requests that come within ``head`` seconds from their first byte."""

    head: ClassVar[float] = 20.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there; the one that has kept quiet for longest goes if there are too many."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._quiet_since = self.loop.time()
        self._slow: asyncio.TimerHandle | None = self.loop.call_later(self.head, self._give_up)
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """A piece of a request; the time for its head ends with the head."""
        super().data_received(data)
        if self._is_asking():
            self._stop_waiting()
        elif self._slow is None:
            self._slow = self.loop.call_later(self.head, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Quiet from now on."""
        self._quiet_since = self.loop.time()
        super().on_response_complete()

    def _is_asking(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _stop_waiting(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _give_up(self) -> None:
        self._slow = None
        if not self._is_asking():
            self.transport.close()

    def _make_room(self) -> None:
        if self.limit_concurrency is None or len(self.connections) < self.limit_concurrency - SPARE:
            return
        others = [each for each in self.connections if isinstance(each, PatientProtocol) and each is not self]
        quiet = [each for each in others if not each._is_asking() and not each.transport.is_closing()]
        if quiet:
            min(quiet, key=lambda each: each._quiet_since).transport.abort()
