"""What a job script and the box tell each other in a run's folder: these marks are the truth, Slurm's word is a hint.

``taken`` is a folder, made by whoever is first: the script before it does anything, or the box that gives the run up.
So a script that Slurm starts a second time, or too late, does nothing.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = "slurm"
TAKEN, BEGUN, END, ALIVE = "taken", "begun", "end", "alive"
LOG, LOG_END, LOG_MORE = "log", "log.end", "log.more"
SCRIPT = "job.sh"


@dataclass(frozen=True)
class End:
    """How the script says that the command ended; ``why`` is exit, clock or stop, ``began`` false if it never ran.

    ``files`` is how many entries OUTPUT had then: as many must be seen from the box.
    """

    code: int
    why: str
    began: bool
    files: int
    node: str


@dataclass(frozen=True)
class Seen:
    """One look at a run's marks; ``pulse`` changes as long as the script lives."""

    names: frozenset[str]
    pulse: tuple[int, int]
    log_size: int

    @property
    def taken(self) -> bool:
        """True if the script has begun, or never will."""
        return TAKEN in self.names


class Marks:
    """The marks of one run; reading them raises nothing: what cannot be seen is not there."""

    def __init__(self, workdir: Path) -> None:
        """``workdir`` is the run's."""
        self.folder = workdir / FOLDER

    @property
    def script(self) -> Path:
        """What is given to sbatch."""
        return self.folder / SCRIPT

    def look(self) -> Seen:
        """What is there now. The folder is listed, so that a network filesystem asks its server again."""
        names: frozenset[str] = frozenset()
        with suppress(OSError):
            names = frozenset(os.listdir(self.folder))
        size = self._status(LOG).st_size if LOG in names and self._status(LOG) else 0
        beat = self._status(ALIVE).st_mtime_ns if ALIVE in names and self._status(ALIVE) else 0
        return Seen(names, (beat, size), size)

    def withdraw(self) -> bool:
        """Make sure that the script never begins; False if it has."""
        try:
            os.mkdir(self.folder / TAKEN)
        except FileExistsError:
            return False
        except OSError:
            return not (self.folder / BEGUN).exists()
        return True

    def end(self) -> End | None:
        """How the command ended; None if that is not told, or not by the script."""
        with suppress(OSError, ValueError):
            code, why, began, files, node = (self.folder / END).read_text("utf-8").split()
            return End(int(code), why, began == "1", int(files), node)
        return None

    def node(self) -> str:
        """Where the script began."""
        with suppress(OSError, ValueError, IndexError):
            return (self.folder / BEGUN).read_text("utf-8").split()[1]
        return ""

    def read_log(self, offset: int, most: int) -> bytes:
        """What was printed from there on."""
        with suppress(OSError), open(self.folder / LOG, "rb") as file:
            file.seek(offset)
            return file.read(most)
        return b""

    def dropped(self) -> tuple[int, bytes]:
        """How many bytes the node did not keep, and the last of those."""
        with suppress(OSError, ValueError):
            more = int((self.folder / LOG_MORE).read_text("utf-8"))
            return more, (self.folder / LOG_END).read_bytes() if more else b""
        return 0, b""

    def _status(self, name: str) -> os.stat_result:
        try:
            return os.stat(self.folder / name)
        except OSError:
            return os.stat_result((0,) * 10)
