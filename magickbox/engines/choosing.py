"""Which engine takes a run, and in which convention: a processor with an image gets a container, others do not."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from magickbox.convention import Convention, Image
from magickbox.dropins.pins import convention_of
from magickbox.engine import Ended, Engine, Run
from magickbox.engines.container import ContainerEngine
from magickbox.engines.handover import bring_out
from magickbox.engines.images import Images
from magickbox.engines.limits import Limits
from magickbox.processor import Processor


class ChoosingEngine:
    """One engine made of two, and of the conventions; implements ``engine.Engine``."""

    def __init__(
        self,
        scripts: Engine,
        images: Images,
        conventions: Mapping[str, Convention],
        box: Path,
        limits: Limits,
        takes_images: bool = False,
    ) -> None:
        """``scripts`` runs what has no image, ``conventions`` are by their names, ``limits`` the box's default.

        ``takes_images``: it runs the others too.
        """
        self._takes_images = takes_images
        self._scripts, self._images, self._conventions = scripts, images, conventions
        self._containers = ContainerEngine(images.finder, images, self._convention, box, limits)

    def refusal(self, processor: Processor) -> str | None:
        """Why a processor has to wait: no sandbox where one is required, or no image yet."""
        return self._of(processor).refusal(processor)

    def run(self, run: Run, started: Callable[[dict[str, object]], None]) -> Ended:
        """Lay the run out as its processor expects it, run it, and read back what it says."""
        convention = self._convention(run)
        name = self._name_of(run)

        def told(handle: dict[str, object]) -> None:
            lasts = run.processor.image is not None or "slurm" in handle
            started({**handle, "convention": name} if lasts else handle)

        ended = self._of(run.processor).run(convention.lay_out(run), told)
        self._take_back(run, ended)
        return ended

    def rejoin(self, run: Run) -> Ended | None:
        """Take up a container that outlived the box, and read back what it says."""
        ended = self._of(run.processor).rejoin(run)
        if ended is not None:
            self._take_back(run, ended)
        return ended

    def stop(self, name: str, reason: str) -> None:
        """End a run, whichever engine has it."""
        self._scripts.stop(name, reason)
        self._containers.stop(name, reason)

    def leave(self, name: str) -> bool:
        """True if a run goes on when the box stops: at a cluster it does."""
        return self._scripts.leave(name)

    def end_leftovers(self, name: str) -> int:
        """End what a killed box had started, in whichever engine."""
        return self._containers.end_leftovers(name) + self._scripts.end_leftovers(name)

    def sweep(self, spared: Collection[str] = ()) -> int:
        """End what belongs to no run, containers and jobs at a cluster; return how many there were."""
        return self._containers.sweep(spared) + self._scripts.sweep(spared)

    def _take_back(self, run: Run, ended: Ended) -> None:
        convention = self._convention(run)
        if run.processor.image is not None:
            image = self._images.image_of(run.processor) or Image(run.processor.image, "")
            bring_out(run, convention.stage(run, image))
        convention.read_back(run, ended)

    def _of(self, processor: Processor) -> Engine:
        return self._scripts if processor.image is None or self._takes_images else self._containers

    def _convention(self, run: Run) -> Convention:
        return self._conventions[self._name_of(run)]

    def _name_of(self, run: Run) -> str:
        return convention_of(run.processor, self._images.image_of(run.processor))
