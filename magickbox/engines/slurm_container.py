"""A run in a container on a node of the cluster: by podman, or by Apptainer where research clusters have that.

The box looks into the image with its own podman or docker, and so knows the convention; the node brings the same image
by its digest, or from the archive in the drop-in's folder. Apptainer turns it into one file on the shared folder, once.
"""

import hashlib
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magickbox.convention import Convention, Image, Stage
from magickbox.dropins.pins import convention_of
from magickbox.engine import Run
from magickbox.engines.container_cli import ContainerCli
from magickbox.engines.container_options import Owner, command_line, mounts, owner, variables
from magickbox.engines.handover import give_back, hand_over
from magickbox.engines.images import Images
from magickbox.engines.limits import Limits, limits_of
from magickbox.errors import EngineDown
from magickbox.processor import Processor

CARDS = "CUDA_VISIBLE_DEVICES"
SOMEBODY = Owner("", 0)  # who a run was that is taken back: whoever it was, its files become the box's


@dataclass(frozen=True)
class InContainer:
    """What a job script needs to know: the lines of its own, and the command."""

    lines: tuple[str, ...]
    command: tuple[str, ...]


class NodeContainers:
    """Containers on nodes, by their command lines; nothing is started here."""

    def __init__(
        self, images: Images, conventions: Mapping[str, Convention], program: str, box: Path, state: Path
    ) -> None:
        """``program`` is the words that call podman or apptainer on a node; ``state`` is where images are kept."""
        self._images, self._conventions, self._words = images, conventions, tuple(program.split())
        self._box, self._state = str(box.absolute()), state
        self._is_apptainer = Path(self._words[0]).name in ("apptainer", "singularity")

    def refusal(self, processor: Processor) -> str | None:
        """Why a processor has to wait for its image, or None."""
        return self._images.why_not(processor)

    def prepared(self, run: Run) -> InContainer:
        """Hand INPUT and OUTPUT over, and say what to start; raises EngineDown, OSError or ValueError."""
        image = self._images.image_of(run.processor)
        if image is None:
            raise EngineDown(self._images.why_not(run.processor) or "its image is not here")
        stage = self._conventions[convention_of(run.processor, image)].stage(run, image)
        memory = self._images.memory_of(run.processor) if stage.memory else None
        if self._is_apptainer:
            hand_over(run, memory, Owner("", None))
            return self._apptainer(run, image, stage, memory)
        who = owner(self._cli(image), stage, os.getuid(), os.getgid())
        hand_over(run, memory, who)
        return self._podman(run, image, stage, memory, who)

    def taken_back(self, run: Run) -> None:
        """Make what the container left the box's own."""
        if os.getuid() == 0:
            give_back(run, SOMEBODY)

    def _cli(self, image: Image) -> ContainerCli:
        as_root = os.getuid() == 0
        return ContainerCli(self._words, {}, True, not as_root, as_root, image.architecture)

    def _podman(self, run: Run, image: Image, stage: Stage, memory: Path | None, who: Owner) -> InContainer:
        command = command_line(
            self._cli(image), run, image, stage, who, self._box, memory, limits_of(run.processor, Limits())
        )
        archive = run.processor.image_archive
        bring = f"load --quiet --input {_q(str(archive))}" if archive else f"pull --quiet {_q(_exact(image))}"
        if dict(run.processor.resources).get("gpus"):
            command[len(self._words) + 1 : len(self._words) + 1] = ["--env", CARDS]  # as Slurm sets it on the node
        words = " ".join(map(_q, self._words))
        lines = (
            "container=1",
            f'contained() {{ {words} "$@"; }}',
            f"is_here() {{ contained image exists {_q(image.id)}; }}",
            f"bring() {{ is_here || contained {bring}; is_here; }}",
        )
        return InContainer(lines, tuple(command))

    def _apptainer(self, run: Run, image: Image, stage: Stage, memory: Path | None) -> InContainer:
        sif = self._state / "images" / f"{hashlib.sha256(image.id.encode()).hexdigest()[:32]}.sif"
        sif.parent.mkdir(parents=True, exist_ok=True)
        archive = run.processor.image_archive
        source = f"docker-archive:{archive}" if archive else f"docker://{_exact(image)}"
        words = " ".join(map(_q, self._words))
        part = f'{_q(str(sif))}."$SLURM_JOB_ID"'
        lines = (
            f'export APPTAINERENV_{CARDS}="${CARDS}"',
            f"bring() {{ [ -e {_q(str(sif))} ] || {{ {words} --silent build --force {part} {_q(source)} && mv {part}"
            f" {_q(str(sif))}; }}; [ -e {_q(str(sif))} ]; }}",
        )
        return InContainer(lines, tuple(apptainer(self._words, run, stage, memory, sif, self._box)))


def apptainer(words: tuple[str, ...], run: Run, stage: Stage, memory: Path | None, sif: Path, box: str) -> list[str]:
    """The command by which Apptainer (1.1 or newer) runs an image that was made a file, for the box's own user."""
    told = {**variables(run, stage, memory), "MAGICKBOX_BOX": box}
    return [
        *words, "--silent", "exec" if stage.command else "run", "--containall", "--no-home",
        *([] if run.processor.network else ["--net", "--network", "none"]),
        *(["--nv"] if dict(run.processor.resources).get("gpus") else []),
        *(["--fakeroot"] if stage.as_root else []),
        *(part for mount in mounts(run, stage, memory) for part in ("--mount", mount)),
        *(part for key, value in told.items() for part in ("--env", f"{key}={value}")),
        *(["--pwd", stage.workdir] if stage.workdir is not None else []),
        str(sif), *(stage.command or stage.arguments),
    ]  # fmt: skip


def _exact(image: Image) -> str:
    """The image as a registry gives it out again, bit by bit, if its digest is known."""
    if not image.digest or "@" in image.name:
        return image.name
    name, colon, tag = image.name.rpartition(":")
    return f"{name if colon and '/' not in tag else image.name}@{image.digest.rpartition('@')[2]}"


def _q(part: str) -> str:
    if "\0" in part:
        raise ValueError("embedded null byte")
    return shlex.quote(part)
