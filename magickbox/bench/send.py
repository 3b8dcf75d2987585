"""Sending compared: every sender with every kind of object, one after the other, round after round."""

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from magickbox.bench import errand, objects, wire
from magickbox.bench.errand import Taken
from magickbox.bench.objects import Kind
from magickbox.bench.senders import FEW, Sender
from magickbox.dicom.part10 import file_header
from magickbox.errors import PeerError

AMOUNTS = {"small": 2000, "medium": 500, "large": 8}  # instances of one trial, if nobody says how many
_STUDY = "1.2.826.0.1.3680043.8.498."
_RUN = 10**25


@dataclass(frozen=True)
class Trial:
    """One sender with one kind of object in one round: what came of it, or why nothing did."""

    sender: str
    kind: Kind
    round: int
    taken: Taken | None
    trouble: str | None = None

    @property
    def rate(self) -> float | None:
        """Instances per second."""
        return (self.taken.instances - 1) / max(self.taken.seconds, 1e-3) if self.taken else None


@dataclass(frozen=True)
class Row:
    """Medians over the rounds: instances per second, seconds with start and end, CPU seconds per 1,000, bytes."""

    sender: str
    kind: Kind
    instances: int
    rate: float
    slowest: float
    fastest: float
    whole: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Comparison:
    """What is to be compared, and how often."""

    senders: Sequence[Sender]
    kinds: Sequence[Kind]
    rounds: int
    instances: int | None

    def count(self, kind: Kind) -> int:
        """Instances of one trial; at least two, or there is no time between the first and the last."""
        return max(2, self.instances or AMOUNTS[kind.name])

    @property
    def needed(self) -> int:
        """Bytes that one trial may fill at most: the files, what the box has of them at each stage, what is stored."""
        return max(self.count(kind) * kind.bytes for kind in self.kinds) * 5

    def run(self, folder: Path, tell: Callable[[Trial], None]) -> list[Trial]:
        """Measure everything below a folder, round by round, so that a drift of the machine meets all alike."""
        trials = []
        with _files(folder, {kind: self.count(kind) for kind in self.kinds}) as files:
            for number in range(1, self.rounds + 1):
                for kind in self.kinds:
                    for sender in self.senders:
                        one, few, many = files[kind]
                        trials.append(_one(sender, kind, number, (one, few if sender.is_slow else many), folder))
                        tell(trials[-1])
        return trials


def _one(sender: Sender, kind: Kind, number: int, files: tuple[Path, Path], folder: Path) -> Trial:
    try:
        return Trial(sender.name, kind, number, errand.run(sender, *files, folder))
    except (PeerError, OSError) as exc:
        return Trial(sender.name, kind, number, None, str(exc))


@contextlib.contextmanager
def _files(folder: Path, counts: Mapping[Kind, int]) -> Iterator[dict[Kind, tuple[Path, Path, Path]]]:
    """For each kind of object folders with one file, with few and with many, for as long as the block lasts."""
    with TemporaryDirectory(dir=folder) as own:
        made = {}
        for number, (kind, count) in enumerate(counts.items()):
            one, few, many = (Path(own) / kind.name / name for name in ("one", "few", "many"))
            _study(one, kind, 2 * number, 1)
            _study(many, kind, 2 * number + 1, count)
            few.mkdir()
            for file in sorted(many.iterdir())[:FEW]:
                (few / file.name).hardlink_to(file)
            made[kind] = one, few, many
        yield made


def _study(folder: Path, kind: Kind, study: int, count: int) -> None:
    folder.mkdir(parents=True)
    dataset = objects.dataset(kind, f"{_STUDY}{study}")
    for number in range(count):
        uid = wire.uid(_RUN, study, number)
        header = file_header(kind.sop_class, uid, wire.TRANSFER_SYNTAX)
        (folder / f"{number:06d}.dcm").write_bytes(header + dataset.replace(wire.PLACEHOLDER, uid.encode()))


def rows_of(trials: Sequence[Trial]) -> list[Row]:
    """The rows of the table, in the order in which kinds and senders were first met; who only failed has none."""
    groups: dict[tuple[Kind, str], list[Trial]] = {}
    for trial in trials:
        if trial.taken is not None:
            groups.setdefault((trial.kind, trial.sender), []).append(trial)
    return [_row(kind, sender, group) for (kind, sender), group in groups.items()]


def _row(kind: Kind, sender: str, group: Sequence[Trial]) -> Row:
    taken = [trial.taken for trial in group if trial.taken]
    rates = [trial.rate for trial in group if trial.rate is not None]
    return Row(
        sender,
        kind,
        taken[0].instances,
        statistics.median(rates),
        min(rates),
        max(rates),
        statistics.median(each.whole for each in taken),
        statistics.median(each.cpu for each in taken) * 1000,
        statistics.median(each.memory for each in taken),
    )


def ratio(trials: Sequence[Trial], kind: Kind, one: str, other: str) -> float | None:
    """How many times as fast as ``other`` is ``one``: the median of the rounds' ratios, None if there is none."""
    rates = {(trial.sender, trial.round): trial.rate for trial in trials if trial.kind == kind and trial.rate}
    rounds = sorted({number for _, number in rates})
    both = [rates[one, n] / rates[other, n] for n in rounds if (one, n) in rates and (other, n) in rates]
    return statistics.median(both) if both else None
