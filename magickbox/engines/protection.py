"""What shields the box from its processors on this machine: found out once, really, when the box starts."""

import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from magickbox.config import Settings
from magickbox.engines import bubblewrap, cgroups
from magickbox.engines.bubblewrap import Bubblewrap
from magickbox.engines.cgroups import Groups
from magickbox.engines.limits import Limits

AUTO, REQUIRED, OFF = "auto", "required", "off"
UNSHIELDED = "processors run with the rights of the box and can read all of its data"


@dataclass(frozen=True)
class Protection:
    """The sandbox if there is one, the control groups if there are any, and the limits of those who name none.

    ``warning`` is for a person; ``refusal`` says why no processor may be run at all.
    """

    sandbox: Bubblewrap | None = None
    groups: Groups | None = None
    limits: Limits = field(default_factory=Limits)
    warning: str | None = None
    refusal: str | None = None

    def told(self, limits: Limits) -> dict[str, object]:
        """What run.json has of it."""
        return {
            "sandbox": "bubblewrap" if self.sandbox else "none",
            "limits": limits.told(),
            "limited_by": f"cgroup v{self.groups.version}" if self.groups else "rlimits",
        }

    @property
    def told_at_start(self) -> tuple[str, str]:
        """A level for the log, and what there is to say."""
        wrong = self.refusal or self.warning
        return ("warning", wrong) if wrong else ("info", self.describe())

    def describe(self) -> str:
        """One sentence of what processors are held by."""
        by = f"control groups (version {self.groups.version})" if self.groups else "limits of each process (rlimits)"
        return f"{'bubblewrap' if self.sandbox else 'none'}; {by}"


def of_settings(settings: Settings, box: Path, store: Path) -> Protection:
    """The protection that a box with these settings has, with this data folder; see ``find_out`` for ``store``."""
    memory = settings.max_memory.of(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    disk = next(path for path in (box, *box.parents) if path.exists())
    status = os.statvfs(disk)
    file_size = settings.max_file_size.of(status.f_blocks * status.f_frsize)
    limits = Limits(memory or None, None, settings.max_processes, file_size or None)
    return find_out(settings.sandbox, box, limits, settings.sandbox_shows, store)


def tried(settings: Settings, box: Path) -> Protection:
    """The same to be looked at only: what it would need to run is gone again."""
    with tempfile.TemporaryDirectory(prefix="magickbox-") as folder:
        return of_settings(settings, box, Path(folder) / "etc")


def find_out(
    setting: str,
    box: Path,
    limits: Limits,
    shows: Iterable[Path],
    store: Path,
    interpreter: Path = Path(sys.executable),
) -> Protection:
    """The protection by the setting ``sandbox`` (auto, required or off) for the box with this data folder.

    ``store`` is a folder that is made, and has to stay as long as processors run.
    """
    groups = cgroups.find(box)
    if setting == OFF:
        return Protection(None, groups, limits, f"the sandbox is switched off: {UNSHIELDED}")
    found = bubblewrap.probe(box, interpreter, (*python_places(interpreter), *shows), store)
    if isinstance(found, Bubblewrap):
        return Protection(found, groups, limits)
    if setting == REQUIRED:
        return Protection(None, groups, limits, refusal=f"the sandbox is required, and {found}")
    return Protection(None, groups, limits, f"no sandbox, {UNSHIELDED}: {found}")


def python_places(interpreter: Path) -> tuple[Path, ...]:
    """What the box's own Python needs: its virtual environment, and the installation that this stands on."""
    home = interpreter.parent.parent
    return tuple(dict.fromkeys(path for path in (home, Path(sys.prefix), Path(sys.base_prefix)) if len(path.parts) > 1))
