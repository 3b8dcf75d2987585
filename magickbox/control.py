"""How a command reaches a running box: a socket in ``state/``, which only the box's own user can open.

One JSON object a line in each direction. When no box runs there is nobody to ask, and the command does it itself.
"""

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from magickbox.errors import ConfigError, DiskFull, ForbiddenMove, LedgerError, MagickboxError, NotFound
from magickbox.operations import Operations

MAX_LINE = 64 * 1024
TIMEOUT = 60.0
MAX_NAME = 64
_KINDS = {kind.__name__: kind for kind in (ConfigError, DiskFull, ForbiddenMove, LedgerError, NotFound)}
MAX_SUBJECT = 300  # a destination has a host name of up to 255 in it


def clean(name: object, longest: int = MAX_NAME) -> str:
    """A name as history, plans and logs can keep it: printable text, not long."""
    text = str(name).encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)[:longest]


class ControlServer:
    """Answers commands while the box runs."""

    def __init__(self, path: Path, operations: Operations, status: Callable[[], dict[str, object]]) -> None:
        self._path, self._operations, self._status = path, operations, status
        self._server: _Server | None = None
        self._more: dict[str, Callable[[], object]] = {}
        self._taught: dict[str, Callable[[str, str], str]] = {}

    def teach(self, verb: str, act: Callable[[str, str], str]) -> None:
        """Have it do something more: ``act(subject, who)`` returns what is said."""
        self._taught[verb] = act

    def tell(self, name: str, what: Callable[[], object]) -> None:
        """Have ``status`` tell of something more, under a name of its own."""
        self._more[name] = what

    def start(self) -> None:
        """Begin to listen; raises OSError."""
        self._path.unlink(missing_ok=True)
        with _short(self._path) as address:
            self._server = _Server(address, self.answer)
        os.chmod(self._path, 0o600)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="control", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._path.unlink(missing_ok=True)

    def answer(self, request: object) -> dict[str, Any]:
        """Do one command; an error is a sentence in ``error``. The worker boundary: never raises."""
        try:
            if not isinstance(request, dict):
                return {"error": "a command is a JSON object in one line"}
            verb = clean(request.get("do", ""))
            if verb == "status":
                more = {name: what() for name, what in self._more.items()}
                return {"said": "running", "status": self._status() | more}
            subject, who = clean(request.get("subject", ""), MAX_SUBJECT), clean(request.get("who", ""))
            act = self._taught.get(verb) or (lambda subject, who: self._operations.do(verb, subject, who))
            return {"said": act(subject, who or "somebody")}
        except (MagickboxError, OSError) as exc:
            return {"error": str(exc), "kind": type(exc).__name__}
        except Exception as exc:  # noqa: BLE001  # worker boundary: whoever asks is answered
            return {"error": f"the box stumbled: {exc!r}"}


class _Handler(socketserver.StreamRequestHandler):
    timeout = TIMEOUT

    def handle(self) -> None:
        with suppress(OSError):
            line = self.rfile.readline(MAX_LINE)
            if line:
                answer = self.server.answer(_request(line))  # type: ignore[attr-defined]  # our own server
                self.wfile.write(json.dumps(answer).encode() + b"\n")


def _request(line: bytes) -> object:
    """What was asked; None for what is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, address: str, answer: Callable[[object], dict[str, Any]]) -> None:
        self.answer = answer
        super().__init__(address, _Handler)


def ask(path: Path, verb: str, subject: str = "", who: str = "") -> dict[str, Any] | None:
    """Ask the box that runs on this data folder; None if none answers.

    Raises what the box did: NotFound, ForbiddenMove, or another MagickboxError with what it said.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
        raw.settimeout(TIMEOUT)
        try:
            with _short(path) as address:
                raw.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as exc:
            raise MagickboxError(f"{path}: {exc.strerror or exc}") from exc
        raw.sendall(json.dumps({"do": verb, "subject": subject, "who": who}).encode() + b"\n")
        with raw.makefile("rb") as lines:
            answer: dict[str, Any] = json.loads(lines.readline() or b'{"error": "the box closed the connection"}')
    if "error" in answer:
        raise _KINDS.get(answer.get("kind", ""), MagickboxError)(answer["error"])
    return answer


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A socket's address has room for about 100 characters; by way of its folder's descriptor any path fits."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)
