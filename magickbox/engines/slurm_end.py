"""How a run at the cluster ended, in the box's words."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from magickbox.bytesize import in_bytes, shown
from magickbox.engine import Ended, Run
from magickbox.engines import start_trouble
from magickbox.engines.attended import out_of_time
from magickbox.engines.container_end import NOT_EXECUTED
from magickbox.engines.limits import Events, Limits, verdict
from magickbox.engines.slurm_client import AtCluster
from magickbox.engines.slurm_marks import End
from magickbox.engines.slurm_verdict import Lost
from magickbox.run import Limit

ENV_FAILED = (125, 126, 127)
SIGNALS = {int(each) for each in signal.Signals}


def of_end(run: Run, end: End, hint: AtCluster | None, last_line: str) -> Ended:
    """The end that a script told; not that of a run that somebody stopped."""
    if end.why == "unshielded":
        return Ended(None, interrupted=f"the sandbox is required, and none works on node {end.node}", not_begun=True)
    if end.why == "unseen":
        why = f"node {end.node} does not see the processor's folder {run.processor.folder}"
        return Ended(None, interrupted=why, not_begun=True)
    if end.why == "noimage":
        why = f"node {end.node} cannot bring the image {run.processor.image}: {last_line or 'it says nothing'}"
        return Ended(None, interrupted=why, not_begun=True)
    if end.why == "trouble":
        return Ended(None, interrupted=f"node {end.node} has no room for temporary files", not_begun=True)
    if end.why == "stop":
        return Ended(exit_code(end), last_line, interrupted=f"it was cancelled at the cluster, on node {end.node}")
    if end.why == "clock":
        return Ended(exit_code(end), last_line, trouble=out_of_time(run), limit=Limit.TIME)
    if (failed := _never_began(run, end, last_line)) is not None:
        return failed
    ended = Ended(exit_code(end), last_line)
    if ended.exit_code == -signal.SIGKILL and hint is not None and hint.state == "OUT_OF_MEMORY":
        return replace(ended, trouble=f"out of memory ({_memory(run)})", limit=Limit.MEMORY)
    told = dict(run.processor.resources).get("memory")
    limits = Limits(memory=in_bytes(told)) if told else Limits()
    over = verdict(limits, Events(), ended.exit_code, last_line, run.workdir)
    return ended if over is None else replace(ended, trouble=over.said, limit=over.limit)


def of_lost(run: Run, lost: Lost, hint: AtCluster | None, asked: str) -> Ended:
    """The end of a run that told none."""
    state = hint.state if hint is not None else ""
    if lost.fault:
        return Ended(None, trouble=f"{lost.why}: {asked}")
    if state == "OUT_OF_MEMORY":
        return Ended(None, trouble=f"out of memory ({_memory(run)})", limit=Limit.MEMORY)
    if state in ("TIMEOUT", "DEADLINE"):
        return Ended(None, trouble=out_of_time(run), limit=Limit.TIME)
    return Ended(None, interrupted=lost.why, not_begun=not lost.begun)


def exit_code(end: End) -> int:
    """As subprocess has it: negative for a signal, which a shell shows as 128 and more."""
    return 128 - end.code if end.code - 128 in SIGNALS else end.code


def whole(run: Run, end: End, patience: float) -> bool:
    """True as soon as OUTPUT is seen here with all that the node had in it: a network filesystem may show it late."""
    give_up = time.monotonic() + patience
    while _count(run.output) < end.files:
        if time.monotonic() >= give_up:
            return False
        time.sleep(min(0.5, patience / 4))
    return True


def _count(folder: Path) -> int:
    found = 0
    with suppress(OSError):
        for _, inner, names in os.walk(folder):
            found += len(inner) + len(names)
    return found


def _never_began(run: Run, end: End, last_line: str) -> Ended | None:
    """The program was not there, or not one for this machine; None if it was started."""
    command = run.processor.command[0] if run.processor.command else ""
    if run.processor.image is not None:
        return _not_contained(command, end, last_line)
    if end.began and not (end.code in ENV_FAILED and last_line.startswith("env: ")):
        return None
    is_about_it = last_line.startswith(("env: ", "bwrap: execvp"))
    said = f"bwrap: execvp {command}: {last_line.rpartition(': ')[2]}" if is_about_it else last_line
    problem = start_trouble.of_sandboxed(command, said, hidden=False)
    if problem is not None:
        return Ended(None, trouble=problem if "/" in command else f"{problem}, on node {end.node}")
    why = f"node {end.node} could not start it: {last_line or 'it says nothing'}"
    return Ended(None, interrupted=why, not_begun=True)


def _not_contained(command: str, end: End, last_line: str) -> Ended | None:
    """The same for a container, which its program ends with 125 to 127 if it, or the image's program, cannot start."""
    if end.code not in ENV_FAILED:
        return None
    if (told := NOT_EXECUTED.search(last_line)) is not None:
        return Ended(None, last_line, trouble=f"could not start: {command or 'its program'}: {told[1]}")
    if last_line.startswith(("Error: ", "FATAL: ")):
        why = f"node {end.node} could not start the container: {last_line.partition(': ')[2]}"
        return Ended(None, interrupted=why, not_begun=True)
    return None


def _memory(run: Run) -> str:
    told = dict(run.processor.resources).get("memory")
    return f"limit {shown(in_bytes(told))}" if told else "the cluster's limit; resources.memory asks for more"
