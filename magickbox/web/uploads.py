"""Files that people drop into the box: taken into a folder of their own, unpacked, looked at, sent to the box's port.

What is left of an upload that nobody ends is removed after a while, and everything when the window starts.
"""

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from magickbox.disk import Disk
from magickbox.sender import Item
from magickbox.web.problems import Problem
from magickbox.web.sending import NotDicom, Target, look_at, send_all
from magickbox.web.unpacking import MOST_FILES, NotUnpacked, is_zip, members, shown

MOST_FILE = 8 << 30
MOST_BYTES = 64 << 30
MOST_AT_ONCE = 8
FORGOTTEN = 3600.0  # seconds after which an upload that nobody touches goes
_FEW_AT_ONCE = 2  # that are being sent
_LOOK = 4 << 20  # bytes between two looks at the disk


class State(StrEnum):
    """Where an upload stands."""

    RECEIVING = "receiving"
    WAITING = "waiting"
    UNPACKING = "unpacking"
    SENDING = "sending"
    DONE = "done"
    ENDED = "ended"


class What(StrEnum):
    """What came of a file."""

    STORED = "stored"
    REFUSED = "refused"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """What came of one file, and why, if it was not stored."""

    name: str
    what: What
    why: str = ""


@dataclass
class Upload:
    """One upload; ``lock`` guards what threads share."""

    id: str
    who: str
    called_ae: str
    folder: Path
    state: State = State.RECEIVING
    files: dict[int, tuple[Path, str]] = field(default_factory=dict)
    open: int = 0
    bytes: int = 0
    total: int = 0
    results: list[Result] = field(default_factory=list)
    problem: str = ""
    touched: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_over(self) -> bool:
        """True if somebody ended it."""
        return self.state is State.ENDED

    def result(self, name: str, what: What, why: str = "") -> None:
        """Write down what came of a file."""
        with self.lock:
            self.results.append(Result(shown(name), what, why))
            self.touched = time.monotonic()


