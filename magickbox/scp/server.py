"""The one port: an SCP that takes C-ECHO and C-STORE for any called AE title.

Sockets, the upper layer's state machine and release are pynetdicom's; admission, contexts and storing are ours. This
reaches into pynetdicom 3.0's private parts (``_accepted_cx``, ``_run_reactor``), hence the pin in pyproject.toml.
"""

import socket as sockets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association as Connection
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from magickbox.association import Association, End
from magickbox.associationfolder import AssociationFolder
from magickbox.clock import now
from magickbox.intake import Intake, Refusal, Request
from magickbox.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from magickbox.quarantine import Quarantine
from magickbox.quiet import quiet_pynetdicom
from magickbox.scp.contexts import ACCEPTED, answer, roles
from magickbox.scp.store import StoreProvider
from magickbox.scp.upper import BoundedUpperLayer, Timeouts
from magickbox.steps import Reached, unwatched

MAX_PDU = 128 * 1024
_BACKLOG = 128
_SPARE_CONNECTIONS = 50


@dataclass(frozen=True)
class Port:
    """What a receiver needs to know; ``port`` 0 takes a free one."""

    incoming: Path
    quarantine: Quarantine
    host: str = "127.0.0.1"
    port: int = 0
    ae_title: str = "MAGICKBOX"
    fsync: bool = True
    max_associations: int = 200
    timeouts: Timeouts = field(default_factory=Timeouts)
    reached: Reached = unwatched


class Admission(ACSE):
    """Answers an A-ASSOCIATE-RQ: asks the intake, then accepts what it knows (PS3.8 7.1)."""

    def _negotiate_as_acceptor(self) -> None:
        connection = cast(IncomingConnection, self.assoc)
        asked = cast(A_ASSOCIATE, self.requestor.primitive)
        self.requestor.ae_title = asked.calling_ae_title
        admitted = connection.admit()
        if isinstance(admitted, Refusal):
            self.send_reject(admitted.result, admitted.source, admitted.reason)
            connection.kill()
            return
        contexts = answer(asked.presentation_context_definition_list)
        connection._accepted_cx = {cast(int, c.context_id): c for c in contexts if c.result == ACCEPTED}
        connection._rejected_cx = [c for c in contexts if c.result != ACCEPTED]
        for item in roles(self.requestor.role_selection, connection._accepted_cx.values()):
            self.acceptor.add_negotiation_item(item)
        self.send_accept()
        connection.is_established = True


class IncomingConnection(Connection):
    """One connection to the port, from accept to close."""

    def __init__(self, ae: ApplicationEntity, port: Port, intake: Intake, address: tuple[str, int]) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self._port, self._intake, self._address = port, intake, address
        self._admitted: Association | None = None
        self._folder: AssociationFolder | None = None
        self._stopped = False
        self.acse = Admission(self)
        self.dul: BoundedUpperLayer = BoundedUpperLayer(self, MAX_PDU, port.timeouts)
        self.dimse: StoreProvider = StoreProvider(self, port.reached)
        self.acse_timeout = port.timeouts.request
        self.network_timeout = port.timeouts.idle

    def admit(self) -> Association | Refusal:
        """Ask the intake; an admitted association gets its folder at its first C-STORE."""
        admitted = self._intake.admit(Request(self.dul.calling_ae, self.dul.called_ae, self._address))
        if isinstance(admitted, Association):
            port = self._port
            self._admitted = admitted
            self._folder = AssociationFolder(
                port.incoming, admitted, port.quarantine, fsync=port.fsync, reached=port.reached
            )
            self.dimse.serve(self._intake, self._folder)
        return admitted

    def run_reactor(self) -> None:
        """Serve the connection, and report its end whatever happens to it."""
        try:
            super().run_reactor()
        finally:
            self._over()

    def _over(self) -> None:
        self.dimse.drop()
        if self._admitted is None or self._folder is None:
            return
        how, ended = self.how(), now()
        try:
            self._folder.end(how, ended)
        except OSError:
            # Full disk: the folder keeps saying that it is open, and counts as aborted at the next start.
            how = how if how.is_abort else End.ABORTED
        finally:
            self._intake.ended(replace(self._admitted, how=how, ended=ended), how)

    def how(self) -> End:
        """How this association ended."""
        if self.is_released:
            return End.RELEASED
        if self._stopped:
            return End.STOPPED
        if self.dul.silent:
            return End.TIMEOUT
        if self.dul.peer_aborted or self.dimse.why_aborted:
            return End.ABORTED
        return End.CLOSED

    def stop_soon(self) -> None:
        """Answer the C-STORE in hand, then abort."""
        self._stopped = True
        self.dimse.finish()
        if not self.dimse.busy and self.is_established:
            self.abort()


class _Handler(RequestHandler):
    """Turns an accepted socket into an IncomingConnection."""

    def _create_association(self) -> Connection:
        server = cast(_Server, self.server)
        raw = cast(sockets.socket, self.request)
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
        address = (str(self.client_address[0]).removeprefix("::ffff:"), int(self.client_address[1]))
        connection = IncomingConnection(self.ae, server.port_settings, server.intake, address)
        connection._server = server
        connection.name = "AcceptorThread@magickbox"
        connection.set_socket(AssociationSocket(connection, client_socket=raw))
        connection.acceptor.maximum_length = MAX_PDU
        connection.acceptor.ae_title = server.ae_title
        connection.acceptor.address_info = self.local
        connection.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        connection.acceptor.implementation_version_name = self.ae.implementation_version_name
        connection.requestor.address_info = self.remote
        return connection


class _Server(ThreadedAssociationServer):
    """pynetdicom's server with a longer queue, and a bound on connections that have said nothing yet."""

    request_queue_size = _BACKLOG
    daemon_threads = True

    def __init__(self, ae: ApplicationEntity, settings: Port, intake: Intake) -> None:
        self.port_settings, self.intake = settings, intake
        super().__init__(ae, (settings.host, settings.port), settings.ae_title, [], request_handler=_Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002  # socketserver's names
        """Close a connection at once when there are far more than associations are allowed."""
        return len(self.active_associations) < self.port_settings.max_associations + _SPARE_CONNECTIONS

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that could not even be set up is closed; the port goes on."""

    def service_actions(self) -> None:
        """pynetdicom collects garbage by hand here; the interpreter does that by itself."""


class Receiver:
    """The open port. ``start`` binds it, ``stop`` answers what is in hand and ends every association."""

    def __init__(self, port: Port, intake: Intake, on_failure: Callable[[str], None] = lambda _why: None) -> None:
        self._settings, self._intake, self._on_failure = port, intake, on_failure
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind and listen; raises OSError if the port is taken."""
        quiet_pynetdicom()
        ae = AE(self._settings.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = MAX_PDU
        self._server = _Server(ae, self._settings, self._intake)
        ae._servers.append(self._server)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="port", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that are listened on."""
        assert self._server is not None
        return str(self._server.server_address[0]), int(self._server.server_address[1])

    def stop(self, grace: float = 10.0) -> None:
        """No new associations; C-STOREs in hand are answered, for at most ``grace`` seconds; then abort."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        deadline = time.monotonic() + grace
        connections = [c for c in server.active_associations if isinstance(c, IncomingConnection)]
        for connection in connections:
            connection.stop_soon()
        for connection in connections:
            connection.join(max(0.0, deadline - time.monotonic()))
            if connection.is_alive():
                connection.abort()
                connection.join(1.0)
