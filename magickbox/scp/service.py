"""The contract of a service of the port beside C-STORE and C-ECHO.

A service answers one message after another in the association's own thread. What it learns goes to the coordinator
through the intake; it opens neither ledger nor job folders, because it may live in a receiver process.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from magickbox.association import Association
from magickbox.dicom.commandset import Command
from magickbox.intake import Intake


@dataclass(frozen=True)
class Message:
    """A request of the peer's, whole: its command set, its dataset (empty if there is none) and how that is coded."""

    command: Command
    dataset: bytes
    transfer_syntax: str


@dataclass(frozen=True)
class Response:
    """One answer to it; several of them, the last with a final status, where a service says so (PS3.7 9.1.2)."""

    status: int
    comment: str = ""
    dataset: bytes = b""


class Service(Protocol):
    """A DIMSE service (PS3.7 9, 10) for some SOP classes."""

    @property
    def sop_classes(self) -> frozenset[str]:
        """The SOP classes that are its own."""
        ...

    @property
    def syntaxes(self) -> tuple[str, ...]:
        """The transfer syntaxes that it reads."""
        ...

    @property
    def fields(self) -> frozenset[int]:
        """The requests that it answers; others are refused."""
        ...

    @property
    def longest(self) -> int:
        """The most that a dataset may have, in bytes: it is kept in memory."""
        ...

    @property
    def peer_is_scp(self) -> bool:
        """True if the peer is its SCP and the box the SCU, not the other way round (PS3.7 D.3.3.4)."""
        ...

    def answer(self, message: Message, association: Association, intake: Intake) -> Iterator[Response]:
        """The responses to a request, one after another."""
        ...
