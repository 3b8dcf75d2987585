"""The data folder: which folders it has, that they can be used, and that one box alone uses them."""

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from magickbox.durable import make_folder
from magickbox.errors import AlreadyRunning, DataFolderError


@dataclass(frozen=True)
class DataFolder:
    """The names below ``--data DIR`` (contracts, section 1)."""

    root: Path

    @property
    def incoming(self) -> Path:
        """What is being received, and jobs on their way to birth or removal."""
        return self.root / "incoming"

    @property
    def jobs(self) -> Path:
        """One folder a job."""
        return self.root / "jobs"

    @property
    def quarantine(self) -> Path:
        """What could not be understood, each with a .reason file."""
        return self.root / "quarantine"

    @property
    def logs(self) -> Path:
        """routing.log, receive.log, process.log."""
        return self.root / "logs"

    @property
    def state(self) -> Path:
        """The ledger, the last good rules, the lock, the ballast; nobody edits it by hand."""
        return self.root / "state"

    @property
    def ledger(self) -> Path:
        """The SQLite file."""
        return self.state / "ledger.sqlite"

    @property
    def last_good_rules(self) -> Path:
        """The text of the last routing.json that was good."""
        return self.state / "rules.json"

    @property
    def rule_history(self) -> Path:
        """Every set of rules that was in force."""
        return self.state / "rules"

    @property
    def trials(self) -> Path:
        """Where the window's test runs of processors work."""
        return self.state / "trials"

    @property
    def images(self) -> Path:
        """Which image each drop-in runs."""
        return self.state / "images.json"

    @property
    def control(self) -> Path:
        """The socket on which a running box takes commands from its own user."""
        return self.state / "control.sock"

    @property
    def ballast(self) -> Path:
        """A file that is given up when the disk is full, so that the ledger can still write."""
        return self.state / "ballast"

    @property
    def converted(self) -> Path:
        """Instances in the transfer syntax of a destination, for as long as they are being sent."""
        return self.state / "converted"

    @property
    def restoring(self) -> Path:
        """A backup that is being unpacked; gone when it is in place."""
        return self.root / ".restoring"

    def prepare(self) -> None:
        """Make the folders; raises DataFolderError if they cannot be made, written or renamed between."""
        if self.restoring.exists():
            raise DataFolderError(
                f"{self.root}: a restore has begun there and was not finished; empty the folder and restore again"
            )
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.incoming, self.jobs, self.quarantine, self.logs, self.state, self.converted):
                make_folder(folder)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise DataFolderError(f"{folder} is not writable by this user (uid {os.getuid()})")
            os.chmod(self.state, 0o700)
        except OSError as exc:
            raise DataFolderError(f"{self.root} cannot be used as data folder: {exc.strerror or exc}") from exc
        if self.incoming.stat().st_dev != self.jobs.stat().st_dev:
            raise DataFolderError(
                f"{self.incoming} and {self.jobs} are on different filesystems; a job is born by one rename"
            )


class BoxLock:
    """The lock that makes one box alone use a data folder: an flock on ``state/``, gone with the process.

    The folder itself is locked, so that nobody lifts the lock by removing a file; ``state/lock`` names the process.
    """

    def __init__(self, data: DataFolder) -> None:
        self._folder = data.state
        self._path = data.state / "lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock; raises AlreadyRunning, naming the process that has it."""
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(fd)
            raise AlreadyRunning(
                f"another box (process {self._holder()}) is running on {self._folder.parent}; stop it first"
            ) from exc
        self._fd = fd
        with suppress(OSError):
            self._path.write_text(f"{os.getpid()}\n", "ascii")

    def _holder(self) -> str:
        try:
            return self._path.read_text("ascii").strip() or "unknown"
        except (OSError, ValueError):
            return "unknown"

    def release(self) -> None:
        """Give the lock back; harmless if it is not held."""
        if self._fd is not None:
            with suppress(OSError):
                self._path.write_text("", "ascii")
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> "BoxLock":
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.release()
