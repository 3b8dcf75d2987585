"""What a sandboxed processor sees of the machine: everything that bubblewrap (``bwrap``) is told for a run.

The root is empty but for what is bound into it: the system's programs and libraries read-only, a few files of /etc,
the box's Python, the drop-in itself, and the run's own working directory, in which INPUT is read-only. Home folders,
other jobs, other drop-ins and the rest of the data folder are not there. Own namespaces for processes, network, IPC
and users; no capabilities; no way to get new privileges.
"""

import glob
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from magickbox.dropins.declaration import FILE
from magickbox.engine import Run
from magickbox.engines import etc_files
from magickbox.processor import Processor

SYSTEM = ("/usr", "/opt", "/nix/store")
TOP = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")  # links into /usr on most systems
GRAPHICS = ("/dev/nvidia*", "/dev/nvidia-caps", "/dev/dri", "/dev/kfd")
WALLS = ("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
NO_MORE_USERS = "--disable-userns"  # from bubblewrap 0.8: no user namespaces inside, in which one would be root again
TRIAL = "import os, sys; os.listdir(sys.argv[1])"
PATIENCE = 20.0


@dataclass(frozen=True)
class Bubblewrap:
    """A bwrap that works here; made by ``probe``. ``shows`` are folders that every run sees, read-only.

    ``etc`` is what they see as /etc.
    """

    program: str
    box: Path
    shows: tuple[Path, ...]
    walls: tuple[str, ...]
    etc: Path

    def arguments(self, run: Run, environment: Mapping[str, str]) -> list[str]:
        """What bwrap is to be told for a run, but for the command."""
        work, own = run.workdir.absolute(), _own_places(run.processor)
        inside_temp = any(_is_in(path, Path("/tmp")) for path in (self.box, work, *own, *self.shows))  # noqa: S108
        temp = ["--tmpfs", "/tmp"] if inside_temp else ["--bind", f"{work}/tmp", "/tmp"]  # noqa: S108
        over = [path for path in own if _is_in(self.box, path)]
        told = [*self.walls, *_base(), *temp, "--symlink", "/tmp", "/var/tmp"]  # noqa: S108
        # What lies below /etc needs a place in the copy to be mounted on, which bwrap makes before the copy is closed.
        in_etc = any(_is_in(path, Path("/etc")) for path in (self.box, work, *own, *self.shows))
        told += ["--bind" if in_etc else "--ro-bind", str(self.etc), "/etc"]
        told += ["--share-net", *_network()] if run.processor.network else []
        told += _graphics() if dict(run.processor.resources).get("gpus") else []
        told += _shown((*over, *self.shows), self.box)
        told += [part for path in own if path not in over for part in ("--ro-bind-try", str(path), str(path))]
        told += ["--bind", str(work), str(work)]
        for name in ("INPUT", "info.json", "run.json"):
            told += ["--ro-bind-try", f"{work}/{name}", f"{work}/{name}"]
        told += ["--remount-ro", str(self.box)] if self.box != work else []
        told += ["--remount-ro", "/etc"] if in_etc else []
        told += ["--remount-ro", "/proc", "--remount-ro", "/", "--chdir", str(work), "--clearenv"]
        for key, value in environment.items():
            told += ["--setenv", key, value]
        return told

    def hides(self, processor: Processor) -> bool:
        """True if the program is on this machine, but not in what a run sees."""
        program = Path(processor.command[0])
        seen = [Path(path) for path in (*SYSTEM, *TOP)] + [*self.shows, *_own_places(processor)]
        return program.is_absolute() and program.exists() and not any(_is_in(program, path) for path in seen)


def probe(box: Path, interpreter: Path, places: Iterable[Path], etc: Path) -> Bubblewrap | str:
    """A bwrap that was seen to work here, or a sentence that says why there is none.

    ``interpreter`` is tried in it; ``places`` is what it needs and what else the box's settings show. ``etc`` is the
    folder that is made to be seen as /etc.
    """
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed (Debian's package is called bubblewrap)"
    system = [Path(path) for path in SYSTEM]
    absolute = dict.fromkeys(path.absolute() for path in places if path.exists())
    shows = tuple(path for path in absolute if not any(_is_in(path, each) for each in system))
    try:
        etc_files.copy_public(etc)
    except OSError as exc:
        return f"what processors see of /etc cannot be copied to {etc}: {exc.strerror}"
    problem = ""
    for walls in ((*WALLS, NO_MORE_USERS), WALLS):
        said = _try(program, walls, box.absolute(), interpreter, shows)
        if said is None:
            return Bubblewrap(program, box.absolute(), shows, walls, etc.absolute())
        problem = problem or said
    return f"bubblewrap is installed and does not work here: {problem}"


def exit_told(status: bytes) -> bool:
    """True if the command was started and its end is told in what ``--json-status-fd`` gave."""
    for line in status.splitlines():
        with suppress(ValueError):
            if "exit-code" in json.loads(line):
                return True
    return False


def _try(program: str, walls: tuple[str, ...], box: Path, interpreter: Path, shows: tuple[Path, ...]) -> str | None:
    there = next(path for path in (box, *box.parents) if path.is_dir())
    command = [program, *walls, *_base(), *_shown(shows, there), "--ro-bind", str(there), str(there), "--clearenv"]
    command += ["--", str(interpreter), "-I", "-S", "-c", TRIAL, str(there)]
    try:
        done = subprocess.run(  # noqa: S603  # the trial is our own
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.SubprocessError) as exc:
        return str(exc)
    if done.returncode == 0:
        return None
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def _base() -> list[str]:
    told = ["--proc", "/proc", "--dev", "/dev"]
    for path in SYSTEM:
        told += ["--ro-bind-try", path, path]
    for path in TOP:
        told += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind-try", path, path]
    return told


def _shown(places: Iterable[Path], box: Path) -> list[str]:
    """Folders read-only, with the data folder hidden wherever one of them has it in it."""
    around = [path for path in places if _is_in(box, path)]
    told = [part for path in around for part in ("--ro-bind-try", str(path), str(path))]
    told += ["--tmpfs", str(box)]
    return told + [p for path in places if path not in around for p in ("--ro-bind-try", str(path), str(path))]


def _network() -> list[str]:
    there = [(os.path.realpath(f"/etc/{name}"), f"/etc/{name}") for name in etc_files.NETWORK]
    return [part for path, seen in there if os.path.exists(path) for part in ("--ro-bind", path, seen)]


def _graphics() -> list[str]:
    devices = sorted(path for pattern in GRAPHICS for path in glob.glob(pattern))
    return ["--ro-bind", "/sys", "/sys", *(part for path in devices for part in ("--dev-bind", path, path))]


def _own_places(processor: Processor) -> tuple[Path, ...]:
    """The drop-in's folder; of a lone file only the file, because beside it are other drop-ins."""
    folder = processor.folder.absolute()
    if (folder / FILE).is_file():
        return (folder,)
    return tuple(path for part in processor.command if _is_in(path := Path(part), folder) and path.is_absolute())


def _is_in(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder)
