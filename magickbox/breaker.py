"""When a destination counts as unreachable, and how often it is asked again: pure, with the time given.

What counts is whether anybody answers. A peer that rejects the association or refuses an instance is there: it does
not open the circuit, and a success of any kind closes it.
"""

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from magickbox.pace import Pace


@dataclass(frozen=True)
class Circuit:
    """How a destination answered of late.

    ``failures`` in a row had no answer. While ``open_since`` is set nothing is sent; ``probes`` were made since then,
    and the next is due at ``next_probe``. ``reason`` is what the last failure said.
    """

    failures: int = 0
    open_since: datetime | None = None
    probes: int = 0
    next_probe: datetime | None = None
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """True while nothing is sent and the destination is only asked whether it is there."""
        return self.open_since is not None

    def answered(self) -> "Circuit":
        """Somebody is there."""
        return Circuit()

    def unanswered(self, moment: datetime, reason: str, pace: Pace, rng: random.Random) -> "Circuit":
        """Nobody answered a delivery or a probe; the circuit opens when that came ``pace.open_after`` times."""
        failures = self.failures + 1
        if not self.is_open and failures < pace.open_after:
            return replace(self, failures=failures, reason=reason)
        probes = self.probes + 1 if self.is_open else 0
        again = moment + timedelta(seconds=pace.next_probe(probes, rng))
        return Circuit(failures, self.open_since or moment, probes, again, reason)

    def asked_soon(self, moment: datetime) -> "Circuit":
        """Ask at once, whatever the pause."""
        return replace(self, next_probe=moment) if self.is_open else self

    def probe_in(self, moment: datetime, longest: float) -> float:
        """Seconds until the next probe is due; a time farther away than any pause is due: the clock was set back."""
        left = (self.next_probe - moment).total_seconds() if self.next_probe else 0.0
        return 0.0 if left > longest else max(0.0, left)
