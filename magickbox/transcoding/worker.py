"""The worker process: converts one file after another, each line of its input a request, each of its output an answer.

``python -m magickbox.transcoding.worker MEMORY SECONDS``. A codec may end it, with memory or time out or a bad pointer;
that is what it is a process for. It ends by itself when nobody asks for a while, and at once when the box is gone.
"""

import contextlib
import errno
import fcntl
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from magickbox.errors import UnreadableHeader
from magickbox.transcoding.convert import convert
from magickbox.transcoding.trouble import Impossible

IDLE = 300.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
Answer: TypeAlias = Mapping[str, str | bool]


def main() -> None:
    """Serve requests until the input ends."""
    memory, seconds = int(sys.argv[1]), float(sys.argv[2])
    answers = _own_output()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests = sys.stdin.buffer
    _end_with_the_box()
    while select.select([requests], [], [], IDLE)[0] and (line := requests.readline()):
        signal.setitimer(signal.ITIMER_REAL, seconds * 1.5)  # the box keeps the time; this is for when it is gone
        answer = _answer(json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(answers, json.dumps(answer).encode() + b"\n")


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


def _answer(request: Mapping[str, object]) -> Answer:
    folder, targets = Path(str(request["folder"])), request["targets"]
    assert isinstance(targets, Sequence)
    reasons: dict[str, None] = {}
    with _watched_input():
        for number, target in enumerate(targets):
            place = folder / str(number)
            answer = _try(Path(str(request["source"])), str(request["stored"]), str(target), place)
            if "path" in answer or answer.get("passing"):
                return answer
            reasons[str(answer["reason"])] = None
    return {"reason": "; ".join(reasons) or "nothing to convert to", "passing": False}


class _watched_input(contextlib.ContextDecorator):  # noqa: N801  used as a statement
    """While a file is worked on nothing else may come, so what moves on the input is its end: SIGIO ends us."""

    def __enter__(self) -> None:
        self._flags = fcntl.fcntl(0, fcntl.F_GETFL)
        fcntl.fcntl(0, fcntl.F_SETFL, self._flags | os.O_ASYNC)
        hung_up = select.poll()
        hung_up.register(0, 0)
        if hung_up.poll(0):  # it went before we watched
            sys.exit()

    def __exit__(self, *_: object) -> None:
        fcntl.fcntl(0, fcntl.F_SETFL, self._flags)


def _try(source: Path, stored: str, target: str, folder: Path) -> Answer:
    try:
        folder.mkdir()
        return {"path": str(convert(source, stored, target, folder)), "syntax": target}
    except Impossible as exc:
        return {"reason": str(exc), "passing": False}
    except UnreadableHeader as exc:
        return {"reason": f"the file cannot be read: {exc}", "passing": False}
    except MemoryError:
        return {"reason": "it needs more memory than the limit for one file", "passing": False}
    except OSError as exc:
        full = exc.errno in _NO_ROOM
        return {"reason": f"the file cannot be converted: {exc.strerror or type(exc).__name__}", "passing": full}
    except BaseException as exc:  # noqa: BLE001  a codec's own error, a panic of one in Rust too: its kind is told
        return {"reason": f"its pixel data cannot be converted ({type(exc).__name__})", "passing": False}


if __name__ == "__main__":
    main()
