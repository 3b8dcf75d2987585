"""What may be in an OUTPUT that a run has left: regular files and folders, all the box's."""

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

OURS = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO  # no setuid, setgid or sticky bits
NAMED = 3  # links that are named in the message
LONGEST_NAME = 100
PREFIX, PREFIX_AT = b"DICM", 128


@dataclass(frozen=True)
class Cleaned:
    """``remark`` says in a sentence what was taken out; ``lost`` is true if that leaves no DICOM file in OUTPUT.

    Only links count as lost: what else is taken out was never a result.
    """

    remark: str = ""
    lost: bool = False


def clean(output: Path, source: Path) -> Cleaned:
    """Take out what does not belong there, and make the rest the box's own.

    A link to a file of OUTPUT or of the run's INPUT, which is ``source``, becomes that file. All other links go, and
    pipes, sockets and device nodes. Files that the box may not read get readable, those of another user become the
    box's (if it may), special bits go. Raises OSError.
    """
    special, links = _walk(output)
    inside = tuple(os.path.realpath(folder) for folder in (output, source))
    gone = sorted(link for link in links if not _became_file(link, inside))
    names = [_shown(os.path.relpath(link, output)) for link in gone[:NAMED]]
    return Cleaned(_said(special, len(gone), names), bool(gone) and not _holds_dicom(output))


def counted(number: int, one: str, many: str) -> str:
    """A number with its noun: ``1 link``, ``2 links``."""
    return f"{number} {one if number == 1 else many}"


def _walk(output: Path) -> tuple[int, list[str]]:
    """Make files and folders the box's, remove pipes and their like: how many these were, and all the links."""
    special, links = 0, []
    _own(str(output), os.stat(output))
    ahead = [str(output)]
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    links.append(entry.path)
                elif stat.S_ISDIR(status.st_mode):
                    _own(entry.path, status)
                    ahead.append(entry.path)
                elif stat.S_ISREG(status.st_mode):
                    _own(entry.path, status)
                else:
                    os.unlink(entry.path)
                    special += 1
    return special, links


def _became_file(link: str, inside: tuple[str, ...]) -> bool:
    """Put the file that a link leads to in its place, if it is one of the run's; remove the link in any case."""
    found = os.path.realpath(link)
    os.unlink(link)
    if not any(Path(found).is_relative_to(folder) for folder in inside):
        return False
    with suppress(FileNotFoundError, NotADirectoryError):
        if stat.S_ISREG(os.lstat(found).st_mode):
            try:
                os.link(found, link, follow_symlinks=False)
            except OSError:  # another filesystem, or as many links as there can be
                shutil.copyfile(found, link)
            return True
    return False


def _holds_dicom(output: Path) -> bool:
    files = (os.path.join(folder, name) for folder, _, names in os.walk(output) for name in names)
    return any(_is_dicom(path) for path in files)


def _is_dicom(path: str) -> bool:
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), len(PREFIX), PREFIX_AT) == PREFIX


def _own(path: str, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        os.chown(path, os.geteuid(), os.getegid())
    mode = stat.S_IMODE(status.st_mode)
    needed = mode & OURS | (0o700 if stat.S_ISDIR(status.st_mode) else 0o400)
    if mode != needed:
        os.chmod(path, needed)


def _shown(name: str) -> str:
    """A name as text of one line; bytes that are not UTF-8 are written as ``\\xff``."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else "?" for char in text)[:LONGEST_NAME]


def _said(special: int, links: int, names: list[str]) -> str:
    parts = [counted(special, "pipe, socket or device node", "pipes, sockets or device nodes")] if special else []
    if links:
        more = ", …" if links > len(names) else ""
        what = counted(links, "link that leads elsewhere or nowhere", "links that lead elsewhere or nowhere")
        parts.append(f"{what} ({', '.join(names)}{more})")
    return f"left out of OUTPUT: {' and '.join(parts)}" if parts else ""
