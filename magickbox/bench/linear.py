"""Does the cost of an instance grow with how many came before? Many small ones to one box, looked at in tenths."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from magickbox.bench import trial
from magickbox.bench.objects import KINDS
from magickbox.bench.receive import datasets
from magickbox.bench.receivers import Receiver
from magickbox.bench.trial import Amount, Cell

ASSOCIATIONS, PDU = 4, 128 * 1024


@dataclass(frozen=True)
class Growth:
    """Instances per second in each tenth of all instances, by the order of their responses; memory in bytes."""

    receiver: str
    instances: int
    associations: int
    rates: tuple[float, ...]
    memory: int

    @property
    def last_to_first(self) -> float:
        """The last tenth's rate to the first one's."""
        return self.rates[-1] / self.rates[0]

    @property
    def words(self) -> list[str]:
        """For a person."""
        tenths = ", ".join(f"{rate:.0f}" for rate in self.rates)
        return [
            f"{self.instances} small instances over {self.associations} associations to one {self.receiver}, "
            f"instances/s in each tenth: {tenths}",
            f"the last tenth to the first: {self.last_to_first:.2f}; peak memory {self.memory / 1e6:.0f} MB",
        ]


def needed(instances: int) -> int:
    """Bytes that this many instances fill."""
    return instances * KINDS["small"].bytes


def measure(receiver: Receiver, instances: int, folder: Path, *, fsync: bool = True) -> Growth:
    """Send that many small instances to one receiver; raises PeerError."""
    cell = Cell(KINDS["small"], ASSOCIATIONS, PDU, fsync)
    with datasets(folder, [cell.kind]) as files:
        measured = trial.run(receiver, cell, Amount(instances, float("1e9")), files[cell.kind], folder)
    ended = measured.sent.ended
    return Growth(receiver.name, len(ended), ASSOCIATIONS, rates_of_tenths(ended), measured.memory)


def rates_of_tenths(ended: Sequence[float]) -> tuple[float, ...]:
    """Instances per second in each tenth, from the sorted moments (in seconds) at which responses came."""
    count = len(ended)
    edges = [count * n // 10 for n in range(11)]
    moments = [0.0, *ended]
    return tuple((b - a) / (moments[b] - moments[a]) for a, b in pairwise(edges) if b > a)
