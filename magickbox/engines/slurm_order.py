"""What is handed to the cluster for a run: its script, written into the run's folder, and a trial of where it goes."""

from collections.abc import Mapping

from magickbox.durable import make_folder
from magickbox.engine import Ended, Run
from magickbox.engines import slurm_request, slurm_script, start_trouble
from magickbox.engines.slurm_client import SlurmClient
from magickbox.engines.slurm_request import Place
from magickbox.engines.slurm_script import NodeSandbox
from magickbox.engines.slurm_watch import Watched


def write(
    watched: Watched, environment: Mapping[str, str], box: str, sandbox: NodeSandbox, beat: float
) -> Ended | None:  # fmt: skip
    """Write the script of a run; how the run ends if that cannot be done, else None."""
    run, command = watched.run, watched.run.processor.command
    try:
        (run.workdir / "tmp").mkdir(exist_ok=True)
        make_folder(watched.marks.folder)
        start_trouble.refuse_text_without_interpreter(command[0])
        words = [*command, str(run.input.absolute()), str(run.output.absolute())]
        told = slurm_script.text(run, words, _environment(run, environment, box), sandbox, beat)
        watched.marks.script.write_text(told, "utf-8")
    except (OSError, ValueError) as exc:
        return _not_started(watched, exc)
    return None


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
    command = watched.run.processor.command[0]
    problem = start_trouble.of_processor(command, exc)
    said = problem or start_trouble.of_machine(exc)
    if watched.log is not None:
        watched.log.say(said)
    return Ended(None, trouble=problem, interrupted=None if problem else said, not_begun=problem is None)
