"""What has come to the port since the box started, in numbers."""

import threading
from bisect import bisect_left
from dataclasses import dataclass, field

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Times:
    """How long instances took from their command to being safe, in seconds: how many within each of ``BOUNDS``.

    Written by one thread, read by any.
    """

    def __init__(self) -> None:
        self._within = [0] * (len(BOUNDS) + 1)
        self._total = 0.0

    def take(self, microseconds: int) -> None:
        """One more."""
        self._within[bisect_left(BOUNDS, microseconds / 1e6)] += 1
        self._total += microseconds / 1e6

    def numbers(self) -> dict[str, object]:
        """How many were within each bound but not within the one before, the last beyond all; and their sum."""
        return {"bounds": list(BOUNDS), "counts": list(self._within), "seconds": round(self._total, 6)}


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
