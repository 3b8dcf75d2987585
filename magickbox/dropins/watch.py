"""Keeps what is known of the processors folder fresh while the box runs.

Two ways, because neither is enough: the kernel's events (watchdog), quick but lost when a queue overflows and absent
on network filesystems; and a look every few seconds, which a signature over names, times and sizes makes cheap.
Only the folder and the drop-ins one level below are watched, never recursively: recursive watches of watchdog 7.1
lose events in large trees and then go silent.
"""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from magickbox.dropins.files import signature
from magickbox.dropins.folder import Dropins, read_dropins

MOST_WATCHED = 64  # each costs a thread of watchdog's; what is beyond is found by the regular look
DEBOUNCE = 0.06  # seconds that let a burst of events (a copy) end in one look
READING = frozenset({"opened", "closed_no_write"})  # events that our own reading makes

log = logging.getLogger(__name__)


class DropinWatch:
    """The current Dropins of a folder, which may be missing and come later.

    ``on_change`` is told of each change, from the watch's own thread or from a caller of ``refresh``, one at a time
    and in order; ``report`` gets one sentence for a person if the kernel's events cannot be had.
    """

    def __init__(
        self,
        folder: Path,
        on_change: Callable[[Dropins], None] = lambda _: None,
        report: Callable[[str], None] = log.warning,
        rescan_seconds: float = 5.0,
    ) -> None:
        """Nothing is read before ``start`` or ``refresh``."""
        self._folder, self._on_change, self._report, self._rescan = folder, on_change, report, rescan_seconds
        self._current = Dropins(away=True)
        self._signature = ""
        self._looking = threading.RLock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._events = _Events(self._wake, report)
        self._thread = threading.Thread(target=self._watch, name="dropin-watch", daemon=True)

    @property
    def current(self) -> Dropins:
        """What the last look found; a frozen value, safe from any thread."""
        return self._current

    def start(self) -> None:
        """Look once, then go on looking in a thread of its own."""
        self._events.start()
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and the watches; returns when they are gone."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._events.stop()

    def refresh(self) -> Dropins:
        """Look now, in the caller's thread, and return what is there.

        If the machine has no file handles or memory left, what was known stays: a shortage must not look as if the
        processors had been taken away.
        """
        with self._looking:
            self._events.watch(_folders(self._folder))
            seen = signature(self._folder)
            if seen != self._signature:
                self._reread(seen)
            return self._current

    def _reread(self, seen: str) -> None:
        try:
            found = read_dropins(self._folder)
        except OSError as exc:
            log.warning("the processors folder could not be read, what was known stays: %s", exc.strerror)
            return
        self._signature = seen  # taken before the reading: a change in between is found at the next look
        if found != self._current:
            self._current = found
            self._on_change(found)

    def _watch(self) -> None:
        while not self._stopped.is_set():
            if self._wake.wait(self._rescan):
                self._stopped.wait(DEBOUNCE)
                self._wake.clear()
            if self._stopped.is_set():
                return
            try:
                self.refresh()
            except Exception:  # the worker boundary: whatever one look met, the next one is made
                log.exception("the processors folder could not be looked at")


def _folders(folder: Path) -> list[str]:
    """The real paths worth a watch: the folder, then the drop-ins that are folders."""
    try:
        with os.scandir(folder) as entries:
            below = sorted(e.path for e in entries if e.is_dir() and not e.name.startswith((".", "__")))
    except OSError:
        return []
    return list(dict.fromkeys(os.path.realpath(path) for path in (str(folder), *below)))[:MOST_WATCHED]


class _Events(FileSystemEventHandler):
    """The kernel's events for a changing set of folders; does without them, with one warning, where it must."""

    def __init__(self, wake: threading.Event, report: Callable[[str], None]) -> None:
        self._wake, self._report = wake, report
        self._observer: BaseObserver | None = None
        self._watches: dict[tuple[str, int], ObservedWatch] = {}
        self._warned = False

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in READING:
            self._wake.set()

    def start(self) -> None:
        try:
            observer = Observer()
            observer.start()
            self._observer = observer
        except (OSError, RuntimeError) as exc:
            self._warn(exc)

    def stop(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def watch(self, folders: list[str]) -> None:
        """Watch exactly these; a folder that was replaced by another of its name is watched anew."""
        if self._observer is None:
            return
        wanted = {(path, inode) for path in folders if (inode := _inode(path)) is not None}
        alive = {emitter.watch for emitter in self._observer.emitters if emitter.should_keep_running()}
        for key, watch in list(self._watches.items()):
            if key not in wanted or watch not in alive:
                self._observer.unschedule(self._watches.pop(key))
        for key in sorted(wanted - self._watches.keys()):
            try:
                self._watches[key] = self._observer.schedule(self, key[0], recursive=False)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone meanwhile
            except (OSError, RuntimeError) as exc:  # RuntimeError: no more threads
                self._warn(exc)
                return

    def _warn(self, exc: OSError | RuntimeError) -> None:
        if not self._warned:
            self._warned = True
            self._report(f"changes of processors are found late, file events cannot be had: {exc}")


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
