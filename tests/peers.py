"""Peers to send to: DCMTK's storescp as a real one, and a scripted one that does whatever a test asks for."""

import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.errors import InvalidDicomError

from magickbox.destination import DicomDestination
from magickbox.scu.upperlayer import Timeouts
from magickbox.sender import Item

QUICK = Timeouts(connect=2.0, associate=2.0, response=2.0, write=2.0)
SAMPLES = ("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_bigendian.dcm", "test-SR.dcm",
           "image_dfl.dcm", "rtplan.dcm")  # fmt: skip


def dcmtk(tool: str) -> str:
    """DCMTK's tool of that name; without it skip, but fail in CI. pynetdicom puts tools of the same names beside us."""
    ours = Path(sys.executable).parent
    elsewhere = (folder for folder in os.get_exec_path() if Path(folder) != ours)
    found = shutil.which(tool, path=os.pathsep.join(elsewhere))
    if found is None and os.environ.get("CI", "").casefold() == "true":
        pytest.fail(f"{tool} of DCMTK is not installed, and CI has to have it")
    if found is None:
        pytest.skip(f"{tool} of DCMTK is not installed")
    return found


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def sample(name: str) -> Path:
    """A file of pydicom's test data."""
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return Path(path)


def item_of(path: Path) -> Item:
    """What the decision would say of that file."""
    meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
    return Item(
        path, str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID), str(meta.TransferSyntaxUID)
    )


def dataset_bytes(path: Path) -> bytes:
    """The bytes after the file meta, as pydicom finds them."""
    data = path.read_bytes()
    with path.open("rb") as file:
        meta = pydicom.filereader.read_file_meta_info(path)
        length = meta.FileMetaInformationGroupLength
        return data[file.seek(132) + 12 + length :]


@dataclass
class StoreScp:
    """A running storescp: where it is, and what it has stored."""

    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def destination(self) -> DicomDestination:
        """How to call it."""
        return DicomDestination("127.0.0.1", self.port, "BOX", "STORESCP")

    def arrived(self) -> set[str]:
        """The SOP Instance UIDs of what is there; nothing as long as a file is being written."""
        try:
            return set(self.stored())
        except (InvalidDicomError, AttributeError):
            return set()

    def stored(self) -> dict[str, Path]:
        """The files that are there, by SOP Instance UID."""
        return {item_of(path).sop_instance: path for path in self.folder.iterdir()}


@contextmanager
def storescp(folder: Path, *options: str, port: int | None = None) -> Iterator[StoreScp]:
    """A storescp that keeps dataset bytes as they come; ended, by its own id, when the block is left."""
    program = dcmtk("storescp")
    folder.mkdir(exist_ok=True)
    port = port or free_port()
    process = subprocess.Popen(
        [program, "+B", "+xa", "-pm", "-aet", "STORESCP", "-od", str(folder), *options, str(port)],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: is_listening(port), "storescp to listen")
        yield StoreScp(port, folder, process)
    finally:
        process.kill()
        process.wait()


def is_listening(port: int) -> bool:
    """True if a connection to that port is taken."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_for(condition: Callable[[], object], what: str = "it", seconds: float = 10.0) -> None:
    """Wait until a condition holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.005)


