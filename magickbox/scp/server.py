"""The port, and the one with TLS beside it: an SCP that takes C-ECHO and C-STORE for any called AE title.

The upper layer's state machine and PDUs are pynetdicom's; sockets, threads, processes, limits, admission, contexts and
storing are ours. This package reaches into pynetdicom 3.0's private parts (``_accepted_cx``, ``_kill_thread``), hence
the pin in pyproject.toml.
"""

import socket as sockets
from typing import Protocol

from magickbox.intake import Intake
from magickbox.scp.connection import Port
from magickbox.scp.connections import Connections, OnTrouble
from magickbox.scp.crew import Crew
from magickbox.scp.listener import Address, Listener

__all__ = ["TLS_PORT", "Port", "Receiver"]

_SPARE_CONNECTIONS = 50
TLS_PORT = "tls_port"  # in the place of a file name: which port an OSError of `start` is about


class Hands(Protocol):
    """Who serves connections: threads of this process, or processes of their own."""

    def start(self) -> None:
        """Be ready; raises OSError or ConfigError."""

    def count(self) -> int:
        """How many connections are open."""
        ...

    def take(self, raw: sockets.socket, address: Address, secure: bool) -> None:
        """Serve a connected socket; raises OSError or RuntimeError, and then does not own it."""

    def end(self, grace: float) -> None:
        """Answer what is in hand and abort; cut off what takes longer than ``grace`` seconds."""


class Receiver:
    """The open port. ``start`` binds it, ``stop`` answers what is in hand and ends every association.

    ``on_trouble`` gets a text, from any thread, for every connection that did not end well.
    """

    def __init__(self, port: Port, intake: Intake, on_trouble: OnTrouble = lambda _why: None) -> None:
        self._port, self._intake, self._on_trouble = port, intake, on_trouble
        self._hands: Hands | None = None
        self._plain: Listener | None = None
        self._secure: Listener | None = None

    def start(self) -> None:
        """Bind and listen; raises OSError if a port is taken, ConfigError if the files of TLS cannot be used."""
        kind = Crew if self._port.receivers else Connections
        self._hands = kind(self._port, self._intake, self._on_trouble)
        try:
            self._open_ports(self._hands)
            self._hands.start()
        except BaseException:
            self.stop(0.0)
            raise
        for listener in self._listeners():
            listener.start()

    def _open_ports(self, hands: Hands) -> None:
        self._plain = self._listen(hands, self._port.port, secure=False)
        if self._port.tls is not None:
            try:
                self._secure = self._listen(hands, self._port.tls_port, secure=True)
            except OSError as exc:
                raise OSError(exc.errno, exc.strerror, TLS_PORT) from exc

    def _listen(self, hands: Hands, number: int, secure: bool) -> Listener:
        def has_place() -> bool:
            return hands.count() < self._port.max_associations + _SPARE_CONNECTIONS

        def hand_over(raw: sockets.socket, address: Address) -> None:
            hands.take(raw, address, secure)

        return Listener(self._port.host, number, hand_over, has_place, self._on_trouble)

    def _listeners(self) -> list[Listener]:
        return [listener for listener in (self._plain, self._secure) if listener is not None]

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that are listened on."""
        assert self._plain is not None
        return self._plain.address

    @property
    def tls_address(self) -> tuple[str, int] | None:
        """The host and port that are listened on with TLS, if they are."""
        return None if self._secure is None else self._secure.address

    @property
    def connections(self) -> int:
        """How many connections are open, with those that have not asked for an association yet."""
        return 0 if self._hands is None else self._hands.count()

    def stop(self, grace: float = 10.0) -> None:
        """No new associations; C-STOREs in hand are answered, for at most ``grace`` seconds; then abort."""
        for listener in self._listeners():
            listener.stop()
        if self._hands is not None:
            self._hands.end(grace)
        self._plain = self._secure = self._hands = None
