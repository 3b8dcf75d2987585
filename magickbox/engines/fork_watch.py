"""Sees that a container met its limit of processes: its control group counts that, and is gone when it has ended.

The kernel counts refused forks in the group itself; newer ones in the one whose limit was met, which may be a parent.
"""

from contextlib import suppress
from pathlib import Path

HIERARCHY = Path("/sys/fs/cgroup")
LEVELS = 2  # of groups that are looked at: an engine may put the container below the group that it limits


class ForkWatch:
    """Looks, when it is told to, at the control group of the container whose process number is in a file."""

    def __init__(self, pidfile: Path) -> None:
        """The file is the engine's; as long as it is not there, nothing is seen."""
        self._pidfile = pidfile
        self._counters: tuple[Path, ...] = ()
        self.refused = 0

    def look(self) -> None:
        """Read the counters once; costs some 50 µs."""
        if not self._counters:
            self._counters = _counters(self._pidfile)
        for path in self._counters:
            with suppress(OSError, ValueError):
                self.refused = max(self.refused, int(path.read_text().partition("max ")[2].split()[0]))


def _counters(pidfile: Path) -> tuple[Path, ...]:
    with suppress(OSError, ValueError):
        groups = Path(f"/proc/{int(pidfile.read_text())}/cgroup").read_text()
        lines = [line.split(":", 2) for line in groups.splitlines()]
        place = {names: path for _, names, path in lines}
        if "pids" in place:
            folder = HIERARCHY / "pids" / place["pids"].lstrip("/")
        else:
            folder = HIERARCHY / place.get("", "").lstrip("/")
        found = [folder, *folder.parents][:LEVELS]
        return tuple(path / "pids.events" for path in found if path != HIERARCHY)
    return ()
