"""A deliver stage on a ledger of its own, for the tests of the stage."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import peers
from planned import routed, with_files

from magickbox.deliver import Deliver
from magickbox.delivery import DeliveryState, ItemState, NewDelivery
from magickbox.destination import Delivered, DicomDestination, Rejected, Result, Retry
from magickbox.grouping import Groups
from magickbox.job import JobState, Move
from magickbox.ledger import Ledger, deliveries, jobs
from magickbox.pace import Pace
from magickbox.prover import Provers
from magickbox.queueing import DestinationPolicy, Lane
from magickbox.sender import Answer, FakeSender, Item, Sender
from magickbox.steps import Reached, unwatched

QUICK = Pace().scaled(0.01)


@dataclass
class Box:
    """A stage with its ledger, and what it noted."""

    ledger: Ledger
    folder: Path
    sender: Sender
    pace: Pace = QUICK
    reached: Reached = unwatched
    policy_of: Callable[[Lane], DestinationPolicy] = lambda _lane: DestinationPolicy()
    provers: Provers | None = None
    groups: Groups = dict
    notes: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def stage(self) -> Deliver:
        """The stage, not started."""
        return Deliver(
            self.ledger,
            self.sender,
            lambda job: self.folder / job,
            policy_of=self.policy_of,
            provers=self.provers,
            groups=self.groups,
            pace=self.pace,
            note=lambda level, event, facts: self.notes.append((level, event, dict(facts))),
            reached=self.reached,
            rng=random.Random(1),
        )

    @contextmanager
    def running(self) -> Iterator[Deliver]:
        """The stage, running until the block is left."""
        stage = self.stage()
        stage.start()
        try:
            yield stage
        finally:
            assert stage.stop(5.0)

    def routed(self, *planned: NewDelivery, name: str = "job") -> list[int]:
        """Record a routed job whose files are there."""
        for new in planned:
            with_files(
                self.folder / name, [item for item in new.items if not (self.folder / name / item.file).exists()]
            )
        return routed(self.ledger, *planned, name=name)

    def states(self, name: str = "job") -> list[DeliveryState]:
        """The states of a job's deliveries."""
        with self.ledger.reading() as tx:
            return [delivery.state for delivery in deliveries.listing(tx, name)]

    def job(self, name: str = "job") -> JobState:
        """A job's state."""
        with self.ledger.reading() as tx:
            return jobs.get(tx, name).state

    def items(self, number: int) -> list[ItemState]:
        """The states of a delivery's instances."""
        with self.ledger.reading() as tx:
            return [item.state for item in deliveries.instances_of(tx, number)]

    def ends(self, state: JobState = JobState.DONE, name: str = "job") -> None:
        """Wait until a job is over."""
        peers.wait_for(lambda: self.job(name) is state, f"{name} to be {state}, notes: {self.notes}")

    def move(self, step: Move, name: str = "job") -> None:
        """Move a job, as a person does."""
        with self.ledger.transaction() as tx:
            jobs.move(tx, name, step, "asked", "anna")


def fake(box: Box) -> FakeSender:
    """The box's fake sender."""
    assert isinstance(box.sender, FakeSender)
    return box.sender


def unreachable(*titles: str) -> Callable[[DicomDestination], str | None]:
    """Nobody is at these AE titles."""
    return lambda destination: "connection refused" if destination.called_ae in titles else None


def answers(by_uid: dict[str, Sequence[Result]]) -> Answer:
    """Each instance's answers one after another, the last for ever."""
    left = {uid: list(results) for uid, results in by_uid.items()}

    def answer(_destination: DicomDestination, item: Item) -> Result:
        results = left.get(item.sop_instance, [Delivered()])
        return results.pop(0) if len(results) > 1 else results[0]

    return answer


REFUSED, BUSY, GONE = Rejected("0xA900", 0xA900), Retry("0x0110", 0x0110), Retry("the peer aborted the association")