class Talk:
    """One connection as the scripted peer has it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.contexts: dict[int, tuple[str, str]] = {}
        self.last_syntax = ""  # in which the last message came
        self.calling_ae = ""

    def read(self, length: int) -> bytes:
        """Exactly that many bytes; raises EOFError."""
        data = b""
        while len(data) < length:
            piece = self.sock.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def pdu(self) -> tuple[int, bytes]:
        """The next PDU: its type and body."""
        kind, length = struct.unpack(">BxI", self.read(6))
        return kind, self.read(length)

    def say(self, kind: int, body: bytes) -> None:
        """Send a PDU."""
        self.sock.sendall(struct.pack(">BxI", kind, len(body)) + body)

    def accept(self, result: Callable[[str, str], int] = lambda _class, _syntax: 0, longest: int = 16384) -> None:
        """Read the request and answer it; ``result`` says what of each context."""
        kind, body = self.pdu()
        assert kind == 1
        self.calling_ae = body[20:36].decode("ascii").strip()
        answers = [_item(0x10, b"1.2.840.10008.3.1.1.1")]
        for part, value in _items(body[68:]):
            if part == 0x20:
                (_, sop_class), (_, syntax) = _items(value[4:])
                self.contexts[value[0]] = (sop_class.decode(), syntax.decode())
                code = result(sop_class.decode(), syntax.decode())
                answers.append(_item(0x21, bytes((value[0], 0, code, 0)) + _item(0x40, syntax)))
        answers.append(_item(0x50, _item(0x51, struct.pack(">I", longest)) + _item(0x52, b"1.2.3")))
        self.say(2, body[:68] + b"".join(answers))

    def message(self) -> tuple[dict[int, bytes], bytes]:
        """The next message: its command elements and its dataset; raises EOFError at a release."""
        command, dataset = b"", b""
        while True:
            kind, body = self.pdu()
            if kind == 5:
                self.say(6, bytes(4))
            if kind != 4:
                raise EOFError
            at = 0
            while at < len(body):
                length, context, control = struct.unpack_from(">IBB", body, at)
                self.last_syntax = self.contexts[context][1]
                piece = body[at + 6 : at + 4 + length]
                at += 4 + length
                if control & 1:
                    command += piece
                else:
                    dataset += piece
                if control == 2 or (control == 3 and elements(command)[0x0800] == b"\1\1"):
                    return elements(command), dataset

    def respond(self, request: dict[int, bytes], status: int, comment: bytes = b"") -> None:
        """Answer a request with a status."""
        field = struct.unpack("<H", request[0x0100])[0] | 0x8000
        elements = {
            0x0100: struct.pack("<H", field),
            0x0120: request[0x0110],
            0x0800: b"\1\1",
            0x0900: struct.pack("<H", status),
        }
        if comment:
            elements[0x0902] = comment
        body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in elements.items())
        context = next(iter(self.contexts))
        self.say(4, struct.pack(">IBB", len(body) + 2, context, 3) + body)

    def serve(self, status: Callable[[int], int] = lambda _n: 0) -> None:
        """Answer every request until the peer releases; ``status`` is given how many came before."""
        n = 0
        with suppress(EOFError):
            while True:
                request, _ = self.message()
                self.respond(request, status(n))
                n += 1


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BxH", data, at)
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


def elements(data: bytes) -> dict[int, bytes]:
    """The elements of a command set."""
    found, at = {}, 0
    while at < len(data):
        _, tag, length = struct.unpack_from("<HHI", data, at)
        found[tag] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return found


Script = Callable[[Talk], None]


@dataclass
class ScriptedPeer:
    """A port on which the n-th connection is met by the n-th script, further ones by the last."""

    scripts: Sequence[Script]
    port: int = 0
    talks: list[Talk] = field(default_factory=list)
    trouble: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> "ScriptedPeer":
        """Listen."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = int(self.listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything and say what went wrong in a script."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for talk in self.talks:
            with suppress(OSError):
                talk.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        for talk in self.talks:
            talk.sock.close()
        assert not self.trouble, self.trouble

    @property
    def destination(self) -> DicomDestination:
        """How to call it."""
        return DicomDestination("127.0.0.1", self.port, "BOX", "SCRIPTED")

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = Talk(sock)
            script = self.scripts[min(len(self.talks), len(self.scripts) - 1)]
            self.talks.append(talk)
            try:
                script(talk)
            except (EOFError, ConnectionError):
                pass
            except Exception as exc:  # noqa: BLE001  whatever it is, the test is told
                self.trouble.append(exc)
            # A script that keeps the connection open returns without closing it; the end of the test does.


def close(talk: Talk) -> None:
    """Close the connection now."""
    talk.sock.shutdown(socket.SHUT_RDWR)
