"""A Delivery: the bringing of some of a job's instances to one destination, and its states.

A rule's entries become deliveries when the job is routed. A *gate* (``break`` 1) keeps the later entries of its rule
waiting: they are skipped if it delivers and opened if it fails.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from magickbox.destination import Destination


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "WAITING"  # the gate before it is not decided
    OPEN = "OPEN"  # being tried, or to be tried again
    DELIVERED = "DELIVERED"  # the destination has every instance
    REPLACED = "REPLACED"  # failed, and an entry that waited for it took over: no alarm
    DEAD = "DEAD"  # failed, and nothing takes over: a person should look
    SKIPPED = "SKIPPED"  # the gate before it delivered
    CANCELLED = "CANCELLED"  # taken back by a person, or by a new decision


class Priority(IntEnum):
    """What goes first within a destination's queue."""

    URGENT = 0
    NORMAL = 1
    LOW = 2

    @property
    def word(self) -> str:
        """As the rules write it."""
        return self.name.lower()


UNDECIDED = frozenset({DeliveryState.WAITING, DeliveryState.OPEN})


class ItemState(StrEnum):
    """Where one instance of a delivery stands."""

    PENDING = "PENDING"  # not sent, or not with success
    SENT = "SENT"  # the destination has it
    REFUSED = "REFUSED"  # refused for good once; asked again on a second association
    REJECTED = "REJECTED"  # refused for good twice


@dataclass(frozen=True)
class NewItem:
    """An instance that is to be delivered; ``file`` is its path below the job folder."""

    file: str
    sop_instance: str
    sop_class: str
    transfer_syntax: str


@dataclass(frozen=True)
class NewDelivery:
    """An entry that applies, as the decision hands it over to be recorded.

    ``waits_for`` is the position, in the sequence handed over with it, of the nearest gate before it in its rule.
    ``has_fallback`` says that a later entry takes over if this one fails: its retry budget is then short. ``held``, if
    not empty, says why it is not to be sent: it is DEAD from the beginning, until a person tries it. ``group`` is the
    group of destinations that it is for, if any, and ``study`` the study by which its member was chosen.
    """

    rule: str
    entry: int
    destination: Destination
    gate: bool
    waits_for: int | None
    has_fallback: bool
    items: tuple[NewItem, ...]
    held: str = ""
    priority: Priority = Priority.NORMAL
    group: str = ""
    study: str = ""


@dataclass(frozen=True)
class Delivery:
    """A delivery as the ledger knows it.

    ``tries`` counts the attempts of its present budget: all of them if it has a fallback, otherwise those since it
    last got an instance through. ``opened`` is when that budget began.
    """

    id: int
    job: str
    decision: int
    rule: str
    entry: int
    destination: Destination
    gate: bool
    waits_for: int | None
    has_fallback: bool
    state: DeliveryState
    opened: datetime | None
    tries: int
    next_try: datetime | None
    ended: datetime | None
    reason: str
    instances: int
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True)
class DeliveryItem:
    """One instance of a delivery; ``n`` is its place in the selection, ``status`` what the destination said last."""

    n: int
    file: str
    sop_instance: str
    sop_class: str
    transfer_syntax: str
    state: ItemState
    status: int | None
    reason: str
    at: datetime | None


@dataclass(frozen=True)
class DeliveryAttempt:
    """One try at a delivery: how many instances it got through, how many were refused, and how it ended."""

    n: int
    began: datetime
    ended: datetime | None
    sent: int
    refused: int
    result: str


@dataclass(frozen=True)
class Progress:
    """How many instances of a delivery are in each state."""

    pending: int = 0
    sent: int = 0
    refused: int = 0
    rejected: int = 0
