"""podman or docker, by their command lines: found, asked with a time limit, and what they are like on this machine."""

import json
import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from magickbox.errors import EngineDown

KNOWN = ("podman", "docker")
ANSWER = 30.0  # seconds for a question that costs milliseconds
LOOK_AGAIN = 15.0  # seconds after which a machine without a working engine is looked at again
LONGEST = 300
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@dataclass(frozen=True)
class Answer:
    """What a command came to: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def why(self) -> str:
        """The last line of its complaint, short enough for a message."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1].removeprefix("Error: ")[:LONGEST] if lines else f"exit code {self.code}"


def told_by(answer: Answer) -> dict[str, Any]:
    """What an inspection printed: podman makes a list of it, docker does not. Empty if there is nothing."""
    if answer.code != 0:
        return {}
    try:
        value = json.loads(answer.out)
    except ValueError:
        return {}
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class ContainerCli:
    """A working engine: the words that call it, and what they can do here.

    ``rootless``: root in a container is this very user. ``limits``: memory, CPUs and processes can be limited.
    ``alone``: rootless, and without further users (/etc/subuid), so that root is the only one in a container.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str]
    is_podman: bool
    rootless: bool
    limits: bool
    architecture: str
    alone: bool = False

    @property
    def name(self) -> str:
        """podman or docker."""
        return "podman" if self.is_podman else "docker"

    @property
    def in_words(self) -> str:
        """What it is and what it cannot do, for a person."""
        limits = "" if self.limits else ", cannot limit memory, CPUs and processes here"
        return f"{' '.join(self.words)} ({'rootless' if self.rootless else 'as root'}{limits})"

    def ask(self, *arguments: str, seconds: float = ANSWER) -> Answer:
        """Run one command to its end; raises EngineDown if it does not answer in time."""
        return _ask((*self.words, *arguments), self.environment, seconds)


class Finder:
    """Finds the engine once, and again as long as there is none; safe from several threads."""

    def __init__(self, environment: Mapping[str, str], wanted: str | None = None) -> None:
        """``wanted`` is the setting ``container_engine``: a command line, else podman and docker are looked for."""
        self._environment = {key: value for key, value in environment.items() if not key.startswith("MAGICKBOX_")}
        self._candidates = [tuple(wanted.split())] if wanted else [(name,) for name in KNOWN]
        self._lock = threading.Lock()
        self._found: ContainerCli | None = None
        self._problem, self._problem_until = "", 0.0

    def get(self) -> ContainerCli:
        """The engine; raises EngineDown with a reason for a person."""
        with self._lock:
            if self._found is None and time.monotonic() >= self._problem_until:
                self._look()
            if self._found is None:
                raise EngineDown(self._problem)
            return self._found

    def is_installed(self) -> bool:
        """True if there is a program that could be an engine; it need not work."""
        return any(self._path_of(words) for words in self._candidates)

    def lost(self) -> None:
        """The engine did not answer: look for it again before the next use."""
        with self._lock:
            self._found, self._problem_until = None, 0.0

    def _look(self) -> None:
        problems = []
        for words in self._candidates:
            if self._path_of(words) is None:
                problems.append(f"{words[0]} is not installed")
                continue
            try:
                self._found = _look_at(words, self._environment)
                return
            except EngineDown as exc:
                problems.append(str(exc))
        self._problem = "no engine for containers (setting container_engine): " + "; ".join(problems)
        self._problem_until = time.monotonic() + LOOK_AGAIN

    def _path_of(self, words: Sequence[str]) -> str | None:
        return shutil.which(words[0], path=self._environment.get("PATH", os.defpath))


def _look_at(words: tuple[str, ...], environment: Mapping[str, str]) -> ContainerCli:
    answer = _ask((*words, "info", "--format", "{{json .}}"), environment, ANSWER)
    told = told_by(answer)
    if not told or told.get("ServerErrors"):
        raise EngineDown(f"{words[0]} does not work: {answer.why}")
    return _podman(words, environment, told) if "host" in told else _docker(words, environment, told)


def _podman(words: tuple[str, ...], environment: Mapping[str, str], told: dict[str, Any]) -> ContainerCli:
    host = told["host"]
    rootless = bool(host.get("security", {}).get("rootless"))
    limits = not rootless or host.get("cgroupVersion") == "v2"
    ids = sum(int(each.get("size", 0)) for each in (host.get("idMappings") or {}).get("uidmap") or ())
    return ContainerCli(words, environment, True, rootless, limits, str(host.get("arch", "")), rootless and ids == 1)


def _docker(words: tuple[str, ...], environment: Mapping[str, str], told: dict[str, Any]) -> ContainerCli:
    rootless = any("rootless" in str(option) for option in told.get("SecurityOptions") or ())
    limits = bool(told.get("MemoryLimit", True)) and bool(told.get("PidsLimit", True))
    machine = str(told.get("Architecture", "")) or platform.machine()
    return ContainerCli(words, environment, False, rootless, limits, MACHINES.get(machine, machine))


def _ask(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> Answer:
    try:
        done = subprocess.run(  # noqa: S603  a list of arguments, no shell
            command, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise EngineDown(f"{command[0]} did not answer within {seconds:.0f} s") from None
    except OSError as exc:
        raise EngineDown(f"{command[0]} cannot be started: {exc.strerror}") from exc
    return Answer(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
