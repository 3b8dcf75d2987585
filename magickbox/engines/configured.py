"""The engine as the settings want it: this machine, or a Slurm cluster; for scripts and for containers."""

import re
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from magickbox.config import Settings
from magickbox.convention import Convention
from magickbox.engines.choosing import ChoosingEngine
from magickbox.engines.images import Images
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.engines.protection import Protection, python_places
from magickbox.engines.slurm import ClusterSettings, SlurmEngine
from magickbox.engines.slurm_client import SlurmClient
from magickbox.engines.slurm_container import NodeContainers
from magickbox.engines.slurm_request import Place, place_of
from magickbox.engines.slurm_trial import Trial
from magickbox.engines.slurm_verdict import Patience
from magickbox.jobfolder import JobFolder
from magickbox.logs import Note
from magickbox.processor import Processor

RUN = re.compile(r"mb-(?P<job>.+?)-(?P<attempt>\d+)(-s(?P<step>\d+))?")
TRIAL = 60.0  # seconds until a node that has not answered is told


def engine_of(
    settings: Settings, environment: Mapping[str, str], data: Path, protection: Protection, note: Note, images: Images,
    conventions: Mapping[str, Convention],
) -> ChoosingEngine:  # fmt: skip
    """The engine; ``data`` is the data folder, and ``note`` gets what a person should know of a cluster."""
    interpreter = Path(sys.executable)
    clean, limits = clean_environment(environment, interpreter), protection.limits
    if settings.engine == "local":
        return ChoosingEngine(LocalEngine(clean, data, protection), images, conventions, data, limits)
    wanted = ClusterSettings(
        Place(settings.slurm_partition, settings.slurm_account),
        settings.sandbox,
        (*python_places(interpreter), *settings.sandbox_shows),
        Patience(max(settings.slurm_late, 1.0), max(settings.slurm_late, 1.0) / 4),
    )

    def tell(why: str) -> None:
        note("warning", "cluster", {"reason": why})

    containers = NodeContainers(images, conventions, settings.slurm_containers, data, data.absolute() / "state")
    place, client = partial(workdir, data), SlurmClient(environment)
    cluster = SlurmEngine(client, clean, data, place, wanted, tell, containers)
    return ChoosingEngine(cluster, images, conventions, data, limits, takes_images=True)


def workdir(data: Path, name: str) -> Path:
    """The folder of a run by its name: ``mb-<job>-<attempt>``, and ``-s<step>`` after that for one of a chain."""
    found = RUN.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is not the name of a run")
    attempt = JobFolder(data.absolute() / "jobs" / found["job"]).attempt(int(found["attempt"]))
    return attempt.step(int(found["step"])).path if found["step"] else attempt.path


def trial_of(settings: Settings, environment: Mapping[str, str], data: Path, processors: Path) -> Trial:
    """A trial of the cluster that the settings name."""
    client = SlurmClient(environment)
    return Trial(client, data.absolute() / "state", processors.absolute(), settings.sandbox, TRIAL)


def places_of(settings: Settings, processors: Iterable[Processor]) -> list[Place]:
    """Where at the cluster runs of these go, and those of one that does not say."""
    usual = Place(settings.slurm_partition, settings.slurm_account)
    return [usual, *(place_of(each, usual) for each in processors)]
