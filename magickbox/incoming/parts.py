"""Files for the instances that will come: made ahead by a thread of their own, durable in their folder.

An instance whose file is there already needs one fsync, that of its content. The folder's costs as much; all that were
made together share it, and nobody waits for it.
"""

import itertools
import os
import stat
import threading
from collections import deque
from contextlib import suppress

from magickbox.incoming.record import PART

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = _OPEN | os.O_CREAT | os.O_EXCL
_MODE = 0o600
_MOST_AHEAD = 32


class Parts:
    """The parts of one association's folder. All but the making ahead is done by the association's one thread."""

    def __init__(self) -> None:
        self._folder = -1
        self._numbers = itertools.count(1)
        self._ready: deque[str] = deque()
        self._taken = 0
        self._more = threading.Event()
        self._over = False
        self._maker: threading.Thread | None = None

    def begin(self, folder: int) -> None:
        """Use the folder with that descriptor, which stays open until ``end``."""
        self._folder = folder

    def make_first(self) -> None:
        """Make the first part; whoever asks makes it durable with the folder. Raises OSError."""
        self._ready.append(self._make())

    def take(self) -> tuple[str, int, bool]:
        """A part for an instance: its name, a descriptor to write to, and if it is durable in its folder already.

        Raises OSError.
        """
        self._taken += 1
        if self._ready:
            name = self._ready.popleft()
            return name, os.open(name, _OPEN, dir_fd=self._folder), True
        name = f"{PART}{next(self._numbers)}"
        return name, os.open(name, _NEW, _MODE, dir_fd=self._folder), False

    def prepare(self) -> None:
        """Have more made if they run short: the more, the more instances have come."""
        if self._folder < 0 or len(self._ready) * 2 >= self._wanted():
            return
        self._more.set()
        if self._maker is None:
            self._maker = threading.Thread(target=self._make_ahead, name="parts", daemon=True)
            self._maker.start()

    def end(self) -> None:
        """Make no more; those that were not taken stay where they are."""
        self._over = True
        self._more.set()
        if self._maker is not None:
            self._maker.join()
        self._folder = -1

    @property
    def ready(self) -> int:
        """How many wait for their instances."""
        return len(self._ready)

    def _wanted(self) -> int:
        return min(_MOST_AHEAD, self._taken)

    def _make_ahead(self) -> None:
        while True:
            self._more.wait()
            self._more.clear()
            if self._over:
                return
            self._make_durable(self._wanted() - len(self._ready))

    def _make_durable(self, count: int) -> None:
        """Make that many; if the disk refuses there are none, for ``take`` makes its own, and tells if it cannot."""
        names: list[str] = []
        try:
            for _ in range(count):
                names.append(self._make())
            os.fsync(self._folder)
        except OSError:
            for name in names:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._folder)
        else:
            self._ready.extend(names)

    def _make(self) -> str:
        name = f"{PART}{next(self._numbers)}"
        os.mknod(name, stat.S_IFREG | _MODE, dir_fd=self._folder)
        return name
