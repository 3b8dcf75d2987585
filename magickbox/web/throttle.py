"""Log-ins that fail make the next one wait: for the account, and for the address, longer each time."""

from datetime import timedelta

from magickbox.clock import from_text, now, to_text
from magickbox.web.store import Store

FREE = {"account": 3, "address": 30}  # so many mistakes cost nothing
LONGEST = {"account": 60.0, "address": 900.0}  # an account's is short: a stranger must not lock its owner out
FIRST = 1.0
_FORGOTTEN = timedelta(hours=24)


def pause(failures: int, kind: str) -> float:
    """Seconds to wait after so many failures."""
    over = failures - FREE[kind]
    return 0.0 if over <= 0 else min(LONGEST[kind], FIRST * 2.0 ** min(over - 1, 20))


class Throttle:
    """Counts failures by subject; safe from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

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
    return {"account": f"account {account.casefold()[:100]}", "address": f"address {address}"}
