"""Puts instances below a folder; implements ``magickbox.sender`` for folders.

A file gets its name only when it is whole and durable, and never in place of another: other bytes under the same name
make a further name. No link below the folder is followed, so that nobody can lead the box elsewhere.
"""

import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from magickbox.destination import Delivered, Destination, FolderDestination, Rejected, Result, Retry
from magickbox.dicom.tagvalues import values_in
from magickbox.pathpattern import PathPattern, parse_path_pattern
from magickbox.sender import Item, Session

PARTS = ".magickbox-parts"  # where files grow; what a killed box left there is removed after a day
DAY = 24 * 60 * 60.0
MOST_NAMES = 1000
_PIECE = 1024 * 1024
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_INTO = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
# What lies in the instance or in what already stands there, so that another try is of no use.
_FOR_GOOD = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP})


class FolderSender:
    """Opens sessions with folders."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(6)
        self._count = 0
        self._counting = threading.Lock()

    def split(self, _destination: Destination, items: Sequence[Item]) -> list[list[Item]]:
        """All of them together."""
        return [list(items)] if items else []

    def connect(self, destination: Destination, _items: Sequence[Item], _job: str) -> Session | Retry:
        """Open the folder, or say why it cannot be used now; it is never made: an unmounted share is not a new one."""
        assert isinstance(destination, FolderDestination)
        try:
            top = os.open(destination.path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except OSError as exc:
            return Retry(f"{destination.path}: {exc.strerror}")
        try:
            parts = _open_folder(PARTS, top)
        except OSError as exc:
            os.close(top)
            return Retry(f"{destination.path}: nothing can be written: {exc.strerror}")
        _remove_old(parts, self._token)
        return FolderSession(parse_path_pattern(destination.pattern), top, parts, self._next_name)

    def close(self) -> None:
        """Nothing is kept open."""

    def probe(self, destination: Destination) -> Retry | None:
        """Open the folder and close it again; None if it can be used."""
        session = self.connect(destination, [], "")
        if isinstance(session, Retry):
            return session
        with session:
            return None

    def problems(self, destination: Destination) -> list[str]:
        """What keeps this process from writing there."""
        assert isinstance(destination, FolderDestination)
        path = Path(destination.path)
        if not path.is_dir():
            return [f"{path}: there is no such folder"]
        if not os.access(path, os.W_OK | os.X_OK):
            return [f"{path} is not writable by this user (uid {os.getuid()})"]
        return []

    def _next_name(self) -> str:
        with self._counting:
            self._count += 1
            return f"{self._token}-{self._count}"


class FolderSession:
    """Writes instances below one folder."""

    def __init__(self, pattern: PathPattern, top: int, parts: int, next_name: Callable[[], str]) -> None:
        self._pattern, self._top, self._parts, self._next_name = pattern, top, parts, next_name
        self._over = threading.Event()

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder."""
        self._over.set()
        os.close(self._parts)
        os.close(self._top)

    @property
    def is_open(self) -> bool:
        """False once the folder could not be written, or the session was ended."""
        return not self._over.is_set()

    def abort(self) -> None:
        """Write no further piece."""
        self._over.set()

    def send(self, item: Item) -> Result:
        """Put one instance at its place, or find it there already."""
        if not self.is_open:
            return Retry("the session is over")
        try:
            file = _open_regular(item.path)
        except OSError as exc:
            return Rejected(f"the file cannot be read: {exc.strerror}")
        with file:
            tags = self._pattern.tags
            try:
                values = values_in(file, tags).values
                names = self._pattern.fill({tag: values[tag][0] for tag in tags})
                return self._put(file, names)
            except OSError as exc:
                if exc.errno in _FOR_GOOD:
                    return Rejected(f"it cannot be put where the pattern says: {exc.strerror}")
                self._over.set()
                return Retry(f"it cannot be written: {exc.strerror}")

    def _put(self, file: BinaryIO, names: Sequence[str]) -> Result:
        with ExitStack() as stack:
            folder = self._top
            for name in names[:-1]:
                folder = _open_folder(name, folder)
                stack.callback(os.close, folder)
            with self._part(file) as part:
                if part is None:
                    return Retry("the session is over")
                for name in _numbered(names[-1]):
                    if _take_name(part, self._parts, name, folder) or _has_same(name, folder, file):
                        os.fsync(folder)
                        return Delivered()
        return Rejected(f"{MOST_NAMES} other files have that name already")

    @contextmanager
    def _part(self, file: BinaryIO) -> Iterator[str | None]:
        """A durable copy of the file beside the tree; None if the session was ended meanwhile."""
        name = self._next_name()
        fd = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666, dir_fd=self._parts
        )
        try:
            with open(fd, "wb", buffering=0) as copy:
                whole = self._copy(file, copy)
                os.fsync(fd)
            yield name if whole else None
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._parts)

    def _copy(self, file: BinaryIO, copy: BinaryIO) -> bool:
        file.seek(0)
        while piece := file.read(_PIECE):
            if self._over.is_set():
                return False
            view = memoryview(piece)
            while view:
                view = view[copy.write(view) :]
        return True


def _take_name(part: str, parts: int, name: str, folder: int) -> bool:
    """Give the part its name, in place of nothing; False if something is there."""
    try:
        os.link(part, name, src_dir_fd=parts, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        return _take_name_without_links(part, parts, name, folder)
    return True


def _take_name_without_links(part: str, parts: int, name: str, folder: int) -> bool:
    """For shares that know no hard links: the name is reserved by an empty file, which the rename then replaces."""
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder))
    except FileExistsError:
        return False
    os.rename(part, name, src_dir_fd=parts, dst_dir_fd=folder)
    return True


def _numbered(name: str) -> Iterator[str]:
    """The name itself, then ``x-1.dcm``, ``x-2.dcm`` ..."""
    yield name
    stem, dot, suffix = name.rpartition(".")
    stem, suffix = (stem, dot + suffix) if stem else (name, "")
    for n in range(1, MOST_NAMES):
        yield f"{stem}-{n}{suffix}"


def _has_same(name: str, folder: int, file: BinaryIO) -> bool:
    """True if a regular file of that name has the same bytes; it is then durable, too."""
    try:
        other = open(os.open(name, _READ | os.O_NOFOLLOW, dir_fd=folder), "rb", buffering=0)  # noqa: SIM115  closed below
    except OSError:
        return False
    with other:
        is_file = stat.S_ISREG(os.fstat(other.fileno()).st_mode)
        if not is_file or os.fstat(other.fileno()).st_size != os.fstat(file.fileno()).st_size:
            return False
        file.seek(0)
        while piece := file.read(_PIECE):
            if other.read(len(piece)) != piece:
                return False
        os.fsync(other.fileno())
        return True


def _open_folder(name: str, parent: int) -> int:
    """Open a folder, made if it is not there and durable in its parent; a link in its place is an OSError."""
    try:
        os.mkdir(name, 0o777, dir_fd=parent)
        os.fsync(parent)
    except FileExistsError:
        pass
    return os.open(name, _INTO, dir_fd=parent)


def _open_regular(path: Path) -> BinaryIO:
    fd = os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(None, "not a regular file")
    return open(fd, "rb", buffering=0)


def _remove_old(parts: int, token: str) -> None:
    """Remove what a killed box left a day ago; that it cannot be removed harms nobody."""
    with suppress(OSError):
        for name in os.listdir(parts):
            if (
                not name.startswith(token)
                and time.time() - os.stat(name, dir_fd=parts, follow_symlinks=False).st_mtime > DAY
            ):
                os.unlink(name, dir_fd=parts)
