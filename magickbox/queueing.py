"""What the queue of a destination may do: the words for it, apart from the network and the ledger."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from magickbox.breaker import Circuit
from magickbox.delivery import Priority
from magickbox.destination import Destination, DicomDestination
from magickbox.schedule import Hours, Rate

OVERTAKING = 60 * 60.0  # s; so much later may something more urgent by one step come due and still go first

# A destination's queue, as a person names it: by the name that the rules give it, else by its place
# (PACS@10.0.0.5:104), whatever the box calls itself there.
Lane = str


def lane_of(destination: Destination) -> Lane:
    """The queue that a destination's deliveries stand in; a sender's own if they go back to their senders."""
    if isinstance(destination, DicomDestination) and destination.to_sender:
        return f"{destination.name or destination.called_ae}@{destination.host}:{destination.port}"
    return destination.name or str(destination)


class Mode(StrEnum):
    """What a person said of a destination's queue; kept over a restart."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"  # nothing is sent until it is resumed
    DRAINING = "DRAINING"  # what was open when that was said is sent, nothing that came later


@dataclass(frozen=True)
class DestinationPolicy:
    """How a destination wants to be served: deliveries at once, over one association each; when; how much.

    ``asked`` is how it is asked whether it is there while nothing waits for it, because others stand in for it.
    """

    connections: int = 1
    hours: Hours | None = None
    rate: Rate = field(default_factory=Rate)
    asked: Destination | None = None


@dataclass(frozen=True)
class QueueState:
    """What is known of a destination's queue beside its deliveries.

    ``since`` and ``who`` belong to the mode. Since ``troubled`` no attempt got anything through, because of
    ``trouble``.
    """

    mode: Mode = Mode.RUNNING
    since: datetime | None = None
    who: str = ""
    circuit: Circuit = field(default_factory=Circuit)
    troubled: datetime | None = None
    trouble: str = ""

    @property
    def opened_until(self) -> datetime | None:
        """Only deliveries that were open by then are sent; None means all."""
        return self.since if self.mode is Mode.DRAINING else None

    @property
    def word(self) -> str:
        """Its state in one word: what a person said, or whether somebody answers."""
        if self.mode is not Mode.RUNNING:
            return self.mode
        return "UNREACHABLE" if self.circuit.is_open else self.mode


def turn_of(due: datetime, priority: Priority) -> datetime:
    """What goes first is what has the earliest turn: nothing waits for ever behind what is more urgent."""
    return due + timedelta(seconds=OVERTAKING * priority)


def until_given_up(moment: datetime, opened: datetime | None, budget: float) -> float:
    """Seconds until a delivery that is open since then has used its budget; 0 if it has."""
    return max(0.0, budget - (moment - (opened or moment)).total_seconds())
