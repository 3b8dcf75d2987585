"""What was rendered, kept on disk: bounded in bytes, the longest unused goes first, and what a job had goes with it."""

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_KEEP = 0.8  # of the bytes, when there were too many
_MAKING = "making-"


class Shelf:
    """One file each below ``folder``/<job>/; safe from any thread. What an earlier one left there is found again."""

    def __init__(self, folder: Path, most: int, has_room: Callable[[], bool]) -> None:
        """At most ``most`` bytes are kept, and nothing while ``has_room`` says no."""
        self._folder, self._most, self._has_room = folder, most, has_room
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.glob(f"{_MAKING}*"):
            left.unlink(missing_ok=True)
        self._held = sum(size for _, size, _ in self._all())

    @property
    def held(self) -> int:
        """How much is kept."""
        return self._held

    def place(self, name: str) -> Path:
        """Where something can be made that is to be put here."""
        return self._folder / f"{_MAKING}{name}"

    def get(self, job: str, name: str) -> bytes | None:
        """What was put here under that name; it counts as used now."""
        path = self._folder / job / name
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return content

    def put(self, job: str, name: str, made: Path) -> None:
        """Keep a file that was made in a ``place``; it is gone if it cannot be kept."""
        try:
            if not self._has_room():
                return
            size = made.stat().st_size
            with self._lock:
                (self._folder / job).mkdir(mode=0o700, exist_ok=True)
                os.replace(made, self._folder / job / name)
                self._held += size
            if self._held > self._most:
                self._clear()
        except OSError:
            return
        finally:
            made.unlink(missing_ok=True)

    def forget(self, is_there: Callable[[str], bool]) -> None:
        """Remove what jobs had that are there no more."""
        for folder in self._folders():
            if not is_there(folder.name):
                with self._lock:
                    self._held -= sum(size for _, size, _ in _files(folder))
                    shutil.rmtree(folder, ignore_errors=True)

    def _clear(self) -> None:
        with self._lock:
            files = sorted(self._all())
            self._held = sum(size for _, size, _ in files)
            for _, size, path in files:
                if self._held <= self._most * _KEEP:
                    break
                path.unlink(missing_ok=True)
                self._held -= size

    def _folders(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.is_dir()]

    def _all(self) -> list[tuple[float, int, Path]]:
        return [each for folder in self._folders() for each in _files(folder)]


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """When used, how large, where."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    return found
