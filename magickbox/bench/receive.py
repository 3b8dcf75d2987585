"""Receiving compared: every cell, every receiver, one after the other, round after round."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from magickbox.bench import objects, trial
from magickbox.bench.figures import Trial, figures_of
from magickbox.bench.receivers import Receiver
from magickbox.bench.trial import Amount, Cell
from magickbox.errors import PeerError

STUDY = "1.2.826.0.1.3680043.8.498.1"


AMOUNTS = {"small": 2000, "medium": 800, "large": 12}  # instances of one trial, if nobody says how many


def amount(kind: str, instances: int | None, seconds: float) -> Amount:
    """How much of an object is sent in one trial."""
    return Amount(instances or AMOUNTS[kind], seconds)


@dataclass(frozen=True)
class Comparison:
    """What is to be compared, and how often."""

    receivers: Sequence[Receiver]
    cells: Sequence[Cell]
    rounds: int
    instances: int | None
    seconds: float

    @property
    def needed(self) -> int:
        """Bytes that one trial may fill at most."""
        return max(
            max(amount(cell.kind.name, self.instances, 0.0).instances + cell.kind.warm_up, cell.associations)
            * cell.kind.bytes
            for cell in self.cells
        )

    def run(self, folder: Path, tell: Callable[[Trial], None]) -> list[Trial]:
        """Measure everything below a folder, round by round, so that a drift of the machine meets all alike."""
        trials = []
        with datasets(folder, [cell.kind for cell in self.cells]) as files:
            for number in range(1, self.rounds + 1):
                for cell in self.cells:
                    for receiver in self.receivers:
                        trials.append(self._one(receiver, cell, number, files[cell.kind], folder))
                        tell(trials[-1])
        return trials

    def _one(self, receiver: Receiver, cell: Cell, number: int, dataset: Path, folder: Path) -> Trial:
        try:
            measured = trial.run(receiver, cell, amount(cell.kind.name, self.instances, self.seconds), dataset, folder)
        except (PeerError, OSError) as exc:
            return Trial(receiver.name, cell, number, None, str(exc))
        return Trial(receiver.name, cell, number, figures_of(measured))


@contextlib.contextmanager
def datasets(folder: Path, kinds: Sequence[objects.Kind]) -> Iterator[dict[objects.Kind, Path]]:
    """A file with the dataset of each kind of object, for as long as the block lasts."""
    with TemporaryDirectory(dir=folder) as own:
        files = {}
        for kind in dict.fromkeys(kinds):
            files[kind] = Path(own) / kind.name
            files[kind].write_bytes(objects.dataset(kind, STUDY))
        yield files
