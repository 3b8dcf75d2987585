"""pynetdicom's upper layer with limits: on PDU lengths, on silence, and on what AE titles may contain.

The stock one reads as many bytes as a length field promises, waits for them without end, and aborts on an AE title
that is not ASCII. Here a title is kept as it came, and pynetdicom is shown one that it can read.
"""

import select
import socket as sockets
import struct
import time
from dataclasses import dataclass
from typing import cast

from pynetdicom.association import Association as Connection
from pynetdicom.dul import DULServiceProvider

from magickbox.association import title_from_wire

_ASSOCIATE_RQ, _P_DATA, _ABORT = 1, 4, 7
_MAX_ASSOCIATE = 1024 * 1024
_MAX_OTHER = 64 * 1024
_CALLED, _CALLING = slice(10, 26), slice(26, 42)
_ESTABLISHED = "Sta6"


@dataclass(frozen=True)
class Timeouts:
    """Seconds of silence after which a peer is ended.

    ``request`` before its A-ASSOCIATE-RQ is whole, ``message`` in the middle of a message, ``idle`` between messages
    (workstations keep associations open for hours).
    """

    request: float = 30.0
    message: float = 60.0
    idle: float = 4 * 3600.0


class BoundedUpperLayer(DULServiceProvider):
    """The upper layer of one association of the box."""

    def __init__(self, connection: Connection, max_pdu: int, timeouts: Timeouts) -> None:
        super().__init__(connection)
        self._max_pdu = max_pdu
        self._timeouts = timeouts
        self._heard = time.monotonic()
        self.calling_ae = ""
        self.called_ae = ""
        self.peer_aborted = False
        self.silent = False

    def _is_transport_event(self) -> bool:
        """Wait a moment for bytes instead of asking a thousand times a second; answers are sent from this thread."""
        raw = self.socket.socket if self.socket is not None else None
        if self.state_machine.current_state == _ESTABLISHED and raw is not None and self.to_provider_queue.empty():
            try:
                waiter = select.poll()
                waiter.register(raw, select.POLLIN)
                if not waiter.poll(50):
                    return False
            except (OSError, ValueError):
                self.event_queue.put("Evt17")
                return False
            self._read_pdu_data()
            return True
        return super()._is_transport_event()

    def idle_timer_expired(self) -> bool:
        """True if the peer has been silent for too long, which depends on whether a message has begun."""
        busy = bool(getattr(self.assoc.dimse, "busy", False))
        limit = self._timeouts.message if busy else self._timeouts.idle
        if time.monotonic() - self._heard <= limit:
            return False
        self.silent = True
        return True

    def _read_pdu_data(self) -> None:
        """Read one PDU and put its event; see pynetdicom for the events."""
        try:
            head = self._read(6)
            kind, length = head[0], struct.unpack(">I", head[2:])[0]
            if length > self._limit(kind):
                self.event_queue.put("Evt19")
                return
            raw = head + self._read(length)
        except TimeoutError:
            self.silent = True
            self.event_queue.put("Evt17")
            return
        except (OSError, EOFError):
            self.event_queue.put("Evt17")
            return
        self._heard = time.monotonic()
        self._take(kind, raw)

    def _limit(self, kind: int) -> int:
        """The longest PDU of a type that is read: for P-DATA-TF what was announced, with room for the sloppy."""
        if kind == _P_DATA:
            return max(self._max_pdu * 2, _MAX_OTHER)
        return {_ASSOCIATE_RQ: _MAX_ASSOCIATE}.get(kind, _MAX_OTHER)

    def _read(self, count: int) -> bytearray:
        """Exactly ``count`` bytes; raises EOFError, OSError or TimeoutError. Slow is served, silent is not."""
        raw = cast(sockets.socket, self.socket.socket if self.socket else None)
        if raw is None:
            raise EOFError
        established = self.state_machine.current_state == _ESTABLISHED
        deadline = time.monotonic() + self._timeouts.request
        data = bytearray(count)
        view, at = memoryview(data), 0
        while at < count:
            left = self._timeouts.message if established else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            raw.settimeout(left)
            got = raw.recv_into(view[at:])
            if not got:
                raise EOFError
            at += got
        return data

    def _take(self, kind: int, raw: bytearray) -> None:
        if kind == _ASSOCIATE_RQ and len(raw) >= _CALLING.stop:
            self.called_ae, self.calling_ae = title_from_wire(raw[_CALLED]), title_from_wire(raw[_CALLING])
            for title in (_CALLED, _CALLING):
                raw[title] = _readable(raw[title])
        self.peer_aborted = self.peer_aborted or kind == _ABORT
        try:
            pdu, event = self._decode_pdu(raw)
        except Exception:  # noqa: BLE001  # a decoder meets what a stranger sent: whatever it raises, the PDU is invalid
            self.event_queue.put("Evt19")
            return
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)


def _readable(title: bytes | bytearray) -> bytes:
    """A title that pynetdicom takes: 16 printable ASCII characters, not all blank, no backslash."""
    plain = bytes(b if 0x20 <= b < 0x7F and b != 0x5C else 0x5F for b in title.rstrip(b"\0"))
    return (plain.strip() or b"_").ljust(16)
