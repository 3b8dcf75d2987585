"""A program with a pipe to it, and one from it, started so that a failure costs no file descriptor.

``subprocess`` before Python 3.11.4 (Debian 12 has 3.11.2) forgets to close what it has opened itself when the next pipe
cannot be had: a box that is short of descriptors would lose more with each try. So they are opened here.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import IO


def start(
    command: Sequence[str], environment: Mapping[str, str], *, answers: bool, folder: str | None = None
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own; its ``stdin`` is ours to write, with ``answers`` its ``stdout`` to read.

    What else it prints goes nowhere. Raises OSError, with nothing left open.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        nothing = theirs.enter_context(open(os.devnull, "r+b", buffering=0))
        its_input, stdin = _pipe(theirs, ours, "wb")
        its_output, stdout = _pipe(theirs, ours, "rb") if answers else (nothing, None)
        process = subprocess.Popen(  # noqa: S603  a list of arguments, no shell
            list(command),
            stdin=its_input,
            stdout=its_output,
            stderr=nothing,
            env=dict(environment),
            cwd=folder,
            bufsize=0,
            start_new_session=True,
        )
        process.stdin, process.stdout = stdin, stdout
        ours.pop_all()  # the process has them now
    return process


def _pipe(theirs: ExitStack, ours: ExitStack, mode: str) -> tuple[IO[bytes], IO[bytes]]:
    """Its end and ours of a pipe; ``mode`` is that of ours."""
    read, write = os.pipe2(os.O_CLOEXEC)
    mine, other = (write, read) if mode == "wb" else (read, write)
    its = theirs.enter_context(os.fdopen(other, "rb" if mode == "wb" else "wb", buffering=0))
    return its, ours.enter_context(os.fdopen(mine, mode, buffering=0))
