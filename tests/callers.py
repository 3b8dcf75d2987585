"""Peers that call the box: an open port to call, and a caller on a raw socket that says whatever a test asks for."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from boxes import LITTLE, MR, Image
from peers import elements, wait_for

from magickbox.association import End
from magickbox.destination import DicomDestination
from magickbox.incoming.quarantine import Quarantine
from magickbox.intake import RecordingIntake
from magickbox.scp.connection import Port
from magickbox.scp.server import Receiver
from magickbox.scp.upper import Timeouts
from magickbox.scu.command import Response, c_echo_request, c_store_request, read_response
from magickbox.scu.pdu import RELEASE_REQUEST, Accepted, Context, associate_request, read_accept, read_data

IMAGES = Context(MR, LITTLE)
VERIFICATION = Context("1.2.840.10008.1.1", "1.2.840.10008.1.2")
PATIENT = Timeouts(request=10.0, message=10.0, idle=60.0)
COMMAND, LAST = 1, 2


@dataclass
class OpenPort:
    """A receiver that listens, with what it wrote and told."""

    root: Path
    intake: RecordingIntake
    receiver: Receiver
    troubles: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        """The port's number."""
        return self.receiver.address[1]

    def destination(self, called: str = "BOX", calling: str = "TEST") -> DicomDestination:
        """How to call it."""
        return DicomDestination("127.0.0.1", self.number, calling, called)

    def files(self) -> dict[str, Path]:
        """What is in incoming/, without the records of associations, by name."""
        found = (self.root / "incoming").rglob("*")
        return {path.name: path for path in found if path.suffix == ".dcm" or path.name.startswith(".part-")}

    def reasons(self) -> list[str]:
        """The texts beside what is in quarantine."""
        return [path.read_text("utf-8") for path in sorted((self.root / "quarantine").glob("*.reason"))]

    def wait_for_end(self, count: int = 1) -> End:
        """Wait until so many associations have ended; how the last one did."""
        wait_for(lambda: len(self.intake.ends) >= count, f"{count} associations to end")
        return self.intake.ends[-1][1]

    def must_still_serve(self) -> None:
        """A good peer's C-STORE is taken as if nothing had happened."""
        number = len(self.intake.requests) + 1
        with Caller(self.number) as good:
            good.associate(IMAGES, calling=f"GOOD{number}".encode())
            assert good.store(Image(f"1.2.3.{number}")).status == 0
            good.release()
        assert f"1.2.3.{number}.dcm" in self.files()
        wait_for(lambda: self._how_of(f"GOOD{number}") is End.RELEASED, "the good peer's end")

    def _how_of(self, calling_ae: str) -> End | None:
        return next((how for association, how in self.intake.ends if association.calling_ae == calling_ae), None)


@contextmanager
def open_port(root: Path, intake: RecordingIntake | None = None, **settings: Any) -> Iterator[OpenPort]:
    """A receiver on a free port; when the block is left, no thread, descriptor or stray file of it may be there."""
    threads, descriptors = set(threading.enumerate()), _descriptors()
    for name in ("incoming", "quarantine"):
        (root / name).mkdir(parents=True, exist_ok=True)
    settings = {"timeouts": PATIENT, "fsync": False, **settings}
    intake = intake or RecordingIntake()
    troubles: list[str] = []
    receiver = Receiver(Port(root / "incoming", Quarantine(root / "quarantine"), **settings), intake, troubles.append)
    receiver.start()
    try:
        yield OpenPort(root, intake, receiver, troubles)
    finally:
        receiver.stop(2.0)
    wait_for(lambda: set(threading.enumerate()) <= threads, "the port's threads to end", 5)
    wait_for(lambda: _descriptors() <= descriptors, "descriptors to be closed", 5)
    assert sorted(path.name for path in root.iterdir()) == ["incoming", "quarantine"]
    assert not [path for path in root.rglob("*") if ".part-" in path.name or path.name.endswith(".tmp")]
    assert not [text for text in troubles if "Traceback" in text], troubles


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def pdu(kind: int, body: bytes) -> bytes:
    """A PDU (PS3.8 9.3.1)."""
    return struct.pack(">BxI", kind, len(body)) + body


def value(context: int, control: int, data: bytes) -> bytes:
    """A presentation data value (PS3.8 9.3.5.1)."""
    return struct.pack(">IBB", len(data) + 2, context, control) + data


def command(**numbers: bytes) -> bytes:
    """A command set of elements named by their number, as in ``_0100=b"..."``."""
    return b"".join(struct.pack("<HHI", 0, int(name[1:], 16), len(raw)) + raw for name, raw in numbers.items())


def store_pdus(context: int, image: Image, message: int = 1) -> bytes:
    """A whole C-STORE request."""
    request = c_store_request(message, MR, image.uid)
    return pdu(4, value(context, COMMAND | LAST, request)) + pdu(4, value(context, LAST, image.dataset()))


class Caller:
    """A peer on a raw socket."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        """The caller itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.sock.close()

    def say(self, *pieces: bytes | bytearray) -> None:
        """Send bytes."""
        self.sock.sendall(b"".join(pieces))

    def reset(self) -> None:
        """Close the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

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
        """The next PDU: its type and body; raises EOFError."""
        kind, length = struct.unpack(">BxI", self.read(6))
        return kind, self.read(length)

    def kinds_to_the_end(self) -> list[int]:
        """The types of all PDUs that still come until the box closes the connection."""
        kinds = []
        with suppress(EOFError, ConnectionError):
            while True:
                kinds.append(self.pdu()[0])
        return kinds

    def associate(self, *contexts: Context, called: bytes = b"BOX", calling: bytes = b"TEST") -> Accepted:
        """Open an association; the answer must be an acceptance."""
        self.request(*contexts, called=called, calling=calling)
        kind, body = self.pdu()
        assert kind == 2, (kind, body)
        return read_accept(body)

    def request(self, *contexts: Context, called: bytes = b"BOX", calling: bytes = b"TEST") -> None:
        """Ask for an association, with titles of any bytes."""
        raw = bytearray(associate_request("", "", contexts))
        raw[10:26], raw[26:42] = called.ljust(16)[:16], calling.ljust(16)[:16]
        self.say(raw)

    def store(self, image: Image, context: int = 1) -> Response:
        """C-STORE an image."""
        self.say(store_pdus(context, image))
        return self.response()

    def echo(self, context: int = 1) -> Response:
        """C-ECHO."""
        self.say(pdu(4, value(context, COMMAND | LAST, c_echo_request(7, VERIFICATION.sop_class))))
        return self.response()

    def response(self) -> Response:
        """The next response; raises EOFError."""
        return read_response(self._response())

    def response_elements(self) -> dict[int, bytes]:
        """The next response's elements."""
        return elements(self._response())

    def _response(self) -> bytes:
        whole = b""
        while True:
            kind, body = self.pdu()
            assert kind == 4, (kind, body)
            (fragment,) = read_data(body)
            whole += fragment.data
            if fragment.is_last:
                return whole

    def release(self) -> None:
        """Release the association and wait for the reply."""
        self.say(RELEASE_REQUEST)
        kind, _ = self.pdu()
        assert kind == 6, kind
