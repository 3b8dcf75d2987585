"""pynetdicom's upper layer with limits: on PDU lengths and on silence.

Only its state machine and its PDUs are used. Its own loop looks a thousand times a second in each of two threads,
and waits without end for as many bytes as a length field promises. This one sleeps until something comes, in one
thread. While the association is established, P-DATA-TF goes a shorter way: it is handed to the user in place, without
becoming objects (the fast lane); every other PDU goes through pynetdicom.
"""

import math
import queue
import select
import socket as sockets
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pynetdicom.association import Association as Connection
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE

from magickbox.association import End
from magickbox.scp.handshake import says_tls
from magickbox.scp.request import Asked, read_request
from magickbox.scp.stopping import Stopping
from magickbox.scp.wire import Wire

_ASSOCIATE_RQ, _P_DATA, _RELEASE_RQ, _ABORT = 1, 4, 5, 7
_MAX_ASSOCIATE = 1024 * 1024
_MAX_OTHER = 64 * 1024
_AWAITING_REQUEST, _ESTABLISHED, _AWAITING_CLOSE = "Sta2", "Sta6", "Sta13"
# PS3.8 9.2.1: what is put into the event queue.
_CLOSED, _ARTIM_EXPIRED, _INVALID_PDU = "Evt17", "Evt18", "Evt19"
_FROM_USER = frozenset({"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})
_ABORTING = frozenset({"AA-1", "AA-8"})
_LINGER = 0.5
_LONGEST_POLL = 3600.0
_ROOM = 64 * 1024
_TLS_HERE = "TLS on the port without TLS: the peer must use tls_port, or no TLS"
_HEADER = struct.Struct(">BxI")


@dataclass(frozen=True)
class Timeouts:
    """Seconds of silence after which a peer is ended.

    ``request`` before its A-ASSOCIATE-RQ is whole, ``message`` in the middle of a message, ``idle`` between messages
    (workstations keep associations open for hours).
    """

    request: float = 30.0
    message: float = 60.0
    idle: float = 4 * 3600.0


class User(Protocol):
    """Who uses the upper layer: is told of indications, and says whether a message is in hand."""

    def indicate(self, primitive: object) -> None:
        """An A-ASSOCIATE, A-RELEASE, A-ABORT or A-P-ABORT indication (PS3.8 7)."""

    def take_data(self, view: memoryview, at: int, end: int) -> None:
        """The body of a P-DATA-TF, at ``view[at:end]``; what is kept of it is let go by ``release_data``."""

    def release_data(self) -> None:
        """The bytes that were handed over will be overwritten: write away what is still needed of them."""

    @property
    def busy(self) -> bool:
        """True if a message has begun that is not yet answered."""
        ...


def _limit(kind: int, max_pdu: int) -> int:
    """The longest PDU of a type that is read: for P-DATA-TF what was announced, with room for the sloppy."""
    if kind == _P_DATA:
        return max(max_pdu * 2, _MAX_OTHER)
    return _MAX_ASSOCIATE if kind == _ASSOCIATE_RQ else _MAX_OTHER


class _BoxStops(Exception):
    """The box stops, and no message is in hand."""


class BoundedUpperLayer(DULServiceProvider):
    """The upper layer of one association of the box. ``serve`` runs it; it is never started as a thread.

    ``ending`` is how it ends, as far as this side can tell, and ``why`` says that in words.
    """

    def __init__(
        self, connection: Connection, user: User, raw: sockets.socket, max_pdu: int, timeouts: Timeouts, stop: Stopping
    ) -> None:
        super().__init__(connection)
        self._user, self._stop = user, stop
        self._max_pdu = max_pdu
        self._timeouts = timeouts
        self.wire = Wire(raw, _limit(_P_DATA, max_pdu) + _ROOM, timeouts.message)
        self.wire.wait, self.wire.before_move = self._wait, user.release_data
        self._request_by = time.monotonic() + timeouts.request
        self._poll = select.poll()  # select.select ends at descriptor 1023
        self._poll.register(raw, select.POLLIN)
        self._poll.register(stop.fd, select.POLLIN)
        self.asked: Asked | None = None
        self.ending: End | None = None
        self.why = ""

    def serve(self) -> None:
        """Run until the connection is over, in the caller's thread; raises what a service raises."""
        while not self._kill_thread:
            self._act(self._next_event())

    def use(self, raw: sockets.socket) -> None:
        """Go on with the same connection as another socket: TLS has begun on it."""
        self.wire.use(raw)
        if self.socket is not None:
            self.socket.socket = raw

    def end(self, how: End, why: str, event: str = _INVALID_PDU) -> None:
        """Let the association end; of several reasons the first counts."""
        self._because(how, why)
        self.event_queue.put(event)

    def _because(self, how: End, why: str) -> None:
        if self.ending is None:
            self.ending, self.why = how, why

    def _next_event(self) -> str:
        while True:
            if self.event_queue.empty() and not self._process_recv_primitive():
                self._listen()
            with suppress(queue.Empty):
                return self.event_queue.get_nowait()

    def _act(self, event: str) -> None:
        """Let the state machine act, then its user. What comes too late for the state is dropped."""
        action = TRANSITION_TABLE.get((event, self.state_machine.current_state))
        if action is not None:
            self.state_machine.do_action(event)
        elif event in _FROM_USER:
            self.to_provider_queue.get_nowait()
        if action in _ABORTING:
            self._because(End.ABORTED, "a PDU that is not expected here")
        while not self.to_user_queue.empty():
            self._user.indicate(self.to_user_queue.get_nowait())

    def _listen(self) -> None:
        """Take what comes until there is an event, a limit has passed or the box stops."""
        state = self.state_machine.current_state
        if state == _AWAITING_CLOSE:
            self._linger()
            return
        try:
            while self.event_queue.empty():
                self._read_pdu()
        except TimeoutError:
            self.end(End.TIMEOUT, "silent for too long", _ARTIM_EXPIRED if state == _AWAITING_REQUEST else _INVALID_PDU)
        except _BoxStops:
            self.end(End.STOPPED, "the box stops", _CLOSED if state == _AWAITING_REQUEST else _INVALID_PDU)
        except (OSError, EOFError) as exc:
            self.end(
                End.CLOSED, f"the connection was closed: {exc}" if str(exc) else "the connection was closed", _CLOSED
            )

    def _deadline(self) -> float:
        if self.state_machine.current_state != _ESTABLISHED:
            return self._request_by
        between = self.wire.is_empty and not self._user.busy
        return time.monotonic() + (self._timeouts.idle if between else self._timeouts.message)

    def _wait(self) -> None:
        """Wait until there is something to read; raises TimeoutError, or _BoxStops with nothing in hand.

        Slow is served, silent is not; before the association only so much slowness is borne.
        """
        deadline = self._deadline()
        while True:
            self._mind_the_stop()
            left = deadline - time.monotonic()
            ready = {fd for fd, _ in self._poll.poll(max(0, math.ceil(min(left, _LONGEST_POLL) * 1000)))}
            if ready - {self._stop.fd}:
                return
            if left <= 0:
                raise TimeoutError

    def _mind_the_stop(self) -> None:
        if self._stop.is_set:
            if not self._user.busy:
                raise _BoxStops
            with suppress(KeyError):
                self._poll.unregister(self._stop.fd)

    def _linger(self) -> None:
        """Throw away what still comes (PS3.8 AA-6), then close: with unread bytes the peer may miss the last answer."""
        with suppress(OSError):
            self.wire.linger(_LINGER)
        if self.socket is not None:
            self.socket.close()

    def _read_pdu(self) -> None:
        """Read one PDU and hand it on; raises OSError, EOFError, TimeoutError or _BoxStops."""
        wire = self.wire
        if self._stop.is_set:
            self._mind_the_stop()
        wire.have(6)
        kind, length = _HEADER.unpack_from(wire.view, wire.start)
        if not _ASSOCIATE_RQ <= kind <= _ABORT:
            is_tls = says_tls(wire.view[wire.start : wire.end])
            self.end(End.ABORTED, _TLS_HERE if is_tls else f"PDU type 0x{kind:02X}: this is not DICOM")
        elif length > _limit(kind, self._max_pdu):
            self.end(End.ABORTED, f"a PDU of {length} bytes")
        elif kind == _P_DATA and self.state_machine.current_state == _ESTABLISHED:
            wire.have(6 + length)
            at = wire.start + 6
            wire.start = at + length
            self._user.take_data(wire.view, at, at + length)
        else:
            self._take(kind, wire.take(6 + length))

    def _take(self, kind: int, raw: bytearray) -> None:
        if kind == _RELEASE_RQ and self._user.busy:
            self.end(End.ABORTED, "a release in the middle of a message")
            return
        try:
            pdu, event = self._decode_pdu(self._readable(kind, raw))
            if kind != _P_DATA:
                pdu.to_primitive()  # the state machine does it next, and some PDUs break only then
        except Exception as exc:  # noqa: BLE001  # whatever a decoder raises over a stranger's bytes: the PDU is invalid
            self.end(End.ABORTED, f"a PDU of type {kind} that cannot be read: {exc!r}")
            return
        self._recv_pdu.put(pdu)
        if kind == _ABORT:
            self.end(End.ABORTED, "the peer aborted", event)
        else:
            self.event_queue.put(event)

    def send(self, data: bytes) -> None:
        """Send bytes at once; a socket that fails ends the association, as the standard has it for a closed one."""
        try:
            self.wire.send(data)
        except OSError as exc:
            self.end(End.CLOSED, f"an answer could not be sent: {exc}", _CLOSED)

    def _send(self, pdu: Any) -> None:
        self.send(pdu.encode())

    def _readable(self, kind: int, raw: bytearray) -> bytearray:
        """A PDU that pynetdicom can read; a second request, which ends the association, changes nothing here."""
        if kind != _ASSOCIATE_RQ:
            return raw
        asked = read_request(raw)
        if self.state_machine.current_state == _AWAITING_REQUEST:
            self.asked = asked
        return bytearray(asked.pdu)
