"""The port, and the one with TLS beside it: an SCP that takes C-ECHO and C-STORE for any called AE title.

The upper layer's state machine and PDUs are pynetdicom's; threads, limits, admission, contexts and storing are ours.
This package reaches into pynetdicom 3.0's private parts (``_accepted_cx``, ``_kill_thread``), hence the pin in
pyproject.toml.
"""

import socket as sockets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from pynetdicom import AE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.transport import AssociationServer, RequestHandler

from magickbox.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from magickbox.intake import Intake
from magickbox.quiet import quiet_pynetdicom
from magickbox.scp.connection import MAX_PDU, IncomingConnection, Port
from magickbox.scp.stopping import Stopping
from magickbox.tls import ServerTls

__all__ = ["TLS_PORT", "Port", "Receiver"]

_BACKLOG = 128
_SPARE_CONNECTIONS = 50
_PAUSE = 0.05
TLS_PORT = "tls_port"  # in the place of a file name: which port an OSError of `start` is about

OnTrouble = Callable[[str], None]


class _Handler(RequestHandler):
    """Turns an accepted socket into an IncomingConnection with a thread of its own."""

    def handle(self) -> None:
        """Start the connection; raises OSError or RuntimeError, after which the server closes the socket."""
        server = cast(_Server, self.server)
        connection = self._create_association()
        server.connections.add(connection)
        try:
            connection.start()
        except RuntimeError:  # no more threads
            server.connections.discard(connection)
            raise

    def _create_association(self) -> IncomingConnection:
        server = cast(_Server, self.server)
        raw = cast(sockets.socket, self.request)
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)  # or each answer waits 40 ms for an ACK
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
        address = (str(self.client_address[0]).removeprefix("::ffff:"), int(self.client_address[1]))
        connection = IncomingConnection(
            self.ae, server.port, server.intake, raw, address, server.stopping, server.on_trouble,
            server.connections.discard, server.tls,
        )  # fmt: skip
        connection.acceptor.maximum_length = MAX_PDU
        connection.acceptor.ae_title = server.ae_title
        connection.acceptor.address_info = self.local
        connection.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        connection.acceptor.implementation_version_name = self.ae.implementation_version_name
        connection.requestor.address_info = self.remote
        return connection


class _Server(AssociationServer):
    """pynetdicom's server with a longer queue, and a bound on connections that have said nothing yet."""

    request_queue_size = _BACKLOG

    def __init__(self, ae: ApplicationEntity, port: Port, intake: Intake, on_trouble: OnTrouble) -> None:
        self.port, self.intake, self.on_trouble = port, intake, on_trouble
        self.tls: ServerTls | None = None
        self.stopping = Stopping()
        self.connections: set[IncomingConnection] = set()
        try:
            super().__init__(ae, (port.host, port.port), port.ae_title, [], request_handler=_Handler)
        except OSError:
            self.stopping.close()
            raise
        ae._servers.append(cast(Any, self))

    def serve(self) -> None:
        """Accept connections from now on, in a thread."""
        threading.Thread(target=self.serve_forever, args=(0.1,), name="port", daemon=True).start()

    def beside(self, port: Port, tls: ServerTls) -> "_Server":
        """The same on another port, with TLS; its connections are counted and stopped with these. Raises OSError."""
        other = _Server(self.ae, port, self.intake, self.on_trouble)
        other.stopping.close()
        other.tls, other.stopping, other.connections = tls, self.stopping, self.connections
        return other

    def get_request(self) -> tuple[sockets.socket, tuple[str, int]]:
        """Accept a connection; raises OSError."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_PAUSE)  # out of descriptors: the connection stays in the queue, and this would spin
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002  # socketserver's names
        """Close a connection at once when there are far more than associations are allowed."""
        return len(self.connections) < self.port.max_associations + _SPARE_CONNECTIONS

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # socketserver's names
        """A connection that could not even be set up is closed; the port goes on."""
        self.on_trouble(f"{client_address[0]}:{client_address[1]}: the connection could not be set up")

    def service_actions(self) -> None:
        """pynetdicom collects garbage by hand here; the interpreter does that by itself."""

    def end_connections(self, grace: float) -> None:
        """Answer what is in hand and abort; cut off what takes longer than ``grace`` seconds."""
        deadline = time.monotonic() + grace
        self.stopping.set()
        for connection in list(self.connections):
            connection.join(max(0.0, deadline - time.monotonic()))
        late = list(self.connections)
        for connection in late:
            connection.cut()
        for connection in late:
            connection.join(1.0)
        if not self.connections:
            self.stopping.close()


class Receiver:
    """The open port. ``start`` binds it, ``stop`` answers what is in hand and ends every association.

    ``on_trouble`` gets a text, from any thread, for every connection that did not end well.
    """

    def __init__(self, port: Port, intake: Intake, on_trouble: OnTrouble = lambda _why: None) -> None:
        self._settings, self._intake, self._on_trouble = port, intake, on_trouble
        self._server: _Server | None = None
        self._secure: _Server | None = None

    def start(self) -> None:
        """Bind and listen; raises OSError if a port is taken, ConfigError if the files of TLS cannot be used."""
        quiet_pynetdicom()
        ae = AE(self._settings.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = MAX_PDU
        port = self._settings
        tls = ServerTls(port.tls) if port.tls else None
        server = _Server(ae, port, self._intake, self._on_trouble)
        if tls is not None:
            try:
                self._secure = server.beside(replace(port, port=port.tls_port), tls)
            except OSError as exc:
                server.server_close()
                server.stopping.close()
                raise OSError(exc.errno, exc.strerror, TLS_PORT) from exc
            self._secure.serve()
        self._server = server
        server.serve()

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that are listened on."""
        assert self._server is not None
        return str(self._server.server_address[0]), int(self._server.server_address[1])

    @property
    def tls_address(self) -> tuple[str, int] | None:
        """The host and port that are listened on with TLS, if they are."""
        return None if self._secure is None else (str(self._secure.server_address[0]), self._secure.server_address[1])

    def stop(self, grace: float = 10.0) -> None:
        """No new associations; C-STOREs in hand are answered, for at most ``grace`` seconds; then abort."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        if self._secure is not None:
            self._secure.shutdown()
        server.end_connections(grace)
