"""An association that the box opened: its negotiation, the messages over it, and its end (PS3.8 7, PS3.7 6.3).

The box's own small upper layer rather than pynetdicom's: that one queues a whole object in memory when the network is
slower than the disk, writes without a time limit from a thread that keeps the process alive, and looks for work every
millisecond. Here one thread reads the file, writes the socket and waits, so memory and time are bounded by design.
"""

import os
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from magickbox.destination import DicomDestination, Line
from magickbox.errors import PeerError
from magickbox.owncalls import Address
from magickbox.scu import pdu
from magickbox.scu.command import Response, response_of
from magickbox.scu.incoming import IncomingMessage
from magickbox.scu.outgoing import Outgoing, ReadTrouble, Way
from magickbox.scu.wire import Dripping, Wire
from magickbox.tlsclient import words_of_tls

MAX_PDU = 1024 * 1024
FAREWELL = 5.0
_PDU = struct.Struct(">BxI")  # type and length (PS3.8 9.3.1)


@dataclass(frozen=True)
class Timeouts:
    """Time limits in seconds: for the connection, the answer to the request, a response, and each piece written.

    A message that takes longer than one piece may has to go at ``slowest`` bytes/s on average.
    """

    connect: float = 10.0
    associate: float = 30.0
    response: float = 120.0
    write: float = 60.0
    slowest: float = 1000.0

    def on(self, line: Line) -> "Timeouts":
        """These, with what is said of a destination's line."""
        write, response = (self.write, self.response) if line.stall is None else (line.stall, line.stall)
        slowest = self.slowest if line.least_speed is None else line.least_speed
        return replace(self, write=write, response=response, slowest=slowest)


@dataclass(frozen=True)
class Registry:
    """Who is told of the socket's own address, before anything is said on it and when it is closed."""

    opened: Callable[[Address], None] = lambda _address: None
    closed: Callable[[Address], None] = lambda _address: None


