"""What has come to the port since the box started, in numbers."""

import threading
from dataclasses import dataclass, field


@dataclass
class Traffic:
    """Counters, to be changed by ``count`` only; safe from any thread.

    ``put_off`` are instances that were refused for now (0xA7xx), ``refused`` those refused for good; ``bytes`` are
    those of files.
    """

    associations: int = 0
    rejected: int = 0
    instances: int = 0
    bytes: int = 0
    put_off: int = 0
    refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, **more: int) -> None:
        """Add to counters by their names."""
        with self._lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)

    def numbers(self) -> dict[str, int]:
        """All counters."""
        with self._lock:
            return {name: value for name, value in vars(self).items() if not name.startswith("_")}
