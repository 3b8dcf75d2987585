"""How far a run says it is: a line ``progress: 40%`` or ``progress: 3/10``, or a file of that name beside INPUT."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

FILE = "progress"
STEPS = "steps"  # the folder of a chain's steps
OF = "of"  # beside the folders of a chain's steps: how many there are
MARK = b"rogress:"  # looked for first, because it costs next to nothing
OVERLAP = 64  # bytes before a piece of output in which a line may have begun
LARGEST = 256
_SAID = rb"[Pp]rogress:[ \t]*(?:(\d{1,3}(?:\.\d{1,9})?)[ \t]*%|(\d{1,9})[ \t]*/[ \t]*(\d{1,9}))[ \t]*"
LINE = re.compile(rb"(?:^|(?<=[\r\n]))[ \t]*" + _SAID + rb"(?=[\r\n])")
WHOLE = re.compile(rb"\s*(?:" + _SAID.replace(rb"[Pp]rogress:", rb"(?:[Pp]rogress:)?") + rb")\s*")


def in_output(output: bytes) -> float | None:
    """What the last whole line about it in a piece of output says, from 0 to 1; None if there is none."""
    if MARK not in output:
        return None
    told = [share for found in LINE.finditer(output) if (share := _share(found)) is not None]
    return told[-1] if told else None


def in_text(text: bytes) -> float | None:
    """What the content of a file says; None if that is something else."""
    found = WHOLE.fullmatch(text)
    return _share(found) if found is not None else None


def _share(found: "re.Match[bytes]") -> float | None:
    percent, done, of = found.groups()
    share = float(percent) / 100 if percent is not None else int(done) / int(of) if int(of) else 2.0
    return share if share <= 1 else None


def shown(share: float) -> str:
    """For a person: ``40%``."""
    return f"{int(share * 100)}%"


def write(path: Path, share: float) -> None:
    """Keep it for those who look; a disk that is full loses it, and nothing else."""
    part = path.with_name(f".{path.name}.tmp")
    with suppress(OSError):
        part.unlink(missing_ok=True)
        with open(part, "xb") as file:
            file.write(f"{share * 100:.6g}%\n".encode())
        os.replace(part, path)


def read(*paths: Path) -> float | None:
    """What the newest of these files says; a processor may have put anything in the place of one."""
    told = [each for each in map(_read, paths) if each is not None]
    return max(told)[1] if told else None


def of_attempt(told: Path, attempt: Path) -> float | None:
    """How far a run says it is, by what is known of its stdout and by its folder.

    A chain is as far as its steps that are done, and the part of the present one that it says it has done.
    """
    steps = attempt / STEPS
    if not steps.is_dir():
        return read(told, attempt / FILE)
    try:
        of = int((steps / OF).read_bytes()[:3])
        begun = max(int(name) for name in os.listdir(steps) if name.isdigit())
    except (OSError, ValueError):
        return None
    share = read(told, steps / str(begun) / FILE)
    return None if share is None and begun == 1 else min(1.0, (begun - 1 + (share or 0.0)) / max(of, begun))


def _read(path: Path) -> tuple[int, float] | None:
    """When it was written, and what it says."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            return None
        share = in_text(os.read(fd, LARGEST))
    except OSError:
        return None
    finally:
        os.close(fd)
    return (status.st_mtime_ns, share) if share is not None else None
