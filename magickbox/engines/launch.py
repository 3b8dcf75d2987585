"""How a run's first process is started, sandboxed or not: behind a gate, so that its limits are there before it is.

Without a sandbox the gate is ``launcher.py``; with one it is bwrap, which waits for its arguments. Both start with an
environment that has nothing but the run's marks: what a processor's own sets (LD_PRELOAD) is for the processor only.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from magickbox.engine import Run
from magickbox.engines import launcher, start_trouble
from magickbox.engines.bubblewrap import Bubblewrap, exit_told
from magickbox.engines.gate import Gate

LAUNCHER = (sys.executable, "-I", "-S", str(Path(launcher.__file__)))


def start(run: Run, gate: Gate, sandbox: Bubblewrap | None, marks: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """The process that waits at the gate; raises OSError or ValueError, as subprocess does for the command itself."""
    ends = [str(fd) for fd in gate.inherited]
    if sandbox is None:
        behind = [*LAUNCHER, *ends]
    else:
        start_trouble.refuse_text_without_interpreter(run.processor.command[0])
        behind = [sandbox.program, "--args", ends[0], "--json-status-fd", ends[1], "--"]
    try:
        # Opened here: Python before 3.11.4 loses its own when there is no file handle left for the pipe.
        with open(os.devnull, "rb") as nothing:
            process = subprocess.Popen(  # noqa: S603  running what was dropped in is the point
                [*behind, *run.processor.command, str(run.input.absolute()), str(run.output.absolute())],
                cwd=run.workdir,
                env=marks,
                stdin=nothing,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
                pass_fds=gate.inherited,
            )
    except OSError as exc:
        if exc.errno == errno.E2BIG:  # the arguments are the processor's
            raise OSError(exc.errno, exc.strerror, run.processor.command[0]) from exc
        raise
    gate.given()
    return process


def let_go(run: Run, gate: Gate, sandbox: Bubblewrap | None, environment: Mapping[str, str]) -> None:
    """Open the gate: from now on the processor runs."""
    if sandbox is None:
        gate.open(["go", *(f"{name}={value}" for name, value in environment.items())])
    else:
        gate.open(sandbox.arguments(run, environment))


def failure(run: Run, said: bytes, sandbox: Bubblewrap | None, last_line: str) -> tuple[str | None, str | None] | None:
    """Why the command never began: the processor's fault, or the machine's; None if it began.

    ``said`` is what came out of the gate.
    """
    command = run.processor.command[0]
    if sandbox is not None:
        if exit_told(said):
            return None
        problem = start_trouble.of_sandboxed(command, last_line, sandbox.hides(run.processor))
        return problem, None if problem else f"the sandbox could not be set up: {last_line or 'it was killed'}"
    if not said:
        return None
    exc = OSError(int(said), os.strerror(int(said)), command)
    problem = start_trouble.of_processor(command, exc)
    return problem, None if problem else start_trouble.of_machine(exc)
