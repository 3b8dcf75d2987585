"""What lies in the processors folder: the drop-ins that can be used, and those that cannot with the reasons why.

A drop-in is a lone executable file (``ProcRSI``, ``ProcRSI.py``) or a folder with a processor.json. Everything is
read afresh at each look and one bad drop-in never hides another; one that is still being copied is bad at one look
and good at the next.
"""

import errno
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from magickbox.association import title_problem
from magickbox.dropins.chains import resolve
from magickbox.dropins.declaration import FILE, Wrong, pattern_of, read_processor_json
from magickbox.dropins.files import FIRST_LINE, digest, line_end_problem
from magickbox.processor import Processor

MARK = ".disabled"  # NAME.disabled beside a lone file switches it off

SCRIPTS = frozenset({"", ".sh", ".bash", ".py", ".pl", ".rb", ".r", ".lua", ".js", ".jl"})
# What lies beside drop-ins on shares where every file is executable, and what editors and copying leave.
BESIDE = re.compile(
    r"""[.#].* | __.* | .*~
    | (readme|licen[cs]e|copying|changelog|makefile|dockerfile|containerfile)(\..*)?
    | (conftest|test_.*|.*_test)\.py
    | .*\.(md|rst|txt|pdf|html|json|ya?ml|toml|ini|cfg|conf|csv|tsv|log|dcm|nii|gz|zip|tar|tgz|png|jpe?g)
    | .*\.(pyc|bak|orig|rej|sw[po]|tmp|part|disabled)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
PROGRAM_STARTS = (b"#!", b"\x7fELF")
SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE})  # says nothing about a drop-in


@dataclass(frozen=True)
class BadDropin:
    """Something that was meant as a drop-in and cannot be used, and why."""

    name: str
    path: Path
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Dropins:
    """One look at the processors folder, each part sorted by name; ``good`` has the switched-off ones too.

    ``away`` says that there is no such folder, as when a share is not mounted: then nothing is known of processors.
    """

    good: tuple[Processor, ...] = ()
    bad: tuple[BadDropin, ...] = ()
    away: bool = False


def read_dropins(folder: Path, beside: Iterable[Processor] = ()) -> Dropins:
    """Read the processors folder; a missing one is empty, and nothing in it is an error of the box.

    ``beside`` are drop-ins of another folder that steps of chains may name.
    Raises OSError only if the machine is short of something (file handles, memory): then nothing is known.
    """
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return Dropins(away=True)
    except OSError as exc:
        if exc.errno in SHORTAGE:
            raise
        return Dropins(bad=(BadDropin(folder.name, folder, (f"cannot be read: {exc.strerror}",)),))
    found = [(folder / name, _read(folder / name)) for name in names if not BESIDE.fullmatch(name)]
    good = [(path, one) for path, one in found if isinstance(one, Processor)]
    bad = [one for _, one in found if isinstance(one, BadDropin)]
    return _without_doubles(good, bad, beside)


def _without_doubles(good: list[tuple[Path, Processor]], bad: list[BadDropin], beside: Iterable[Processor]) -> Dropins:
    """Two of one name are both bad: nobody could say which of them runs."""
    count = Counter(one.name.casefold() for _, one in good)
    for path, one in good:
        if count[one.name.casefold()] > 1:
            others = [p.name for p, other in good if other.name.casefold() == one.name.casefold() and p != path]
            bad.append(BadDropin(one.name, path, (f"{_shown(path)} has the same name as {', '.join(others)}",)))
    only = _with_steps([(path, one) for path, one in good if count[one.name.casefold()] == 1], bad, beside)
    return Dropins(tuple(sorted(only, key=lambda p: p.name.casefold())), tuple(sorted(bad, key=lambda b: str(b.path))))


def _with_steps(
    good: list[tuple[Path, Processor]], bad: list[BadDropin], beside: Iterable[Processor]
) -> list[Processor]:
    """The drop-ins, chains with their steps; adds to ``bad`` the chains whose steps cannot be used."""
    named = {one.name.casefold(): one for one in (*beside, *(one for _, one in good))}
    wrong = {one.name.casefold(): one.problems[0] for one in bad}
    found = []
    for path, one in good:
        whole = resolve(one, named, wrong) if one.steps else one
        if isinstance(whole, Processor):
            found.append(whole)
        else:
            bad.append(BadDropin(one.name, path, whole))
    return found


def _read(path: Path) -> Processor | BadDropin | None:
    """One entry of the folder; None if it is no drop-in."""
    try:
        if path.is_dir():
            return _read_folder(path)
        if path.is_file():
            return _read_lone(path)
        return _bad(path, "a link that leads nowhere") if path.is_symlink() else None
    except Wrong as exc:
        return _bad(path, *exc.problems)
    except FileNotFoundError:
        return None  # gone between the listing and the look
    except OSError as exc:
        if exc.errno in SHORTAGE:
            raise
        return _bad(path, f"{exc.filename or path.name} cannot be read: {exc.strerror}")


def _read_folder(path: Path) -> Processor | BadDropin | None:
    if (path / FILE).is_file():
        return replace(read_processor_json(path, path.name), digest=digest(path))
    with os.scandir(path) as entries:
        programs = sorted(e.name for e in entries if e.is_file() and os.access(e.path, os.X_OK))
    if any(not BESIDE.fullmatch(name) for name in programs):
        return _bad(path, f"no {FILE}: a folder needs one that names its command")
    return None


def _read_lone(path: Path) -> Processor | BadDropin | None:
    with open(path, "rb") as file:
        start = file.read(FIRST_LINE)
    if not os.access(path, os.X_OK):
        is_script = start.startswith(b"#!") and path.suffix.lower() in SCRIPTS
        return _bad(path, f"not executable: chmod +x {_shown(path)}") if is_script else None
    if not start.startswith(PROGRAM_STARTS):
        return _bad(path, "neither a program nor a script: its first line must begin with #!")
    problem = line_end_problem(start)
    if problem is not None:
        return _bad(path, problem)
    problem = title_problem(path.stem)
    if problem is not None:
        return _bad(path, f"its name is the AE title it serves, and {problem}")
    return Processor(
        name=path.stem,
        folder=path.parent.absolute(),
        command=(str(path.absolute()),),
        called_ae=pattern_of(path.stem),
        enabled=not path.with_name(path.stem + MARK).exists(),
        digest=digest(path),
    )


def _bad(path: Path, *problems: str) -> BadDropin:
    name = path.name if path.is_dir() else path.stem
    return BadDropin(os.fsencode(name).decode("utf-8", "replace"), path, problems)


def _shown(path: Path) -> str:
    return os.fsencode(path.name).decode("utf-8", "replace")
