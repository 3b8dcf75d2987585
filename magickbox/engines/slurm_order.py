"""What is handed to the cluster for a run: its script, written into the run's folder, and a trial of where it goes."""

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from magickbox.durable import make_folder
from magickbox.engine import Ended, Run
from magickbox.engines import slurm_request, slurm_script, start_trouble
from magickbox.engines.slurm_client import SlurmClient
from magickbox.engines.slurm_container import NodeContainers
from magickbox.engines.slurm_request import Place
from magickbox.engines.slurm_script import NodeSandbox
from magickbox.engines.slurm_watch import Watched
from magickbox.errors import EngineDown
from magickbox.jobfolder import remove_tree
from magickbox.processor import Processor

LONGEST = 128 * 1024  # bytes of one argument: what Linux takes


@dataclass(frozen=True)
class Writer:
    """Writes the scripts of runs; ``environment`` is what every processor gets, ``containers`` may be none."""

    environment: Mapping[str, str]
    box: str
    sandbox: NodeSandbox
    containers: NodeContainers | None
    beat: float

    def write(self, watched: Watched) -> Ended | None:
        """Write the script of a run; how the run ends if that cannot be done, else None."""
        run = watched.run
        try:
            (run.workdir / "tmp").mkdir(exist_ok=True)
            make_folder(watched.marks.folder)
            told = slurm_script.text(run, self._frame(run), self.box, self.beat)
            watched.marks.script.write_text(told, "utf-8")
        except EngineDown as exc:
            return Ended(None, interrupted=str(exc), not_begun=True)
        except (OSError, ValueError) as exc:
            return _not_started(watched, exc)
        return None

    def refusal(self, processor: Processor) -> str | None:
        """Why a processor has to wait for its image, or None."""
        if processor.image is None:
            return None
        if self.containers is None:
            return "it runs in a container, and there are none here"
        return self.containers.refusal(processor)

    def tidy(self, run: Run) -> None:
        """Take back what a run was given, when it is over."""
        if run.processor.image is not None and self.containers is not None:
            self.containers.taken_back(run)
        with contextlib.suppress(OSError):
            remove_tree(run.workdir / "tmp")

    def _frame(self, run: Run) -> list[str]:
        command = run.processor.command
        if run.processor.image is not None and self.containers is not None:
            return slurm_script.of_container(self.containers.prepared(run))
        start_trouble.refuse_text_without_interpreter(command[0])
        words = [*command, str(run.input.absolute()), str(run.output.absolute())]
        if any(len(os.fsencode(word)) >= LONGEST for word in words):  # each shell says that in its own way
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG), command[0])
        return slurm_script.of_script(run, words, _environment(run, self.environment, self.box), self.sandbox)


def why_not(client: SlurmClient, place: Place) -> str | None:
    """Why the cluster does not take jobs there, found out without giving it one; raises EngineDown."""
    said = client.tried([*slurm_request.unseen(), "--time=1", *place.options()])
    return f"Slurm does not take jobs for {place}: {said}" if said is not None else None


def _environment(run: Run, usual: Mapping[str, str], box: str) -> dict[str, str]:
    work = run.workdir.absolute()
    private = str(work / "tmp")
    return {
        **usual,
        "HOME": private,
        "TMPDIR": private,
        **dict(run.processor.environment),
        "MAGICKBOX_JOB": run.job,
        "MAGICKBOX_INPUT": f"{work}/INPUT",
        "MAGICKBOX_OUTPUT": f"{work}/OUTPUT",
        "MAGICKBOX_INFO": f"{work}/info.json",
        "MAGICKBOX_PROC": f"{work}/proc.json",
        "MAGICKBOX_PROCESSOR": str(run.processor.folder.absolute()),
        "MAGICKBOX_RUN": run.name,
        "MAGICKBOX_BOX": box,
    }


def _not_started(watched: Watched, exc: OSError | ValueError) -> Ended:
    command = next(iter(watched.run.processor.command), "")
    problem = start_trouble.of_processor(command, exc)
    said = problem or start_trouble.of_machine(exc)
    if watched.log is not None:
        watched.log.say(said)
    return Ended(None, trouble=problem, interrupted=None if problem else said, not_begun=problem is None)
