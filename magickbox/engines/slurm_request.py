"""What a run asks of the cluster: the options of sbatch, from processor.json and the settings. Pure."""

import json
import math
from dataclasses import dataclass

from magickbox.bytesize import in_bytes
from magickbox.engine import Run
from magickbox.processor import Processor

WIND_UP = 120.0  # seconds beyond a run's own time limit until Slurm ends it: the script does it sooner, and says so

BRINGING = 1800.0  # seconds more, if a node may have to bring an image first


@dataclass(frozen=True)
class Place:
    """Where at the cluster: None is the cluster's own default."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None

    def options(self) -> list[str]:
        """As sbatch has them."""
        named = {"--partition": self.partition, "--account": self.account, "--qos": self.qos}
        return [f"{name}={value}" for name, value in named.items() if value]

    def __str__(self) -> str:
        """For a person."""
        told = [f"{key} {value}" for key, value in vars(self).items() if value]
        return ", ".join(told) or "the default partition"


def place_of(processor: Processor, usual: Place) -> Place:
    """Where runs of a processor go: what its ``resources.slurm`` says, else the settings."""
    told = dict(processor.resources).get("slurm")
    wanted = {key: str(value) for key, value in json.loads(str(told)).items()} if told else {}
    return Place(**{**vars(usual), **wanted})


def options(run: Run, place: Place, comment: str) -> list[str]:
    """The options of a run's job; it is never requeued by Slurm, and sees nothing of the box's environment."""
    return [
        f"--job-name={run.name}", f"--comment={comment}", *unseen(), "--no-requeue",
        *_resources(run.processor), f"--time={_minutes(run)}", *place.options(),
    ]  # fmt: skip


def unseen() -> list[str]:
    """What every job of the box has: it reads and writes nothing but what its script opens."""
    nothing = [f"--{each}=/dev/null" for each in ("input", "output", "error")]
    return ["--chdir=/", "--propagate=NONE", "--nodes=1", "--ntasks=1", *nothing]


def asked(run: Run, place: Place) -> str:
    """The same for a person: what no node of the cluster has."""
    told = dict(run.processor.resources)
    shown = [f"{key} {told[key]}" for key in ("cpus", "memory", "gpus") if told.get(key)]
    return ", ".join([*shown, f"{_minutes(run)} minutes", str(place)])


def _minutes(run: Run) -> int:
    bringing = BRINGING if run.processor.image is not None else 0.0
    return math.ceil((run.timeout + run.stop_grace + WIND_UP + bringing) / 60)


def _resources(processor: Processor) -> list[str]:
    told = dict(processor.resources)
    wanted = []
    if told.get("cpus"):
        wanted.append(f"--cpus-per-task={math.ceil(float(str(told['cpus'])))}")
    if told.get("memory"):
        wanted.append(f"--mem={math.ceil(in_bytes(told['memory']) / (1 << 20))}M")
    if told.get("gpus"):
        wanted.append(f"--gres=gpu:{told['gpus']}")
    return wanted
