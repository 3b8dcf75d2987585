"""Keeps associations for the next delivery to the same destination under the same titles, for a few seconds.

Only one that brought everything it was asked for is kept: a refusal is confirmed on another association, and trouble is
not handed on. One that lacks a presentation context, or that the peer has ended or said anything on, is not used again.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from magickbox.destination import Delivered, Destination, Result, Retry
from magickbox.scu.store import StoreSender, StoreSession
from magickbox.sender import Item, Session

IDLE = 3.0


@dataclass(frozen=True)
class _Kept:
    """A session that waits for its next delivery until ``until``, on the monotonic clock."""

    destination: Destination
    session: StoreSession
    until: float


class PoolingSender:
    """A StoreSender whose associations live on for ``idle`` s after a delivery; 0 keeps none."""

    def __init__(self, sender: StoreSender, idle: float = IDLE) -> None:
        self._sender = sender
        self._idle = idle
        self._changed = threading.Condition()
        self._kept: list[_Kept] = []
        self._closed = False
        self._keeper: threading.Thread | None = None

    def split(self, destination: Destination, items: Sequence[Item]) -> list[list[Item]]:
        """As the sender does."""
        return self._sender.split(destination, items)

    def connect(self, destination: Destination, items: Sequence[Item], job: str) -> Session | Retry:
        """A session that was kept and will do, or a new one."""
        while kept := self._take(destination):
            if kept.session.serves(items):
                kept.session.expect(items)
                return _Pooled(self, destination, items, job, kept.session, reused=True)
            kept.session.__exit__(None, None, None)
        session = self.connect_anew(destination, items, job)
        return session if isinstance(session, Retry) else _Pooled(self, destination, items, job, session)

    def connect_anew(self, destination: Destination, items: Sequence[Item], job: str) -> StoreSession | Retry:
        """A new session, whatever is kept."""
        return self._sender.connect(destination, items, job)

    def probe(self, destination: Destination) -> Retry | None:
        """As the sender does, on an association of its own."""
        return self._sender.probe(destination)

    def problems(self, destination: Destination) -> list[str]:
        """As the sender does."""
        return self._sender.problems(destination)

    def close(self) -> None:
        """Release what is kept; from now on nothing is."""
        with self._changed:
            self._closed = True
            kept, self._kept = self._kept, []
            self._changed.notify()
        for each in kept:
            each.session.__exit__(None, None, None)

    def keep(self, destination: Destination, session: StoreSession) -> bool:
        """Keep a session for the next delivery; False if it has to be released now."""
        session.rest()
        with self._changed:
            if self._closed or self._idle <= 0 or not session.is_keepable:
                return False
            self._kept.append(_Kept(destination, session, time.monotonic() + self._idle))
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._release_idle, name="associations", daemon=True)
                self._keeper.start()
            self._changed.notify()
        return True

    def _take(self, destination: Destination) -> _Kept | None:
        """The session for that destination that was used last."""
        with self._changed:
            found = next((kept for kept in reversed(self._kept) if kept.destination == destination), None)
            if found is not None:
                self._kept.remove(found)
            return found

    def _release_idle(self) -> None:
        """The keeper's life: sleep until the oldest has been idle long enough, release it; end when none is left."""
        while True:
            with self._changed:
                if not self._kept:
                    self._keeper = None
                    return
                left = self._kept[0].until - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                kept = self._kept.pop(0)
            kept.session.__exit__(None, None, None)


class _Pooled:
    """A session for one delivery; its association may have served others and may serve more."""

    def __init__(
        self,
        pool: PoolingSender,
        destination: Destination,
        items: Sequence[Item],
        job: str,
        session: StoreSession,
        *,
        reused: bool = False,
    ) -> None:
        self._pool, self._session = pool, session
        self._asked = (destination, items, job)
        self._untried = reused
        self._aborted = False
        self._clean = True

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the association for the next delivery if all went well, otherwise end it."""
        keep = kind is None and self._clean and not self._aborted and self._session.is_open
        if not (keep and self._pool.keep(self._asked[0], self._session)):
            self._session.__exit__(kind, value, trace)

    @property
    def is_open(self) -> bool:
        """False once the association is over."""
        return self._session.is_open

    def abort(self) -> None:
        """Abort the association, from any thread."""
        self._aborted = True
        self._session.abort()

    def send(self, item: Item) -> Result:
        """Send one instance; if the peer has just ended an association that was kept, over a new one."""
        result = self._session.send(item)
        if self._untried and isinstance(result, Retry) and not self._session.is_open and not self._aborted:
            result = self._send_anew(item)
        self._untried = False
        self._clean = self._clean and isinstance(result, Delivered)
        return result

    def _send_anew(self, item: Item) -> Result:
        session = self._pool.connect_anew(*self._asked)
        if isinstance(session, Retry):
            return session
        self._session.rest()
        self._session = session
        if self._aborted:  # meanwhile, and the one that was ended
            session.abort()
        return session.send(item)
