"""Would a processor run on this machine? Found out without running anything of it, for ``processors check``."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from magickbox.allotment import misfits
from magickbox.config import Settings
from magickbox.convention import Image
from magickbox.conventions import CONVENTIONS
from magickbox.datafolder import DataFolder
from magickbox.dropins.folder import Dropins
from magickbox.dropins.pins import adorned, convention_of, package_of, read_pins
from magickbox.engine import Run
from magickbox.engines import configured, look_inside, protection
from magickbox.engines.archive import other_image
from magickbox.engines.container import ContainerEngine
from magickbox.engines.container_cli import ContainerCli, Finder
from magickbox.engines.container_options import owner
from magickbox.engines.image_store import NotBrought, known, look_into
from magickbox.engines.images import Images
from magickbox.engines.local import clean_environment
from magickbox.errors import EngineDown
from magickbox.logs import silent
from magickbox.machine import room_of
from magickbox.processor import IN_IMAGE, Processor, in_chain

PATIENCE = 30.0  # seconds for a look into a sandbox
FILES = 5000  # of a drop-in whose permissions are looked at


@dataclass(frozen=True)
class Finding:
    """What would keep a processor from running here, and what else there is to know."""

    problems: tuple[str, ...] = ()
    note: str = ""


class Examination:
    """Examines processors, also several at once; a context manager, whose folder is gone afterwards."""

    def __init__(self, settings: Settings, environment: Mapping[str, str], data: Path) -> None:
        """``data`` is the data folder of the box, which need not be there."""
        self._settings, self._environment, self._data = settings, dict(environment), data
        self._folder = tempfile.TemporaryDirectory(prefix="magickbox-")
        self._place = Path(self._folder.name)
        self._finder = Finder(environment, settings.container_engine)
        self._lock = threading.Lock()
        self._shield_made: protection.Protection | None = None
        self._number = 0

    def __enter__(self) -> "Examination":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def of(self, processor: Processor) -> Finding:
        """Examine one; takes a tenth of a second for a script, a second for a container, a minute at most."""
        if processor.steps:
            return self._chain(processor)
        found = self._container(processor) if processor.image is not None else self._script(processor)
        return Finding((*found.problems, *self._too_much(processor)), found.note)

    def _too_much(self, processor: Processor) -> list[str]:
        return misfits(processor, room_of(self._settings))

    def _chain(self, chain: Processor) -> Finding:
        """Every step, also of one that is a drop-in and examined by itself: it may have other settings here."""
        names = tuple(step.label for step in chain.steps)
        found = [(in_chain(names, n), self.of(step.processor)) for n, step in enumerate(chain.steps, 1)]
        problems = tuple(f"{words}: {each}" for words, finding in found for each in finding.problems)
        return Finding(problems, "; ".join(f"{words}: {finding.note}" for words, finding in found if finding.note))

    def _shield(self) -> protection.Protection:
        with self._lock:
            if self._shield_made is None:
                self._shield_made = protection.of_settings(self._settings, self._data, self._place / "etc")
            return self._shield_made

    # --- scripts ------------------------------------------------------------------------------------------------------

    def _script(self, processor: Processor) -> Finding:
        shield = self._shield()
        if shield.refusal:
            return Finding((shield.refusal,))
        program = processor.command[0]
        environment = {**clean_environment(self._environment, Path(sys.executable)), **dict(processor.environment)}
        if shutil.which(program, path=environment["PATH"]) is None and not os.path.isabs(program):
            return Finding((f"no program '{program}' is installed where the box looks (its PATH)",))
        if shield.sandbox is not None and shield.sandbox.hides(processor):
            return Finding((f"{program} is not visible in the sandbox (setting sandbox_shows)",))
        said = self._look(processor, environment)
        where = " (in the sandbox; setting sandbox_shows)" if shield.sandbox is not None else ""
        return Finding((said + where,)) if said else Finding()

    def _look(self, processor: Processor, environment: Mapping[str, str]) -> str:
        """What is said by a look from inside the sandbox of a run, or from outside if there is none."""
        sandbox, work = self._shield().sandbox, self._work("run")
        run = Run("mb-look-1", "look", 1, processor, work, work / "log", PATIENCE)
        source = Path(look_inside.__file__).read_text("utf-8")
        own = [part for part in processor.command[1:] if Path(part).is_relative_to(processor.folder.absolute())]
        command = [sys.executable, "-I", "-S", "-c", source, processor.command[0], *own]
        if sandbox is not None:
            command = [sandbox.program, *sandbox.arguments(run, environment), "--", *command]
        try:
            done = subprocess.run(  # noqa: S603  our own look, a list of arguments
                command, env=environment, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as exc:
            return f"cannot be looked at: {exc}"
        if done.returncode != 0:
            lines = (done.stderr or b"it says nothing").decode("utf-8", "replace").splitlines()
            return f"the sandbox cannot be set up: {lines[-1]}"
        return done.stdout.decode("utf-8", "replace")

    def _work(self, name: str) -> Path:
        with self._lock:
            self._number += 1
            work = self._place / str(self._number) / name
        for folder in ("INPUT", "OUTPUT", "tmp"):
            (work / folder).mkdir(parents=True)
        return work

    # --- containers ---------------------------------------------------------------------------------------------------

    def _container(self, processor: Processor) -> Finding:
        try:
            cli = self._finder.get()
            image = processor.image or ""
            if processor.image_archive is not None and (why := other_image(processor.image_archive, image)):
                return Finding((why,))
            if known(cli, image) is None:
                return self._not_here(processor)
            return self._trial(cli, processor)
        except (EngineDown, NotBrought) as exc:
            return Finding((str(exc),))

    def _not_here(self, processor: Processor) -> Finding:
        pin = read_pins(DataFolder(self._data).images).get(processor.name)
        if pin is not None and pin.problem is not None:
            return Finding((f"the image {processor.image} is not here: {pin.problem}",))
        how = f"loaded from {processor.image_archive.name}" if processor.image_archive is not None else "pulled"
        return Finding((), f"its image {processor.image} is not on this machine; a box has it {how} when it is on")

    def _trial(self, cli: ContainerCli, processor: Processor) -> Finding:
        """Look into the image, and start a container of it that does nothing."""
        place = self._work("look").parent
        image = look_into(cli, processor.image or "", str(place), place / "memory")
        if image.architecture and image.architecture != cli.architecture:
            return Finding((f"the image is for {image.architecture} machines, this one is {cli.architecture}",))
        if not processor.command and not image.has_command and not image.is_bucket:
            return Finding(("the image starts nothing by itself, and processor.json has no command",))
        if isinstance(wrong := package_of(processor, image), str):
            return Finding((wrong,))
        told = tuple(self._too_much(processor))
        if more := tuple(each for each in self._too_much(adorned(processor, image)) if each not in told):
            return Finding(more)
        convention = CONVENTIONS[convention_of(processor, image)]
        images = Images(self._finder, place, place, lambda: None, silent)
        images.want(Dropins(good=(processor,)))
        engine = ContainerEngine(self._finder, images, lambda _: convention, place, self._shield().limits)
        closed = _closed_to(self._user(cli, processor, image), processor)
        needs_it = any(part.startswith(IN_IMAGE + "/") for part in processor.command)
        why = (closed if needs_it else None) or engine.trial(processor, image)
        return Finding((why,)) if why else Finding((), closed or "")

    def _user(self, cli: ContainerCli, processor: Processor, image: Image) -> int | None:
        work = self._work("user")
        run = Run("mb-look-1", "look", 1, processor, work, work / "log", PATIENCE)
        stage = CONVENTIONS[convention_of(processor, image)].stage(run, image)
        return owner(cli, stage, os.getuid(), os.getgid()).outside


def container_engine(environment: Mapping[str, str], settings: Settings) -> str:
    """What runs containers here, in a few words; raises EngineDown."""
    return Finder(environment, settings.container_engine).get().in_words


def cluster(
    settings: Settings, environment: Mapping[str, str], data: Path, processors: Path, found: Iterable[Processor]
) -> tuple[list[str], list[str]]:
    """Does the cluster take jobs where those of these processors go, and does each node there see the data folder?

    What is good and what is wrong, in sentences; a job that leaves a mark runs on each node.
    """
    return configured.trial_of(settings, environment, data, processors).of(configured.places_of(settings, found))


def _closed_to(user: int | None, processor: Processor) -> str | None:
    """What of a drop-in the user of its container could not read; None if it can read all."""
    if user in (None, os.getuid()):
        return None
    for path, told in _all_in(processor.folder):
        needed = 0o005 if stat.S_ISDIR(told.st_mode) else 0o004
        if told.st_uid != user and told.st_mode & needed != needed:
            name = "its folder" if path == processor.folder else str(path.relative_to(processor.folder))
            return f"{name} cannot be read by the user of the container: chmod -R o+rX {processor.folder}"
    return None


def _all_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    yield folder, folder.stat()
    for count, path in enumerate(folder.rglob("*")):
        if count < FILES and not path.is_symlink() and not path.name.startswith("."):
            yield path, path.stat()
