"""What the end of a container means: the processor's word, the processor's trouble, or trouble of the machine."""

import re
import signal
from dataclasses import dataclass, replace

from magickbox.bytesize import shown
from magickbox.convention import Image
from magickbox.engine import Ended, Run
from magickbox.engines.attended import Why, out_of_time
from magickbox.engines.container_cli import ContainerCli, told_by
from magickbox.engines.limits import Events, Limits, met
from magickbox.engines.output_log import OutputLog
from magickbox.errors import EngineDown
from magickbox.run import Limit

ENGINES_OWN = (125, 126, 127)  # may be said by the engine: it could not create, or not start
SIGNALS = range(129, 129 + 31)
WRONG_MACHINE = "exec format error"
OUT_OF_MEMORY = "oom"
NOT_EXECUTED = re.compile(
    r"(?:catatonit.*failed to exec pid1|FATAL tini.*exec .* failed): (.+)"
)  # the container's init
HEX = re.compile(r"\b[0-9a-f]{12,}\b")  # ids of containers and layers
NO_FORK = re.compile(r"can(?:no|')t fork|fork: .*temporarily unavailable|can't start new thread", re.IGNORECASE)


@dataclass(frozen=True)
class State:
    """A container as its engine shows it afterwards; ``started`` is false if its command never ran."""

    started: bool
    exit_code: int
    out_of_memory: bool


def state_of(cli: ContainerCli, run: Run, code: int, why: Why | None) -> State | None:
    """Look at the container if its client's exit code does not say enough; None if there is none, or it does.

    podman's own word on memory is wrong with cgroup v1, but its monitor leaves a file where the client was started.
    """
    if why is Why.EXIT and code not in (*ENGINES_OWN, 137) and code >= 0:
        return None
    try:
        told = told_by(cli.ask("container", "inspect", "--format", "{{json .State}}", run.name))
    except EngineDown:
        return None
    if not told:
        return None
    started = not str(told.get("StartedAt", "0001")).startswith("0001")
    out_of_memory = bool(told.get("OOMKilled")) or (run.workdir / OUT_OF_MEMORY).exists()
    return State(started, int(told.get("ExitCode", 0)), out_of_memory)


def judge(
    run: Run, image: Image, cli: ContainerCli, why: Why | None, code: int, state: State | None, reason: str | None,
    log: OutputLog, limits: Limits, refused_forks: int = 0,
) -> Ended:  # fmt: skip
    """The end of a run; ``code`` is the client's exit code, ``reason`` why a run was stopped.

    ``refused_forks`` is how often it was seen to meet its limit of processes.
    """
    last = log.last_line
    if why is Why.STOP:
        return Ended(_code(state.exit_code if state else code), last, interrupted=reason)
    if why in (Why.CLOCK, Why.LOOK):
        said, limit = (out_of_time(run), Limit.TIME) if why is Why.CLOCK else (too_much(run), Limit.OTHER)
        return Ended(_code(state.exit_code if state else code), last, trouble=said, limit=limit)
    if code < 0:
        return Ended(None, last, interrupted=f"{cli.name} was killed (signal {-code})")
    if code in ENGINES_OWN and (state is None or not state.started):
        return _not_started(run, image, cli, last)
    is_foreign = code in ENGINES_OWN and image.architecture != cli.architecture
    if is_foreign or WRONG_MACHINE in last.casefold():
        return Ended(None, last, trouble=_wrong_machine(image, cli))
    if (told := NOT_EXECUTED.search(last)) is not None:
        return Ended(None, last, trouble=f"could not start: {_program(run)}: {told[1]}")
    if _code(code) == -signal.SIGXFSZ and limits.file_size is not None:
        said = f"a file became too large (limit {shown(limits.file_size)})"
        return Ended(_code(code), last, trouble=said, limit=Limit.OTHER)
    if code == 137 or (state is not None and state.out_of_memory):
        return Ended(_code(code), last, trouble=_out_of_memory(limits, state), limit=Limit.MEMORY)
    events = Events(int((run.workdir / OUT_OF_MEMORY).exists()), refused_forks)
    ended = Ended(_code(code), last, met=met(limits, events, _code(code), run.workdir))
    if code != 0 and limits.processes is not None and (refused_forks or (cli.limits and NO_FORK.search(last))):
        return replace(ended, trouble=f"too many processes (limit {limits.processes})", limit=Limit.OTHER)
    return ended


def too_much(run: Run) -> str:
    """The sentence for a run that wrote too much."""
    told = dict(run.processor.resources).get("output")
    most = f"{told} (resources.output)" if told else "four fifths of the free disk; resources.output allows it more"
    return f"wrote more into OUTPUT than {most}"


def _out_of_memory(limits: Limits, state: State | None) -> str:
    limit = f"(limit {shown(limits.memory)})" if limits.memory is not None else "(of the machine)"
    if state is not None and state.out_of_memory:
        return f"out of memory {limit}"
    return f"killed (signal 9), as happens when memory runs out {limit}"


def _wrong_machine(image: Image, cli: ContainerCli) -> str:
    if image.architecture == cli.architecture:
        return "could not start: the program in the image is not one for this machine (exec format error)"
    return f"could not start: the image is for {image.architecture} machines, this one is {cli.architecture}"


def _not_started(run: Run, image: Image, cli: ContainerCli, last: str) -> Ended:
    """Not even the container's own first process ran, which is not the image's: trouble of the machine."""
    if WRONG_MACHINE in last.casefold():
        return Ended(None, last, trouble=_wrong_machine(image, cli))
    cards = "; resources.gpus asks for graphics cards" if dict(run.processor.resources).get("gpus") else ""
    said = _lasting(run, last.removeprefix("Error: ")) or "it says nothing"
    why = f"{cli.name} could not start it: {said} (setting container_engine: {' '.join(cli.words)}{cards})"
    return Ended(None, last, interrupted=why, not_begun=True)


def _lasting(run: Run, said: str) -> str:
    """A complaint without what is another each time: the same trouble is to be told once."""
    return HEX.sub("…", said.replace(run.name, "the container").replace(str(run.workdir), "its folder"))


def _program(run: Run) -> str:
    return run.processor.command[0] if run.processor.command else "the image's command"


def _code(code: int) -> int:
    """As subprocess has it: negative for a signal, which a container shows as 128 and more."""
    return 128 - code if code in SIGNALS and code - 128 in {int(each) for each in signal.Signals} else code
