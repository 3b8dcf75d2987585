"""Store transactions (STOW-RS, PS3.18 10.5); implements ``magickbox.sender`` for DICOMweb services.

One instance a request, over a connection that is kept: what the service says of it is committed before the next one
leaves. The file is streamed from disk.
"""

import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from magickbox.destination import Destination, Rejected, Result, Retry, StowDestination
from magickbox.dicom.header import FileMeta, read_file_meta
from magickbox.dicom.part10 import file_header
from magickbox.dicomweb.answer import judge_answer
from magickbox.dicomweb.connection import Broken, Connection, Limits
from magickbox.dicomweb.credentials import credentials
from magickbox.errors import ConfigError, PeerError, UnreadableHeader
from magickbox.sender import Item, Session
from magickbox.tlsclient import client_context

PIECE = 256 * 1024
ACCEPT = "application/dicom+json, application/dicom+xml;q=0.9"


class Shrunk(Exception):
    """The file that is being sent could not be read to its end."""


class StowSender:
    """Opens sessions with DICOMweb services."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    def split(self, _destination: Destination, items: Sequence[Item]) -> list[list[Item]]:
        """All of them together."""
        return [list(items)] if items else []

    def connect(self, destination: Destination, _items: Sequence[Item], _job: str) -> Session | Retry:
        """Connect, or say why it may work later."""
        assert isinstance(destination, StowDestination)
        try:
            headers = {"Accept": ACCEPT, "User-Agent": "magickbox", **credentials(destination)}
            return StowSession(destination, headers, self._limits.on(destination.line))
        except (ConfigError, PeerError) as exc:
            return Retry(str(exc))

    def close(self) -> None:
        """Nothing is kept open."""

    def probe(self, destination: Destination) -> Retry | None:
        """Connect, with TLS if it has that, and say nothing; None if the server is there."""
        session = self.connect(destination, [], "")
        if isinstance(session, Retry):
            return session
        with session:
            return None

    def problems(self, destination: Destination) -> list[str]:
        """What is wrong with its secrets and the files of its certificates."""
        assert isinstance(destination, StowDestination)
        found = []
        for look in (lambda: credentials(destination), lambda: destination.tls and client_context(destination.tls)):
            try:
                look()
            except ConfigError as exc:
                found.append(str(exc))
        return found


class StowSession:
    """Requests to one service, over one connection as long as it lasts."""

    def __init__(self, destination: StowDestination, headers: Mapping[str, str], limits: Limits) -> None:
        """Connect; raises PeerError."""
        self._destination, self._headers, self._limits = destination, headers, limits
        self._path = f"{urlsplit(destination.url).path.rstrip('/')}/studies"
        self._over = False
        self._connection = self._connect()

    def _connect(self) -> Connection:
        return Connection(self._destination.url, self._destination.tls, self._limits)

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._over = True
        self._connection.close()

    @property
    def is_open(self) -> bool:
        """False once the service cannot be reached, or says something that concerns all instances."""
        return not self._over

    def abort(self) -> None:
        """End the connection, from any thread."""
        self._over = True
        self._connection.abort()

    def send(self, item: Item) -> Result:
        """Store one instance and judge the answer."""
        if self._over:
            return Retry("the session is over")
        try:
            file, meta, size = _open(item)
        except OSError as exc:
            return Rejected(f"the file cannot be read: {exc.strerror}")
        except UnreadableHeader as exc:
            return Rejected(f"the file cannot be read: {exc}")
        with file:
            result = self._send(file, meta, size, item)
        self._over = self._over or (isinstance(result, Retry) and result.status is None)
        return result

    def _send(self, file: FileIO, meta: FileMeta, size: int, item: Item) -> Result:
        if meta.transfer_syntax not in ("", item.transfer_syntax):
            return Rejected("the file has another transfer syntax than when it was selected")
        try:
            return self._request(file, meta, size, item)
        except Broken as exc:
            if not exc.reused or self._over:
                return Retry(str(exc))
        except PeerError as exc:
            return Retry(str(exc))
        except Shrunk as exc:
            return Retry(str(exc))
        try:  # the server may have closed a connection that was idle for long: once more, on a new one
            return self._request(file, meta, size, item)
        except (PeerError, Shrunk) as exc:
            return Retry(str(exc))

    def _request(self, file: FileIO, meta: FileMeta, size: int, item: Item) -> Result:
        if not self._connection.is_open:
            self._connection = self._connect()
            if self._over:
                self._connection.abort()
        boundary = f"magickbox-{secrets.token_hex(16)}"
        start = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + _header(item, meta)
        end = f"\r\n--{boundary}--\r\n".encode()
        left = size - meta.offset
        headers = {
            **self._headers,
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(start) + left + len(end)),
        }
        file.seek(meta.offset)
        answer = self._connection.post(self._path, headers, _pieces(start, file, left, end))
        return judge_answer(answer, item.sop_instance)


def _header(item: Item, meta: FileMeta) -> bytes:
    """The file meta of what is sent: the dataset's word counts, which scripts often leave the file's own behind."""
    return file_header(item.sop_class, item.sop_instance, meta.transfer_syntax or item.transfer_syntax)


def _pieces(start: bytes, file: FileIO, left: int, end: bytes) -> Iterator[memoryview]:
    yield memoryview(start)
    buffer = memoryview(bytearray(min(PIECE, max(left, 1))))
    while left:
        try:
            n = file.readinto(buffer[: min(left, len(buffer))])
        except OSError as exc:
            raise Shrunk(f"the file cannot be read to its end: {exc.strerror}") from exc
        if not n:
            raise Shrunk("the file became shorter while it was sent")
        left -= n
        yield buffer[:n]
    yield memoryview(end)


def _open(item: Item) -> tuple[FileIO, FileMeta, int]:
    """A regular file, its meta and size; anything else (a FIFO would wait for ever) is an OSError."""
    file = _open_regular(item.path)
    try:
        return file, read_file_meta(file), os.fstat(file.fileno()).st_size
    except BaseException:
        file.close()
        raise


def _open_regular(path: Path) -> FileIO:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(None, "not a regular file")
    return open(fd, "rb", buffering=0)
