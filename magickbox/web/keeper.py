"""Keeps the window's process: binds its port, starts it, starts it again when it ends. It never stops the box."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import magickbox
from magickbox.errors import ConfigError
from magickbox.logs import Note
from magickbox.web.encryption import problems_of
from magickbox.web.start import Start
from magickbox.web.whereabouts import EVERYWHERE, own_address

_PAUSES = (1.0, 5.0, 15.0, 60.0)
_LIVED = 60.0  # who lived so long is started again at once
_PORT_PAUSE = 30.0
_GRACE = 5.0


def bind(host: str, port: int) -> socket.socket:
    """The listening socket; raises ConfigError that names the settings."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as exc:
        why = exc.strerror or str(exc)
        raise ConfigError(f"cannot listen on {host}:{port} (settings web_host and web_port): {why}") from exc


class Keeper:
    """``start`` ... ``stop``; ``say`` is told what a person at the terminal wants to know.

    ``about`` is what the next process is told of the box.
    """

    def __init__(
        self, start: Start, note: Note, say: Callable[[str], None], pauses: tuple[float, ...] = _PAUSES
    ) -> None:
        self.about, self._note, self._say, self._pauses = start, note, say, pauses
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="window", daemon=True)
        self._problem: str | None = "is being started"
        self._told = False

    def start(self) -> None:
        """Begin, if the settings want a window; returns at once and never fails."""
        if self.about.settings.web:
            self._thread.start()

    def stop(self) -> None:
        """End the process, and start no other."""
        self._stopping.set()
        with self._lock:
            if self._process is not None:
                self._process.terminate()
        if self._thread.ident is not None:
            self._thread.join(_GRACE)
            with self._lock:
                if self._process is not None and self._process.poll() is None:
                    self._process.kill()
            self._thread.join(_GRACE)
        if self._socket is not None:
            self._socket.close()

    def describe(self) -> dict[str, object] | None:
        """For ``status``: the address, the same by a number if it has a name, and what is wrong; None without one."""
        if not self.about.settings.web:
            return None
        return {"address": self.address(), "by_number": self.by_number(), "problem": self._problem}

    def address(self) -> str | None:
        """Where the page is, as a browser on this machine has it; None while no port is bound."""
        bound = self._socket
        if bound is None:
            return None
        host = bound.getsockname()[0]
        return self._url(socket.gethostname() if host in EVERYWHERE else host)

    def by_number(self) -> str | None:
        """The same for machines that do not know this one's name; None where the address has a number already."""
        bound = self._socket
        number = own_address(bound.family) if bound is not None and bound.getsockname()[0] in EVERYWHERE else None
        return None if number is None else self._url(number)

    def _url(self, host: str) -> str:
        assert self._socket is not None
        scheme = "https" if self.about.settings.web_certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}/"

    def _run(self) -> None:
        """The process dies with the thread that started it, so the thread stays as long as processes come."""
        tries = 0
        while not self._stopping.is_set():
            if not self._has_port():
                self._stopping.wait(_PORT_PAUSE)
                continue
            began = time.monotonic()
            why = self._live()
            if self._stopping.is_set():
                break
            tries = 0 if time.monotonic() - began > _LIVED else tries + 1
            pause = self._pauses[min(tries, len(self._pauses)) - 1] if tries else 0.0
            self._trouble(f"the window's process ended ({why}); it is started again in {pause:g} s")
            self._stopping.wait(pause)

    def _has_port(self) -> bool:
        if self._socket is None:
            settings = self.about.settings
            try:
                wrong = problems_of(settings, self.about.places.data.root)
                if wrong:
                    raise ConfigError("; ".join(wrong))
                self._socket = bind(settings.web_host, settings.web_port)
            except ConfigError as exc:
                self._trouble(f"the box has no window: {exc}")
                return False
        return True

    def _trouble(self, why: str) -> None:
        if why != self._problem:
            self._note("warning", "window", {"reason": why})
            self._say(f"  note: {why}")
        self._problem = why

    def _live(self) -> str:
        """One process from its start to its end; why it ended."""
        try:
            process = self._spawn()
        except OSError as exc:
            return f"cannot be started: {exc.strerror or exc}"
        assert process.stdout is not None
        last: deque[str] = deque(["it said nothing"], maxlen=1)
        with process.stdout:
            for line in process.stdout:
                text = line.decode("utf-8", "replace").strip()[:300]
                if text.startswith('{"serving"'):
                    self._serves(json.loads(text))
                elif text:
                    last.append(text)
        code = process.wait()
        with self._lock:
            self._process = None
        return f"{code}: {last[-1]}"

    def _spawn(self) -> subprocess.Popen[bytes]:
        assert self._socket is not None
        number = self._socket.fileno()
        command = [sys.executable, "-P", "-m", "magickbox.web.main", str(number), str(os.getpid())]
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            command, pass_fds=[number], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=_environment(),
        )  # fmt: skip
        with self._lock:
            self._process = process
            if self._stopping.is_set():
                process.terminate()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already; its output says why
            process.stdin.write(self.about.to_line())
            process.stdin.close()
        return process

    def _serves(self, told: dict[str, object]) -> None:
        self._problem = None
        where, by_number = self.address(), self.by_number()
        if not self._told:
            self._told = True
            self._note("info", "window", {"reason": f"serves {where}"})
            self._say(f"  window      {where}{f' or {by_number}' if by_number else ''}")
        if told["setup"]:
            self._say(f"  first log-in: {where}setup/{told['setup']} (works once, for 24 hours)")
            if by_number:
                self._say(f"  first log-in, where that name is not known: {by_number}setup/{told['setup']}")


def _environment() -> dict[str, str]:
    """The box's own, with this very package found first."""
    here = str(Path(magickbox.__file__).parent.parent)
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": here if not before else f"{here}{os.pathsep}{before}"}
