"""Becomes a processor as soon as the box has put limits on it; run as a program of its own, never imported.

``launcher.py GATE STATUS COMMAND...``: waits on the file descriptor GATE for the environment (``go``, then
``NAME=value`` each, with a NUL at the end of each), and executes COMMAND. If that fails, it writes the error's number
to STATUS. It imports next to nothing: its start is a part of every run that has no sandbox.
"""

import _signal  # type: ignore[import-not-found]  # the module signal takes longer than all else here
import os
import sys

IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)


def _main(gate: int, status: int, command: list[str]) -> int:
    os.set_inheritable(status, False)
    with open(gate, "rb") as pipe:
        told = pipe.read().split(b"\0")
    if told[0] != b"go" or told[-1]:
        return 1  # the box is gone
    for number in IGNORED_BY_PYTHON:
        _signal.signal(number, _signal.SIG_DFL)
    environment = dict((name, value) for name, _, value in (each.partition(b"=") for each in told[1:-1]))
    try:
        os.execvpe(  # noqa: S606  # running what was dropped in is the point
            os.fsencode(command[0]), [os.fsencode(part) for part in command], environment
        )
    except OSError as exc:
        os.write(status, b"%d" % (exc.errno or 0))
    return 127


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
