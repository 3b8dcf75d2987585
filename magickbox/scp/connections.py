"""The connections that this process serves, each in a thread of its own."""

import socket as sockets
import time
from collections.abc import Callable

from pynetdicom import AE
from pynetdicom.transport import AddressInformation

from magickbox.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from magickbox.intake import Intake
from magickbox.quiet import quiet_pynetdicom
from magickbox.scp.connection import MAX_PDU, IncomingConnection, Port
from magickbox.scp.listener import Address
from magickbox.scp.stopping import Stopping
from magickbox.tls import ServerTls

OnTrouble = Callable[[str], None]


class Connections:
    """Serves every socket that it is given, until ``end``. ``on_close`` is called after each connection's end."""

    def __init__(
        self, port: Port, intake: Intake, on_trouble: OnTrouble, on_close: Callable[[], None] = lambda: None
    ) -> None:
        """Raises ConfigError if the files of TLS cannot be used."""
        quiet_pynetdicom()
        self._port, self._intake, self._on_trouble, self._on_close = port, intake, on_trouble, on_close
        self._tls = ServerTls(port.tls) if port.tls else None
        self._ae = AE(port.ae_title)
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._ae.maximum_pdu_size = MAX_PDU
        self._stopping = Stopping()
        self._open: set[IncomingConnection] = set()

    def start(self) -> None:
        """Nothing to start: threads come with connections."""

    def count(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def take(self, raw: sockets.socket, address: Address, secure: bool) -> None:
        """Serve a connected socket from now on; raises OSError or RuntimeError, and then does not own it."""
        connection = IncomingConnection(
            self._ae, self._port, self._intake, raw, address, self._stopping, self._on_trouble, self._closed,
            self._tls if secure else None,
        )  # fmt: skip
        connection.acceptor.maximum_length = MAX_PDU
        connection.acceptor.ae_title = self._port.ae_title
        connection.acceptor.address_info = AddressInformation.from_tuple(raw.getsockname())
        connection.acceptor.implementation_class_uid = self._ae.implementation_class_uid
        connection.acceptor.implementation_version_name = self._ae.implementation_version_name
        connection.requestor.address_info = AddressInformation.from_tuple(address)
        self._open.add(connection)
        try:
            connection.start()
        except RuntimeError:  # no more threads
            self._open.discard(connection)
            raise

    def _closed(self, connection: IncomingConnection) -> None:
        self._open.discard(connection)
        self._on_close()

    def end(self, grace: float) -> None:
        """Answer what is in hand and abort; cut off what takes longer than ``grace`` seconds."""
        deadline = time.monotonic() + grace
        self._stopping.set()
        for connection in list(self._open):
            connection.join(max(0.0, deadline - time.monotonic()))
        late = list(self._open)
        for connection in late:
            connection.cut()
        for connection in late:
            connection.join(1.0)
        if not self._open:
            self._stopping.close()
