"""A worker process from inside: answers one request after another, each line of its input one, each of its output one.

What is asked for may end it, with memory or time out or a bad pointer; that is what it is a process for. It ends by
itself when nobody asks for a while, and at once when the process that started it is gone.
"""

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

Request = Mapping[str, object]


def serve(numbers: Sequence[str], answer: Callable[[Request], Mapping[str, object]]) -> None:
    """Serve requests until the input ends; ``numbers`` are the arguments of ``workers.pool``."""
    memory, seconds, idle, nice = int(numbers[0]), float(numbers[1]), float(numbers[2]), int(numbers[3])
    answers = _own_output()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(nice)
    requests = sys.stdin.buffer
    _end_with_the_box()
    while select.select([requests], [], [], idle)[0] and (line := requests.readline()):
        signal.setitimer(signal.ITIMER_REAL, seconds * 1.5)  # the box keeps the time; this is for when it is gone
        with _watched_input():
            said = answer(json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(answers, json.dumps(said).encode() + b"\n")


def _own_output() -> int:
    """Keep standard output for answers; what codecs print goes nowhere."""
    answers = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    return answers


def _end_with_the_box() -> None:
    """Have the kernel end this process when the other end of its input is closed, even inside a codec."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())


class _watched_input(contextlib.ContextDecorator):  # noqa: N801  used as a statement
    """While a request is worked on nothing else may come, so what moves on the input is its end: SIGIO ends us."""

    def __enter__(self) -> None:
        self._flags = fcntl.fcntl(0, fcntl.F_GETFL)
        fcntl.fcntl(0, fcntl.F_SETFL, self._flags | os.O_ASYNC)
        hung_up = select.poll()
        hung_up.register(0, 0)
        if hung_up.poll(0):  # it went before we watched
            sys.exit()

    def __exit__(self, *_: object) -> None:
        fcntl.fcntl(0, fcntl.F_SETFL, self._flags)
