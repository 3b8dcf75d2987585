"""Gives what goes to a group of destinations to one of its members, and to another one while nothing has arrived."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from magickbox.delivery import Delivery
from magickbox.destination import Destination
from magickbox.group import Choice, Group, choose
from magickbox.ledger import Ledger, Reads, Transaction, deliveries, groups, jobs, queues
from magickbox.logs import Note
from magickbox.queueing import Lane, Mode, lane_of

T = TypeVar("T")
Groups = Callable[[], Mapping[str, Group]]


class Commit(Protocol):
    """Writes to the ledger as ``Courier.commit`` does."""

    def __call__(self, write: Callable[[Transaction], T], *, soon: bool = ...) -> T: ...


class Picking:
    """Chooses members for the deliveries of one decision: each choice counts for those after it."""

    def __init__(self, ledger: Reads) -> None:
        self._ledger = ledger
        self._chosen: list[Choice] = []
        self._groups: list[Group] = []

    def __call__(self, group: Group, study: str) -> Choice:
        """The member of a group that gets a study (``group.Pick``)."""
        with self._ledger.reading() as tx:
            found = groups.situation(tx, group, study)
        choice = choose(group, found.after(self._chosen, group.name, study), study)
        self._chosen.append(choice)
        self._groups.append(group)
        return choice

    def is_as_it_was(self, tx: Transaction) -> bool:
        """True if no study that was chosen for is at another member by now: what was there may have moved meanwhile."""
        for n, (group, choice) in enumerate(zip(self._groups, self._chosen, strict=True)):
            found = groups.situation(tx, group, choice.study).after(self._chosen[:n], group.name, choice.study)
            if (found.bound or found.homes) and choose(group, found, choice.study).member != choice.member:
                return False
        return True


class Moving:
    """Moves deliveries away from members that are paused, drained, unreachable, or did not take them.

    Only what is open, of which nothing has arrived, whose study is nowhere in part, and with no attempt under way.
    """

    def __init__(self, ledger: Ledger, commit: Commit, named: Groups, note: Note) -> None:
        self._ledger, self._commit, self._named, self._note = ledger, commit, named, note

    def move_all(self) -> bool:
        """Move what can be moved now, and say whether anything was; raises Stopping."""
        moved = False
        for group in self._named().values():
            with self._ledger.reading() as tx:
                found = groups.movable(tx, group) if _any_well(tx, group) else []
            for delivery in found:
                moved = self._move(group, delivery) or moved
        return moved

    def _move(self, group: Group, delivery: Delivery) -> bool:
        moved = self._commit(lambda tx: _move_in(tx, group, delivery), soon=True)
        if moved is not None:
            facts = {"job": moved.job, "rule": moved.rule, "entry": moved.entry + 1, "delivery": moved.id}
            told = {"from": delivery.destination, "to": moved.destination, "reason": moved.reason}
            self._note("warning", "moved", {**facts, **told})
        return moved is not None

    def unreachable(self) -> list[Lane]:
        """The members that nobody answers at: they are asked though nothing waits for them."""
        with self._ledger.reading() as tx:
            names = (name for group in self._named().values() for name in group.names)
            return [name for name in names if queues.state_of(tx, name).circuit.is_open]


def _any_well(tx: Transaction, group: Group) -> bool:
    return any(queues.state_of(tx, name).word == Mode.RUNNING for name in group.names)


def _move_in(tx: Transaction, group: Group, delivery: Delivery) -> Delivery | None:
    if not groups.is_movable(tx, delivery):
        return None
    was, (_, study) = lane_of(delivery.destination), groups.group_of(tx, delivery.id)
    is_well = queues.state_of(tx, was).word == Mode.RUNNING
    if is_well and groups.has_arrived(tx, group.name, study, was):
        return None
    found, tried = groups.situation(tx, group, study), groups.tried(tx, delivery)
    choice = choose(group, found, study, tried | {was})
    if not (choice.is_well or is_well):
        choice = choose(group, found, study)
    if not choice.is_well or choice.member == was:
        return None
    if choice.by_turn:
        groups.took_turn(tx, group.name, choice.member)
    # The first try at a member is free: a group gives up as one destination does, after all its members were asked.
    tries = deliveries.get(tx, delivery.id).tries
    tries = tries if choice.member in tried else max(0, tries - 1)
    why = f"moved from {was} to {choice.member}: {choice.why}"
    for each in groups.companions(tx, delivery):  # or its study would be split
        groups.move(tx, each, _member_for(tx, group, choice.member, each), each.tries, why)
    return groups.move(tx, delivery, _member_for(tx, group, choice.member, delivery), tries, why)


def _member_for(tx: Transaction, group: Group, member: str, delivery: Delivery) -> Destination:
    job = jobs.get(tx, delivery.job)
    return group.member(member).for_job(job.calling_ae, job.called_ae, job.peer)
