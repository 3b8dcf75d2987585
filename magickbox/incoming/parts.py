"""Files for the instances that will come: made ahead by a thread of their own, durable in their folder.

An instance whose file is there already needs one fsync, that of its content. The folder's costs as much; all that were
made together share it, and nobody waits for it.
"""

import itertools
import os
import resource
import threading
from collections import deque
from contextlib import suppress

from magickbox.incoming.record import PART

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o444  # nobody changes what was received; our own descriptor still writes
_MOST_AHEAD = 16
_IDLE = 1.0  # seconds that the thread waits for the next instances; associations stay open for hours
_HIGHEST = 0.5  # of the descriptors that this process may have: the others are for connections


class Parts:
    """The parts of one association's folder. All but the making ahead is done by the association's one thread."""

    def __init__(self) -> None:
        self._folder = -1
        self._numbers = itertools.count(1)
        self._ready: deque[tuple[str, int]] = deque()
        self._highest = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * _HIGHEST)
        self._taken = 0
        self._more = threading.Event()
        self._over = False
        self._maker: threading.Thread | None = None
        self._is_making = False
        self._lock = threading.Lock()

    def begin(self, folder: int) -> None:
        """Use the folder with that descriptor, which stays open until ``end``."""
        self._folder = folder

    def make_first(self) -> None:
        """Make the first part; whoever asks makes it durable with the folder. Raises OSError."""
        self._ready.append(self._make())

    def take(self) -> tuple[str, int, bool]:
        """A part for an instance: its name, a descriptor to write to, and if it is durable in its folder already.

        The descriptor is the caller's to close. Raises OSError.
        """
        self._taken += 1
        if self._ready:
            return *self._ready.popleft(), True
        return *self._make(), False

    def prepare(self) -> None:
        """Have more made if they run short: the more, the more instances have come."""
        if self._folder < 0 or len(self._ready) * 2 >= self._wanted():
            return
        with self._lock:
            self._more.set()
            if self._is_making:
                return
            self._is_making = True
        maker = threading.Thread(target=self._make_ahead, name="parts", daemon=True)
        try:
            maker.start()
        except RuntimeError:  # the machine has no thread to give: instances make their own parts
            self._is_making = False
        else:
            self._maker = maker

    def end(self) -> None:
        """Make no more; those that were not taken stay where they are."""
        self._over = True
        self._more.set()
        if self._maker is not None:
            self._maker.join()
        while self._ready:
            os.close(self._ready.popleft()[1])
        self._folder = -1

    @property
    def ready(self) -> int:
        """How many wait for their instances."""
        return len(self._ready)

    def _wanted(self) -> int:
        return min(_MOST_AHEAD, self._taken)

    def _make_ahead(self) -> None:
        while not self._is_idle():
            self._more.clear()
            if self._over:
                return
            self._make_durable(self._wanted() - len(self._ready))

    def _is_idle(self) -> bool:
        """True if nobody has asked for more for a while; the next who does starts another thread."""
        if self._more.wait(_IDLE):
            return False
        with self._lock:
            self._is_making = self._more.is_set()
            return not self._is_making

    def _make_durable(self, count: int) -> None:
        """Make that many; if the disk refuses there are none, for ``take`` makes its own, and tells if it cannot."""
        made: list[tuple[str, int]] = []
        try:
            while len(made) < count and (not made or made[-1][1] < self._highest):
                made.append(self._make())
            os.fsync(self._folder)
        except OSError:
            for name, descriptor in made:
                os.close(descriptor)
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._folder)
        else:
            self._ready.extend(made)

    def _make(self) -> tuple[str, int]:
        name = f"{PART}{next(self._numbers)}"
        descriptor = os.open(name, _NEW, _MODE, dir_fd=self._folder)
        os.fchmod(descriptor, _MODE)  # whatever the umask is
        return name, descriptor