class Association:
    """An association that the box opened; used by one thread, but ``abort`` may come from any.

    Methods raise PeerError with a sentence when the peer or the network ends it; it is then closed.
    """

    def __init__(self, sock: socket.socket, timeouts: Timeouts, registry: Registry) -> None:
        self._sock = sock
        self._timeouts = timeouts
        self._registry = registry
        self.address = sock.getsockname()[:2]
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._writing = threading.Lock()
        self._ending = threading.Lock()
        self._aborted = False
        self.is_open = True
        self.answered = False
        self._fragments: deque[pdu.Fragment] = deque()
        self.room = pdu.MAX_FRAGMENT
        self.accepted: dict[pdu.Context, int] = {}
        self.refused: dict[pdu.Context, str] = {}
        self._wire = Wire(sock, timeouts.write, timeouts.slowest)
        registry.opened(self.address)

    def negotiate(self, destination: DicomDestination, contexts: Sequence[pdu.Context]) -> None:
        """Propose the contexts and note what the peer says of each (PS3.8 7.1)."""
        self._write([pdu.associate_request(destination.called_ae, destination.calling_ae, contexts)])
        kind, body = self._read_pdu(self._timeouts.associate)
        self.answered = kind in (pdu.ACCEPT, pdu.REJECT, pdu.ABORT)
        if kind == pdu.REJECT:
            raise self._broken(pdu.reject_words(body))
        if kind != pdu.ACCEPT:
            raise self._broken(self._words(kind, body))
        try:
            answer = pdu.read_accept(body)
        except pdu.MalformedPdu as exc:
            raise self._broken(str(exc), say=True) from exc
        self.room = pdu.room_of(answer.max_length)
        self._sort(contexts, {number: (result, syntax) for number, result, syntax in answer.contexts})

    def _sort(self, contexts: Sequence[pdu.Context], answers: dict[int, tuple[int, str]]) -> None:
        for position, context in enumerate(contexts):
            number = 2 * position + 1
            result, syntax = answers.get(number, (-1, ""))
            if result == 0 and syntax == context.transfer_syntax:
                self.accepted[context] = number
            else:
                self.refused[context] = pdu.context_words(result)

    def command(self, context: int, command: bytes, dataset: bytes = b"") -> None:
        """Send a message without a dataset, or with a small one."""
        way = self.way(context)
        self._write([way.framed(command), way.framed(dataset, command=False)])

    def send(self, message: Outgoing) -> None:
        """Send an instance; raises ReadTrouble, after an abort, when its file cannot be read to its end."""
        try:
            self._write(message.pieces())
        except ReadTrouble:
            self.abort()
            raise

    def response(self, field: int, message_id: int) -> Response:
        """Wait for the response to that message; a dataset that comes with it is passed over."""
        message = self.receive(time.monotonic() + self._timeouts.response)
        try:
            response = response_of(message.command)
        except pdu.MalformedPdu as exc:
            raise self._broken(str(exc), say=True) from exc
        if (response.field, response.answers) != (field, message_id):
            raise self._broken("the peer answered something that was not asked", say=True)
        return response

    def receive(self, deadline: float, longest: int = 0) -> IncomingMessage:
        """Wait for the peer's next message, whatever it is; up to ``longest`` bytes of its dataset are kept."""
        message = IncomingMessage(longest)
        try:
            while not message.is_whole:
                while not self._fragments:
                    self._fragments.extend(self._next_fragments(deadline))
                message.take(self._fragments.popleft())
        except pdu.MalformedPdu as exc:
            raise self._broken(str(exc), say=True) from exc
        return message

    def _next_fragments(self, deadline: float) -> list[pdu.Fragment]:
        kind, body = self._read_pdu(self._timeouts.response, deadline)
        if kind != pdu.DATA:
            raise self._broken(self._words(kind, body), say=kind not in (pdu.ABORT, pdu.RELEASE_RQ))
        return pdu.read_data(body)

    def _words(self, kind: int, body: bytes) -> str:
        if kind == pdu.ABORT:
            return pdu.abort_words(body)
        if kind == pdu.RELEASE_RQ:
            with suppress(OSError, Dripping):
                self._wire.send(pdu.RELEASE_REPLY)
            return "the peer released the association before it answered"
        return f"the peer sent a PDU of type 0x{kind:02X} where none may come"

    @property
    def is_quiet(self) -> bool:
        """True if it is open and the peer has said nothing that was not asked for: no abort, no release, no end."""
        return self.is_open and not self._fragments and self._wire.is_quiet

    def release(self) -> None:
        """End the association properly; every response is here, so what goes wrong now is no matter."""
        if self.is_open:
            with suppress(PeerError):
                self._write([pdu.RELEASE_REQUEST])
                kind, _ = self._read_pdu(min(FAREWELL, self._timeouts.response))
                if kind == pdu.RELEASE_RQ:  # both at once (PS3.8 7.2.2)
                    self._write([pdu.RELEASE_REPLY])
        self.close()

    def abort(self) -> None:
        """End the association at once, from any thread; who waits in it gets PeerError. Its own thread closes it."""
        self._aborted = True
        # Under TLS nothing is said: its one state must not be touched while another thread reads.
        if self.is_open and not self._is_tls and self._writing.acquire(blocking=False):
            try:
                with suppress(OSError):
                    self._sock.send(pdu.ABORT_BY_USER, socket.MSG_DONTWAIT)
            finally:
                self._writing.release()
        self._hang_up()

    def _hang_up(self) -> None:
        with self._ending:
            if not self.is_open:
                return
            self.is_open = False
        with suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # wakes whoever waits in it; past TLS
        self._registry.closed(self.address)

    def close(self) -> None:
        """Give the socket back; only the thread that uses the association may, lest its number be taken meanwhile."""
        self._hang_up()
        self._sock.close()

    def _broken(self, words: str, *, say: bool = False) -> PeerError:
        """Close, with an A-ABORT if ``say``, and return what to raise."""
        aborted = self._aborted
        if say:
            self.abort()
        self.close()
        return PeerError("the box ended the association" if aborted else words)

    def way(self, context: int) -> Way:
        """How messages of that context go."""
        return Way(context, self.room)

    def _write(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._wire.begin()
        try:
            for piece in pieces:
                with self._writing:
                    self._wire.send(piece)
        except TimeoutError as exc:
            raise self._broken(f"the peer took nothing for {self._timeouts.write:g} s") from exc
        except Dripping as exc:
            raise self._broken(f"the peer takes less than {self._timeouts.slowest:g} bytes/s", say=True) from exc
        except OSError as exc:
            raise self._broken(self._last_words() or f"the connection broke: {words_of(exc)}") from exc

    def _last_words(self) -> str:
        """The A-ABORT that a peer may have sent before it closed."""
        with suppress(OSError):
            data = self._wire.at_hand()
            if len(data) == 10 and data[0] == pdu.ABORT:
                return pdu.abort_words(data[6:])
        return ""

    def _read_pdu(self, limit: float, deadline: float | None = None) -> tuple[int, bytes]:
        deadline = time.monotonic() + limit if deadline is None else deadline
        in_part = False
        try:
            kind, length = _PDU.unpack(self._wire.read(_PDU.size, deadline))
            if length > MAX_PDU:
                raise self._broken(f"the peer announces a PDU of {length} bytes: this is not DICOM", say=True)
            in_part = True
            return kind, self._wire.read(length, deadline)
        except EOFError:
            where = " in the middle of a PDU" if in_part or self._wire.is_in_part else ""
            raise self._broken(f"the peer closed the connection{where}") from None
        except TimeoutError as exc:
            raise self._broken(f"the peer did not answer within {limit:g} s", say=True) from exc
        except OSError as exc:
            raise self._broken(f"the connection broke: {words_of(exc)}") from exc


def words_of(exc: OSError) -> str:
    """What the system says of an error."""
    if isinstance(exc, ssl.SSLError):
        return words_of_tls(exc)
    return exc.strerror or (os.strerror(exc.errno) if exc.errno else type(exc).__name__)
