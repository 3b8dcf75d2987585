"""Log-ins that fail make the next one wait: for the account, and for the address, longer each time."""

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from magickbox.clock import from_text, now, to_text
from magickbox.web.problems import Problem
from magickbox.web.store import Store

FREE = {"account": 3, "address": 30}  # so many mistakes cost nothing
LONGEST = {"account": 60.0, "address": 900.0}  # an account's is short: a stranger must not lock its owner out
FIRST = 1.0
MOST_WAITING = 8  # passwords that wait to be looked at; more would take the threads that answer everybody else
_FORGOTTEN = timedelta(hours=24)


def pause(failures: int, kind: str) -> float:
    """Seconds to wait after so many failures."""
    over = failures - FREE[kind]
    return 0.0 if over <= 0 else min(LONGEST[kind], FIRST * 2.0 ** min(over - 1, 20))


class Throttle:
    """Counts failures by subject; safe from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._one, self._waiting = threading.Lock(), threading.BoundedSemaphore(MOST_WAITING)

    @contextmanager
    def turn(self, account: str, address: str) -> Iterator[float]:
        """One password is looked at after another, so that a burst has no more tries than who waits for each answer.

        Gives the seconds to ``wait``; raises Problem 429 if many are waiting for their turn.
        """
        with self.queued(), self._one:
            yield self.wait(account, address)

    @contextmanager
    def queued(self) -> Iterator[None]:
        """Wait for one's turn as one of a few; raises Problem 429."""
        if not self._waiting.acquire(blocking=False):
            raise Problem(429, "Too Many Requests", "many are logging in; try again in a moment", {"Retry-After": "2"})
        try:
            yield
        finally:
            self._waiting.release()

    def wait(self, account: str, address: str) -> float:
        """Seconds for which no log-in of this account or from this address is looked at; 0: at once."""
        at, longest = now(), 0.0
        with self._store.reading() as tx:
            for subject in _subjects(account, address).values():
                row = tx.execute("SELECT until FROM failures WHERE subject = ?", (subject,)).fetchone()
                if row is not None:
                    longest = max(longest, (from_text(row["until"]) - at).total_seconds())
        return longest

    def failed(self, account: str, address: str) -> None:
        """A log-in failed."""
        at = now()
        with self._store.writing() as tx:
            tx.execute("DELETE FROM failures WHERE until < ?", (to_text(at - _FORGOTTEN),))
            for kind, subject in _subjects(account, address).items():
                row = tx.execute("SELECT count FROM failures WHERE subject = ?", (subject,)).fetchone()
                count = (row["count"] if row else 0) + 1
                until = to_text(at + timedelta(seconds=pause(count, kind)))
                tx.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", (subject, count, until))

    def succeeded(self, account: str, address: str) -> None:
        """A log-in went well: its account begins anew. Its address does not, or one account would free all others."""
        with self._store.writing() as tx:
            tx.execute("DELETE FROM failures WHERE subject = ?", (_subjects(account, address)["account"],))


def _subjects(account: str, address: str) -> dict[str, str]:
    return {"account": f"account {account.casefold()[:100]}", "address": f"address {_whole(address)}"}


def _whole(address: str) -> str:
    """An address as it is counted: of IPv6 the network of 64 bits, in which a machine chooses its own addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
