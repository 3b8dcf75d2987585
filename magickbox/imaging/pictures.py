"""Pictures of a job's instances: from what is kept, or from a worker process that renders them."""

import hashlib
import json
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import uuid4

from magickbox.datafolder import DataFolder
from magickbox.disk import Disk, Mark
from magickbox.imaging.series import Kind, Place, Series, Shown, read_place
from magickbox.imaging.shelf import Shelf
from magickbox.jobfolder import INPUT, OUTPUT, is_job_id
from magickbox.workers.pool import Failed, Limits, Why, Workers

What = Literal["png", "jpeg", "raw", "report", "document"]
PLACES = (INPUT, OUTPUT)
THUMBNAIL = 160
_VERSION = 1  # of what is rendered: another one makes all that is kept be rendered again
_RENDERING = Limits(
    memory=3 * 1024**3, seconds=20.0, workers=max(2, (os.cpu_count() or 2) - 1), files=5000, idle=3600.0, nice=5
)
_KEPT = 1024**3
_LISTINGS = 64
_SWEEP = 60.0
_WAITING = 16  # who may wait for a worker at once, and how long in seconds others wait for a place among them
_PATIENCE = 3.0


@dataclass(frozen=True)
class Wish:
    """What is wanted of an instance: a frame, from 1, in a window, its larger side at most so many pixels."""

    what: What
    frame: int = 1
    window: tuple[float, float] | None = None
    longest: int = 0


@dataclass(frozen=True)
class Rendered:
    """What came of it."""

    content: bytes


@dataclass(frozen=True)
class Unseen:
    """Why there is nothing to show; ``passing`` if it may be there when asked again."""

    reason: str
    passing: bool = False


@dataclass
class Pictures:
    """What can be seen of jobs; one for a process, safe from any thread."""

    data: DataFolder
    mark: Mark = field(default_factory=Mark)
    limits: Limits = _RENDERING
    kept: int = _KEPT

    def __post_init__(self) -> None:
        """Make the folder of what is kept, and look after it."""
        folder = self.data.state / "pictures"
        disk = Disk(self.data.root, self.mark, self.data.ballast)
        self._shelf = Shelf(folder, self.kept, disk.has_room)
        self._workers = Workers("magickbox.imaging.worker", self.limits)
        self._listings: OrderedDict[tuple[str, str], tuple[object, Place]] = OrderedDict()
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_WAITING)
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="pictures", daemon=True)
        self._keeper.start()

    def close(self) -> None:
        """End the workers."""
        self._over.set()
        self._workers.close()
        self._keeper.join(5.0)

    def warm(self) -> None:
        """Have a worker ready, so that the first picture does not wait for it."""
        self._workers.ask({"what": "nothing"})

    def place(self, job: str, place: str) -> Place:
        """The series of a job's INPUT or OUTPUT; empty if there is no such folder. Raises OSError."""
        folder = self._folder(job)
        if folder is None or place not in PLACES:
            return Place()
        state = _state_of(folder / place)
        with self._lock:
            known = self._listings.get((job, place))
        if known is not None and known[0] == state and state is not None:
            return known[1]
        found = read_place(folder, place)
        with self._lock:
            self._listings[job, place] = (state, found)
            self._listings.move_to_end((job, place))
            while len(self._listings) > _LISTINGS:
                self._listings.popitem(last=False)
        return found

    def tag(self, job: str, shown: Shown, wish: Wish) -> str | None:
        """A text that stays the same as long as ``get`` would give the same; None if the file is gone."""
        path = self.path(job, shown)
        try:
            status = os.stat(path) if path else None
        except OSError:
            return None
        if status is None:
            return None
        said = (_VERSION, shown.file, status.st_ino, status.st_size, status.st_mtime_ns, *_wish_json(wish).items())
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:40]

    def get(self, job: str, shown: Shown, wish: Wish) -> Rendered | Unseen:
        """What is wished for; waits for a worker if it has to be rendered."""
        name, path = self.tag(job, shown, wish), self.path(job, shown)
        if name is None or path is None:
            return Unseen("its file is there no more", passing=True)
        if (content := self._shelf.get(job, name)) is not None:
            return Rendered(content)
        if not self._waiting.acquire(timeout=_PATIENCE):
            return Unseen("too many pictures are asked for at once", passing=True)
        made = self._shelf.place(uuid4().hex)
        try:
            answer = self._workers.ask({**_wish_json(wish), "source": str(path), "to": str(made)})
            if isinstance(answer, Failed):
                return _in_words(answer)
            if "reason" in answer:
                return Unseen(str(answer["reason"]), bool(answer["passing"]))
            content = made.read_bytes()
            self._shelf.put(job, name, made)
            return Rendered(content)
        except OSError as exc:
            return Unseen(f"it cannot be read: {exc.strerror}", passing=True)
        finally:
            self._waiting.release()
            made.unlink(missing_ok=True)

    def thumbnail(self, series: Series) -> tuple[Shown, Wish] | None:
        """What stands for a series: its middle picture, small; None if it has none."""
        images = [each for each in series.instances if each.kind is Kind.IMAGE]
        if not images:
            return None
        middle = images[len(images) // 2]
        return middle, Wish("jpeg", (middle.frames + 1) // 2, longest=THUMBNAIL)

    def path(self, job: str, shown: Shown) -> Path | None:
        """The file of an instance, if it is inside the job's folder."""
        folder = self._folder(job)
        if folder is None:
            return None
        real = Path(os.path.realpath(folder / shown.file))
        return real if real.is_relative_to(os.path.realpath(folder)) else None

    def _folder(self, job: str) -> Path | None:
        return self.data.jobs / job if is_job_id(job) else None

    def _keep(self) -> None:
        over = False
        while not over:
            self._shelf.forget(lambda job: (self.data.jobs / job).is_dir())
            over = self._over.wait(_SWEEP)


def _state_of(top: Path) -> object:
    """Something that is another when files came or went; None if there is no such folder."""
    found = []
    for folder, names, _ in os.walk(top):
        found.append((folder, os.stat(folder).st_mtime_ns))
        names.sort()
    return tuple(found) or None


def _wish_json(wish: Wish) -> dict[str, object]:
    window = list(wish.window) if wish.window else None
    return {"what": wish.what, "frame": wish.frame, "window": window, "longest": wish.longest}


def _in_words(failed: Failed) -> Unseen:
    if failed.why is Why.TOO_LONG:
        return Unseen(f"it takes longer than {failed.detail} to decode")
    if failed.why is Why.DIED:
        return Unseen(f"the process that decoded it ended with {failed.detail}")
    return Unseen(failed.why.value, passing=True)
