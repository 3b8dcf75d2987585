"""OUTPUT and the kept folder on their way to the user of a container and back, and how much is written meanwhile."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from magickbox.convention import Stage
from magickbox.engine import Run
from magickbox.engines.container_options import Owner

READ, ENTER = 0o444, 0o555


def hand_over(run: Run, memory: Path | None, who: Owner) -> None:
    """Let the container's user read INPUT and write OUTPUT and its kept folder; raises OSError.

    INPUT stays the box's own, and is shown read-only. Nothing is to be done if the user is the box's own.
    """
    if memory is not None and not memory.exists():
        memory.mkdir(parents=True, exist_ok=True)
    if who.outside is None:
        return
    _open(run.input, ENTER)
    for entry in _everything(run.input):
        if entry.is_dir(follow_symlinks=False):
            _open(Path(entry.path), ENTER)
        elif entry.is_file(follow_symlinks=False):
            _open(Path(entry.path), READ)
    if (run.workdir / "info.json").exists():
        _open(run.workdir / "info.json", READ)
    os.chown(run.output, who.outside, who.outside)
    if memory is not None and memory.stat().st_uid != who.outside:
        _own(memory, who.outside, who.outside)


def give_back(run: Run, who: Owner) -> None:
    """Make everything in OUTPUT the box's own again; what does not belong there is taken out when it is sealed."""
    with suppress(OSError):
        if who.outside is not None:
            _own(run.output, os.getuid(), os.getgid())
        for _ in _everything(run.output):
            pass  # a look makes every folder one that can be entered


def bring_out(run: Run, stage: Stage) -> None:
    """Let links in OUTPUT lead outside to what they led to in the container, if that is of INPUT or OUTPUT."""
    shown = ((stage.input, run.input), (stage.output, run.output))
    for entry in list(_everything(run.output)):
        if not entry.is_symlink():
            continue
        with suppress(OSError):
            folder = os.path.join(stage.output, os.path.relpath(os.path.dirname(entry.path), run.output))
            inside = Path(os.path.normpath(os.path.join(folder, os.readlink(entry.path))))
            for within, outside in shown:
                if inside.is_relative_to(within):
                    os.unlink(entry.path)
                    os.symlink(outside.absolute() / inside.relative_to(within), entry.path)
                    break


def _open(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        os.chmod(path, mode | bits)


def _own(top: Path, uid: int, gid: int) -> None:
    """Change the owner of a whole tree, links themselves and not what they point to."""
    os.chown(top, uid, gid, follow_symlinks=False)
    for entry in _everything(top):
        with suppress(FileNotFoundError):
            os.chown(entry.path, uid, gid, follow_symlinks=False)


def _everything(top: Path) -> "Iterator[os.DirEntry[str]]":
    """All entries below a folder; what cannot be entered is passed over."""
    ahead = [str(top)]
    while ahead:
        folder = ahead.pop()
        with suppress(OSError):
            if not os.access(folder, os.R_OK | os.X_OK):
                os.chmod(folder, 0o700)
            with os.scandir(folder) as entries:
                found = list(entries)
            yield from found
            ahead += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]


class Growth:
    """Watches how much a run writes into OUTPUT."""

    def __init__(self, run: Run, most: int) -> None:
        """``most`` is in bytes."""
        self._output, self._most = run.output, most

    def is_too_much(self) -> bool:
        """True if there is more on disk than allowed; looks at every file."""
        total = 0
        for entry in _everything(self._output):
            with suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_blocks * 512
            if total > self._most:
                return True
        return False
