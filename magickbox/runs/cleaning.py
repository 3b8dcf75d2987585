"""What may be in an OUTPUT that a run has left: regular files and folders, all the box's, and links within the job."""

import os
import stat
from pathlib import Path

OURS = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO  # no setuid, setgid or sticky bits


def clean(output: Path, run: Path) -> str:
    """Take out what does not belong there, and make the rest the box's own; says in a sentence what was taken out.

    Pipes, sockets, device nodes and links that lead out of the run's folder ``run`` go. Files that the box may not
    read get readable, those of another user become the box's (if it may), special bits go. Raises OSError.
    """
    special = links = 0
    inside = os.path.realpath(run)
    _own(str(output), os.stat(output))
    ahead = [str(output)]
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    if not Path(os.path.realpath(entry.path)).is_relative_to(inside):
                        os.unlink(entry.path)
                        links += 1
                elif stat.S_ISDIR(status.st_mode):
                    _own(entry.path, status)
                    ahead.append(entry.path)
                elif stat.S_ISREG(status.st_mode):
                    _own(entry.path, status)
                else:
                    os.unlink(entry.path)
                    special += 1
    return _said(special, links)


def _own(path: str, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        os.chown(path, os.geteuid(), os.getegid())
    mode = stat.S_IMODE(status.st_mode)
    needed = mode & OURS | (0o700 if stat.S_ISDIR(status.st_mode) else 0o400)
    if mode != needed:
        os.chmod(path, needed)


def _said(special: int, links: int) -> str:
    parts = [f"{special} pipes, sockets or device nodes"] if special else []
    parts += [f"{links} links that lead elsewhere"] if links else []
    return f"left out of OUTPUT: {' and '.join(parts)}" if parts else ""
