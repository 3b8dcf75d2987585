"""Finds out whether a processor changed what it was only to read.

A run sees hard links to the job's INPUT. Deleting one is harmless; writing into one changes the only copy, and must
be found: by size and times, and by checksum where those could have been put back.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from magickbox.errors import UnreadableHeader
from magickbox.incoming.record import read_instance
from magickbox.instance import Instance


@dataclass(frozen=True)
class _Seen:
    size: int
    mtime_ns: int
    ctime_ns: int


def _look(path: str) -> _Seen:
    status = os.stat(path, follow_symlinks=False)
    return _Seen(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class InputGuard:
    """Remembers the files of an INPUT folder; made when the run's links are there, asked when the run is over."""

    def __init__(self, folder: Path, instances: Iterable[Instance], is_late: bool = False) -> None:
        """``is_late`` says that the run has begun long ago: then only checksums tell."""
        self._folder = folder
        self._instances = tuple(instances)
        self._seen = {} if is_late else {i.file: _look(f"{folder}/{i.file}") for i in self._instances}

    def changed(self) -> str | None:
        """The first file that is not what it was, or None."""
        for instance in self._instances:
            if not self._is_unchanged(instance):
                return instance.file
        return None

    def _is_unchanged(self, instance: Instance) -> bool:
        path, before = f"{self._folder}/{instance.file}", self._seen.get(instance.file)
        try:
            now = _look(path)
            if before is None:
                return read_instance(Path(path)).checksum == instance.checksum
            if (now.size, now.mtime_ns) != (before.size, before.mtime_ns):
                return False
            return now.ctime_ns == before.ctime_ns or read_instance(Path(path)).checksum == instance.checksum
        except (OSError, UnreadableHeader):
            return False
