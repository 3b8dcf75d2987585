"""Switching a drop-in on and off, so that it lasts: also over a restart and over a new version of its file.

A folder has ``"enabled": false`` in its processor.json; everything else in that file stays as it was written. A lone
file has nowhere to say so, and its x bit comes back with each new copy: so an empty file ``NAME.disabled`` beside it
says it.
"""

import stat
from collections.abc import Iterable
from pathlib import Path

from magickbox.dropins.declaration import FILE
from magickbox.dropins.folder import MARK, read_dropins
from magickbox.durable import fsync_folder, write_atomic
from magickbox.errors import ConfigError, NotFound
from magickbox.positionedjson import read
from magickbox.processor import Processor


def enable(folder: Path, name: str) -> None:
    """Let the drop-in ``name`` be chosen again; raises NotFound, or ConfigError if it cannot be switched."""
    _switch(folder, name, enabled=True)


def disable(folder: Path, name: str, beside: Iterable[Processor] = ()) -> None:
    """Keep the drop-in ``name`` from being chosen; raises NotFound, or ConfigError if it cannot be switched."""
    _switch(folder, name, beside, enabled=False)


def _switch(folder: Path, name: str, beside: Iterable[Processor] = (), *, enabled: bool) -> None:
    one = _find(folder, name, beside)
    if one.enabled is enabled:
        return
    try:
        if one.folder == folder.absolute():
            _switch_lone(one, enabled)
        else:
            _switch_folder(one.folder / FILE, enabled)
    except OSError as exc:
        raise ConfigError(f"processor {one.name} cannot be switched: {exc.filename}: {exc.strerror}") from exc


def _find(folder: Path, name: str, beside: Iterable[Processor]) -> Processor:
    dropins = read_dropins(folder, beside)
    for one in dropins.good:
        if one.name.casefold() == name.casefold():
            return one
    for bad in dropins.bad:
        if bad.name.casefold() == name.casefold():
            raise ConfigError(f"processor {name} is not usable: {bad.problems[0]}")
    raise NotFound(f"no processor '{name}' in {folder}")


def _switch_lone(one: Processor, enabled: bool) -> None:
    mark = one.folder / (one.name + MARK)
    if enabled:
        mark.unlink(missing_ok=True)
        fsync_folder(one.folder)
    else:
        write_atomic(mark, b"")


def _switch_folder(path: Path, enabled: bool) -> None:
    path = path.resolve()  # a link stays a link
    text = path.read_bytes().decode("utf-8-sig")
    write_atomic(path, _switched(text, enabled).encode(), stat.S_IMODE(path.stat().st_mode))


def _switched(text: str, enabled: bool) -> str:
    """The text with ``enabled`` changed or added, and nothing else."""
    document = read(text)
    word = "true" if enabled else "false"
    place = document.values.get(("enabled",))
    if place is not None:
        return text[:place] + word + text[place + len("false" if enabled else "true") :]
    start = document.values[()] + 1
    blank = text[start : len(text) - len(text[start:].lstrip())]
    return f'{text[:start]}{blank}"enabled": {word},{blank or " "}{text[start + len(blank) :]}'