class Uploads:
    """All of them; safe from any thread."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder, self._disk = folder, disk
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(_FEW_AT_ONCE)
        self._uploads: dict[str, Upload] = {}
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None
        shutil.rmtree(folder, ignore_errors=True)

    def begin(self, who: str, called_ae: str) -> Upload:
        """A new upload; raises Problem 429 if there are too many, 507 if the disk is too full."""
        self._check_room(0)
        with self._lock:
            if sum(each.state not in (State.DONE, State.ENDED) for each in self._uploads.values()) >= MOST_AT_ONCE:
                raise Problem(429, "Too Many Requests", "too many uploads are under way", {"Retry-After": "30"})
            name = secrets.token_hex(8)
            folder = self._folder / name
            folder.mkdir(mode=0o700, parents=True)
            made = self._uploads[name] = Upload(name, who, called_ae, folder)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="uploads", daemon=True)
                self._keeper.start()
        return made

    def find(self, name: str, who: str) -> Upload:
        """An upload of that person; raises Problem 404."""
        found = self._uploads.get(name)
        if found is None or found.who != who:
            raise Problem(404, "Not Found", "there is no such upload; it may have been given up after an hour")
        return found

    def take(self, upload: Upload, number: int, name: str) -> "Incoming":
        """A file that comes; raises Problem 409 if the upload takes no more, 413 if it has too many."""
        with upload.lock:
            if upload.state is not State.RECEIVING or number in upload.files:
                raise Problem(409, "Conflict", "this upload takes this file no more")
            if len(upload.files) >= MOST_FILES:
                raise Problem(413, "Content Too Large", f"at most {MOST_FILES} files at a time")
            path = upload.folder / f"{number}.part"
            upload.files[number] = (path, name)
            upload.open += 1
        return Incoming(upload, number, path, self._check_room)

    def send(self, upload: Upload, target: Target) -> None:
        """Unpack and send what has come, in a thread; raises Problem 409 if it is sent already, or files still come."""
        with upload.lock:
            if upload.state is not State.RECEIVING or upload.open:
                raise Problem(409, "Conflict", "it is sent already, or files are still coming")
            upload.state = State.WAITING
        threading.Thread(target=self._send, args=(upload, target), name="upload", daemon=True).start()

    def end(self, upload: Upload) -> None:
        """End it; what was stored stays stored."""
        with upload.lock:
            if upload.state is not State.DONE:
                upload.state = State.ENDED
        shutil.rmtree(upload.folder, ignore_errors=True)

    def close(self) -> None:
        """End all."""
        self._over.set()
        for upload in list(self._uploads.values()):
            self.end(upload)

    def _check_room(self, coming: int) -> None:
        if self._disk.free() - coming <= self._disk.mark():
            raise Problem(507, "Insufficient Storage", "the disk of the box is too full (see min_free)")

    def _send(self, upload: Upload, target: Target) -> None:
        try:
            with self._slots:
                _set(upload, State.UNPACKING)
                items = self._unpack(upload)
                _set(upload, State.SENDING)
                with upload.lock:
                    upload.total = len(upload.results) + len(items)
                names = {item.path: name for item, name in items}
                send_all(target, [item for item, _ in items], _teller(upload, names), upload.is_over)
        except (OSError, Problem) as exc:
            upload.problem = str(exc) if isinstance(exc, Problem) else f"it cannot be read: {exc.strerror}"
        finally:
            shutil.rmtree(upload.folder, ignore_errors=True)
            _set(upload, State.DONE)

    def _unpack(self, upload: Upload) -> list[tuple[Item, str]]:
        """What there is to send, zips opened."""
        found: list[tuple[Item, str]] = []
        for _, (path, name) in sorted(upload.files.items()):
            if upload.is_over():
                break
            if not is_zip(path):
                _look(upload, path, name, found)
                continue
            try:
                self._unzip(upload, path, name, found)
            except NotUnpacked as exc:
                upload.result(name, What.SKIPPED, str(exc))
            path.unlink(missing_ok=True)
        return found

    def _unzip(self, upload: Upload, path: Path, name: str, found: list[tuple[Item, str]]) -> None:
        for member in members(path, upload.folder, MOST_BYTES - upload.bytes, self._check_room):
            if upload.is_over():
                return
            inner = f"{name}: {member.name}"
            if member.path is None:
                upload.result(inner, What.SKIPPED, member.why)
                continue
            with upload.lock:
                upload.bytes += member.path.stat().st_size
            if is_zip(member.path):
                member.path.unlink()
                upload.result(inner, What.SKIPPED, "a zip inside a zip is not opened")
            else:
                _look(upload, member.path, inner, found)
            if len(found) > MOST_FILES:
                raise NotUnpacked(f"there are more than {MOST_FILES} files")

    def _keep(self) -> None:
        while not self._over.wait(60.0):
            for name, upload in list(self._uploads.items()):
                if time.monotonic() - upload.touched > FORGOTTEN:
                    self.end(upload)
                    self._uploads.pop(name, None)


class Incoming:
    """One file on its way into an upload."""

    def __init__(self, upload: Upload, number: int, path: Path, check_room: Callable[[int], None]) -> None:
        self._upload, self._number, self._check_room = upload, number, check_room
        self._file = path.open("xb")
        self._path, self._size, self._looked = path, 0, 0

    def write(self, piece: bytes) -> None:
        """Take a piece; raises Problem 413 or 507."""
        self._size += len(piece)
        upload = self._upload
        with upload.lock:
            upload.bytes += len(piece)
            upload.touched = time.monotonic()
            too_much = upload.bytes > MOST_BYTES or self._size > MOST_FILE
        if too_much or upload.is_over():
            raise Problem(413, "Content Too Large", "the upload is larger than what is taken, or was ended")
        if self._size - self._looked >= _LOOK:
            self._looked = self._size
            self._check_room(len(piece))
        self._file.write(piece)

    def close(self, whole: bool) -> None:
        """The file is here; or it is not ``whole``, and goes."""
        upload = self._upload
        try:
            self._file.close()
        finally:
            with upload.lock:
                upload.open -= 1
                if not whole:
                    upload.files.pop(self._number, None)
                    upload.bytes -= self._size
            if not whole:
                self._path.unlink(missing_ok=True)


def _look(upload: Upload, path: Path, name: str, found: list[tuple[Item, str]]) -> None:
    try:
        found.append((look_at(path), name))
    except NotDicom as exc:
        path.unlink(missing_ok=True)
        upload.result(name, What.SKIPPED, str(exc))


def _set(upload: Upload, state: State) -> None:
    with upload.lock:
        if upload.state is not State.ENDED:
            upload.state = state


def _teller(upload: Upload, names: dict[Path, str]) -> Callable[[Item, str], None]:
    def told(item: Item, why: str) -> None:
        upload.result(names[item.path], What.REFUSED if why else What.STORED, why)
        item.path.unlink(missing_ok=True)

    return told
