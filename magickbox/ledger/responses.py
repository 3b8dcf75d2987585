"""What destinations took, written down one by one and taken into the ledger many at a time.

A transaction for each instance would cost about as much as sending a small one. So a success is a line in a file beside
the ledger, written before the next request leaves: a kill takes back none of them, since the next start reads the file.
It holds only what the ledger has not yet, and counts only for attempts that the ledger does not know to be over.
"""

import os
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from magickbox.clock import now, to_text
from magickbox.delivery import ItemState
from magickbox.errors import MagickboxError
from magickbox.ledger.flusher import Later
from magickbox.ledger.store import Ledger, Transaction

MOST, LONGEST, MOMENT = 64, 0.1, 0.2  # how many wait at most, and how many seconds while others come, or none


@dataclass(frozen=True)
class _Taken:
    """An instance that an attempt got through, with the status 0x0000: it is the delivery's ``n``-th."""

    delivery: int
    attempt: int
    n: int
    at: str

    @property
    def line(self) -> bytes:
        text = f"{self.delivery} {self.attempt} {self.n} {self.at}".encode()
        return b"\n%s %08x\n" % (text, zlib.crc32(text))  # a part of an earlier one may stand before it


class Responses:
    """Used by all attempts at once. Who holds a transaction of the ledger must not call it."""

    def __init__(self, ledger: Ledger, moment: float = MOMENT) -> None:
        self._ledger = ledger
        self.path = ledger.path.with_name(ledger.path.name + "-responses")
        self._flushing, self._writing = threading.Lock(), threading.Lock()
        self._pending: list[_Taken] = []
        self._since = 0.0
        self._fd: int | None = None
        self._later = Later(self._try_to_flush, moment)

    def took(self, delivery: int, attempt: int, n: int) -> bool:
        """Write down that an instance was taken; False if that cannot be done, so that the ledger has to know now."""
        taken = _Taken(delivery, attempt, n, to_text(now()))
        with self._writing:
            try:
                if not self._is_written(taken.line):
                    return False
            except OSError:
                return False
            if not self._pending:
                self._since = time.monotonic()
            self._pending.append(taken)
        self._later.wake()
        return True

    def _is_written(self, line: bytes) -> bool:
        if self._fd is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self.path, flags, 0o600)
        return os.write(self._fd, line) == len(line)

    @property
    def is_due(self) -> bool:
        """True if so many wait, or so long, that the ledger should take them."""
        pending = len(self._pending)
        return pending >= MOST or (pending > 0 and time.monotonic() - self._since > LONGEST)

    def flush(self) -> None:
        """Let the ledger take all that waits; durable within a second. Raises DiskFull, after which nothing is lost."""
        with self._flushing:
            with self._writing:
                pending = list(self._pending)
            if not pending:
                return
            with self._ledger.transaction(soon=True) as tx:
                _record(tx, pending)
            with self._writing:
                del self._pending[: len(pending)]
                self._since = time.monotonic()
                if not self._pending and self._fd is not None:
                    os.ftruncate(self._fd, 0)

    def _try_to_flush(self) -> None:
        with suppress(MagickboxError, OSError):  # the attempt whose it is meets the same trouble, and says so
            self.flush()

    def recover(self) -> None:
        """Let the ledger take what a killed box had only written down; before its attempts are closed."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        with self._ledger.transaction() as tx:
            _record(tx, [taken for taken in _read(lines) if _is_under_way(tx, taken)])
        self.path.unlink()

    def close(self) -> None:
        """Let the ledger take what waits, and let go of the file."""
        self._later.close()
        self._try_to_flush()
        with self._writing:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


def _record(tx: Transaction, taken: list[_Taken]) -> None:
    tx.executemany(
        "UPDATE delivery_instances SET state = ?, status = 0, reason = '', at = ? WHERE delivery = ? AND n = ?",
        [(ItemState.SENT, each.at, each.delivery, each.n) for each in taken],
    )


def _is_under_way(tx: Transaction, taken: _Taken) -> bool:
    """True if the attempt that brought it was cut short: what came after the end of one counts more."""
    found = tx.execute(
        "SELECT 1 FROM delivery_attempts WHERE delivery = ? AND n = ? AND ended IS NULL",
        (taken.delivery, taken.attempt),
    )
    return found.fetchone() is not None


def _read(lines: list[bytes]) -> Iterator[_Taken]:
    """What whole lines say; a kill or a power loss may have left a part of one, or anything."""
    for line in lines:
        text, _, check = line.rpartition(b" ")
        if check != b"%08x" % zlib.crc32(text):
            continue
        delivery, attempt, n, at = text.decode().split(" ")
        yield _Taken(int(delivery), int(attempt), int(n), at)
