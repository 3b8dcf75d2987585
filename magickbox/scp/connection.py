"""One connection to the port, from accept to close, in one thread: admission, service, release, and the report."""

import socket as sockets
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association as Connection
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_RELEASE
from pynetdicom.transport import AssociationSocket

from magickbox.association import Association, End
from magickbox.clock import now
from magickbox.incoming.folder import AssociationFolder
from magickbox.incoming.quarantine import Quarantine
from magickbox.intake import Intake, Refusal, Request
from magickbox.scp.contexts import ACCEPTED, answer, roles
from magickbox.scp.handshake import Failed, shake_hands
from magickbox.scp.stopping import Stopping
from magickbox.scp.store import StoreProvider
from magickbox.scp.upper import BoundedUpperLayer, Timeouts
from magickbox.steps import Reached, unwatched
from magickbox.tls import ServerTls, TlsSocket
from magickbox.tlsfiles import TlsFiles

MAX_PDU = 128 * 1024
_ABORT = b"\x07\0\0\0\0\4\0\0\2\0"  # by the service provider, reason not specified (PS3.8 9.3.8)


@dataclass(frozen=True)
class Port:
    """What a receiver needs to know; port 0 takes a free one. With ``tls``, ``tls_port`` is open too.

    ``receivers`` is in how many processes connections are served; 0: in this one.
    """

    incoming: Path
    quarantine: Quarantine
    host: str = "127.0.0.1"
    port: int = 0
    ae_title: str = "MAGICKBOX"
    fsync: bool = True
    max_associations: int = 200
    timeouts: Timeouts = field(default_factory=Timeouts)
    reached: Reached = unwatched
    tls: TlsFiles | None = None
    tls_port: int = 0
    receivers: int = 0


class Admission(ACSE):
    """Answers an A-ASSOCIATE-RQ: asks the intake, then accepts what it knows (PS3.8 7.1)."""

    def _negotiate_as_acceptor(self) -> None:
        connection = cast(IncomingConnection, self.assoc)
        asked = cast(A_ASSOCIATE, self.requestor.primitive)
        self.requestor.ae_title = asked.calling_ae_title
        admitted = connection.admit()
        if isinstance(admitted, Refusal):
            self.send_reject(admitted.result, admitted.source, admitted.reason)
            return
        contexts = answer(asked.presentation_context_definition_list, self.requestor.role_selection)
        connection._accepted_cx = {cast(int, c.context_id): c for c in contexts if c.result == ACCEPTED}
        connection._rejected_cx = [c for c in contexts if c.result != ACCEPTED]
        syntaxes = {number: str(c.transfer_syntax[0]) for number, c in connection._accepted_cx.items()}
        connection.store.accepted(syntaxes, self.requestor.maximum_length or 0)
        for item in roles(self.requestor.role_selection, connection._accepted_cx.values()):
            self.acceptor.add_negotiation_item(item)
        self.send_accept()
        connection.is_established = True


class IncomingConnection(Connection):
    """One connection. Its thread is the only one that writes into its folder; ``cut`` may come from another."""

    def __init__(
        self,
        ae: ApplicationEntity,
        port: Port,
        intake: Intake,
        raw: sockets.socket,
        address: tuple[str, int],
        stop: Stopping,
        on_trouble: Callable[[str], None],
        on_close: Callable[["IncomingConnection"], None],
        tls: ServerTls | None = None,
    ) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.name = f"association from {address[0]}"
        self._port, self._intake, self._raw, self._address = port, intake, raw, address
        self._on_trouble, self._on_close = on_trouble, on_close
        self._stopping, self._tls = stop, tls
        self._admitted: Association | None = None
        self._folder: AssociationFolder | None = None
        self.acse = Admission(self)
        self.dul: BoundedUpperLayer = BoundedUpperLayer(self, self, raw, MAX_PDU, port.timeouts, stop)
        self.store = StoreProvider(self.dul.wire, self.dul.send, self._abort_because, port.reached)
        self.acse_timeout = port.timeouts.request
        self.set_socket(AssociationSocket(self, client_socket=raw))

    @property
    def busy(self) -> bool:
        """True if a message has begun that is not yet answered."""
        return self.store.busy

    def take_data(self, view: memoryview, at: int, end: int) -> None:
        """The body of a P-DATA-TF (see ``upper.User``)."""
        self.store.take_data(view, at, end)

    def release_data(self) -> None:
        """What was handed over will be overwritten (see ``upper.User``)."""
        self.store.release_data()

    def admit(self) -> Association | Refusal:
        """Ask the intake; an admitted association gets its folder at its first C-STORE."""
        asked = self.dul.asked
        assert asked is not None
        admitted = self._intake.admit(Request(asked.calling_ae, asked.called_ae, self._address, *self._proof()))
        if isinstance(admitted, Association):
            port = self._port
            self._admitted = admitted
            self._folder = AssociationFolder(
                port.incoming, admitted, port.quarantine, fsync=port.fsync, reached=port.reached
            )
            self.store.serve(self._intake, self._folder, asked.sop_classes)
        return admitted

    def run_reactor(self) -> None:
        """Serve the connection, and report its end whatever happens to it."""
        try:
            if self._tls is None or self._secure(self._tls):
                self.dul.serve()
        except Exception:  # noqa: BLE001  # worker boundary: one association must not end the port for others
            self._broke(traceback.format_exc())
        finally:
            self._raw.close()
            self._over()
            self._on_close(self)

    def _secure(self, tls: ServerTls) -> bool:
        """Begin TLS; False if that failed, and why is told at the end."""
        secured = shake_hands(self._raw, tls, self._stopping, self._port.timeouts.request)
        if isinstance(secured, Failed):
            self.dul.ending, self.dul.why = secured.how, secured.why
            return False
        self._raw = secured
        self.dul.use(secured)
        return True

    def _proof(self) -> tuple[str | None, str | None]:
        """The version of TLS, and the name in the peer's certificate."""
        raw = self._raw
        return (raw.version(), raw.common_name()) if isinstance(raw, TlsSocket) else (None, None)

    def indicate(self, primitive: object) -> None:
        """Answer a request for an association or for its release (PS3.8 7.1, 7.2)."""
        if isinstance(primitive, A_ASSOCIATE):
            self.requestor.primitive = primitive
            self.acse.negotiate_association()
        elif isinstance(primitive, A_RELEASE):
            self.is_established, self.is_released = False, True
            self.acse.send_release(is_response=True)

    def cut(self) -> None:
        """Close the connection from another thread: the box stops and has waited long enough."""
        self.dul.ending = self.dul.ending or End.STOPPED
        with suppress(OSError):
            self._raw.shutdown(sockets.SHUT_RDWR)

    def _abort_because(self, why: str) -> None:
        self.dul.end(End.ABORTED, why)

    def _broke(self, trace: str) -> None:
        self.dul.ending = End.ABORTED
        self.dul.why = f"an error of the box: {trace}"
        self.is_released = False
        with suppress(OSError):
            self._raw.send(_ABORT)

    def _over(self) -> None:
        """Tell everyone how it ended; an end that the box or the peer did not want is told in words too."""
        self.store.drop()
        how, ended = self.how(), now()
        if how.is_abort and self.dul.why:
            name = self._admitted.id if self._admitted else f"{self._address[0]}:{self._address[1]}"
            self._on_trouble(f"{name}: {self.dul.why}")
        if self._admitted is None or self._folder is None:
            return
        try:
            self._folder.end(how, ended)
        except OSError:
            # Full disk: the folder keeps saying that it is open, and counts as aborted at the next start.
            how = how if how.is_abort else End.ABORTED
        finally:
            self._intake.ended(replace(self._admitted, how=how, ended=ended), how)

    def how(self) -> End:
        """How this association ended."""
        return End.RELEASED if self.is_released else self.dul.ending or End.CLOSED
