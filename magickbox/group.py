"""A group of destinations: which of its members takes a delivery, and why. Pure, with the members' state given.

All of one study goes to one member. A member that is paused, drained or unreachable takes nothing new.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from magickbox.destination import Destination
from magickbox.tagpath import TagPath, parse_tag_path

STUDY = parse_tag_path("StudyInstanceUID")


class Policy(StrEnum):
    """Which member takes a study that no member has."""

    FAILOVER = "failover"  # the first that is well
    ROUND_ROBIN = "round_robin"  # one after another
    LEAST_QUEUED = "least_queued"  # the one for which the fewest deliveries wait


@dataclass(frozen=True)
class Group:
    """Destinations that stand in for one another, by their names in the order of the rules."""

    name: str
    members: tuple[Destination, ...]
    policy: Policy

    def __str__(self) -> str:
        """As a person reads it: ``PACS (failover of PACS1, PACS2)``."""
        return f"{self.name} ({self.policy} of {', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its members, which are those of their queues, too."""
        return tuple(each.name for each in self.members)

    def member(self, name: str) -> Destination:
        """The member of that name."""
        return next(each for each in self.members if each.name == name)


@dataclass(frozen=True)
class MemberState:
    """``trouble`` says why nothing new goes there, empty if it is well; ``queued`` deliveries wait for it."""

    trouble: str = ""
    queued: int = 0


@dataclass(frozen=True)
class Situation:
    """What a choice looks at.

    ``last`` had the last turn. ``homes`` are where the study is or is to go, the likeliest first; at ``bound`` is a
    part of it whose rest is still to go there.
    """

    members: Mapping[str, MemberState] = field(default_factory=dict, hash=False)
    last: str = ""
    homes: tuple[str, ...] = ()
    bound: str = ""

    def after(self, earlier: Iterable["Choice"], group: str, study: str) -> "Situation":
        """The same after choices that are not recorded yet."""
        now = self
        for choice in earlier:
            if choice.group == group:
                was = now.members.get(choice.member, MemberState())
                members = {**now.members, choice.member: replace(was, queued=was.queued + 1)}
                homes = (choice.member, *now.homes) if study and choice.study == study else now.homes
                now = replace(now, members=members, last=choice.member if choice.by_turn else now.last, homes=homes)
        return now


@dataclass(frozen=True)
class Choice:
    """A member of a group for a study, and why; ``by_turn`` if it was its turn, ``is_well`` if it takes what is new."""

    group: str
    member: str
    study: str
    why: str
    by_turn: bool = False
    is_well: bool = True


Pick = Callable[[Group, str], Choice]
"""Chooses the member of a group that gets a study."""


class File(Protocol):
    """A file that is to be sent (see ``decision.Candidate``)."""

    def values(self, tag: TagPath) -> tuple[str, ...]: ...


def choose(group: Group, situation: Situation, study: str = "", avoid: frozenset[str] = frozenset()) -> Choice:
    """The member that gets a study; ``avoid`` are those where it was tried in vain."""
    if situation.bound in group.names:
        return Choice(group.name, situation.bound, study, "a part of its study is there", is_well=False)
    troubles = {name: situation.members.get(name, MemberState()).trouble for name in group.names}
    well = [name for name in group.names if not troubles[name] and name not in avoid]
    homes = [name for name in situation.homes if name in troubles]
    home = next((name for name in homes if name in well), "")
    if home:
        return Choice(group.name, home, study, "its study went there")
    able = well or homes[:1] or [name for name in group.names if troubles[name] == "unreachable"] or list(group.names)
    member = _by_policy(group, able, situation)
    words = [f"{name} is {troubles[name]}" for name in group.names if troubles[name] and name != member]
    words += [f"{name} did not take it" for name in group.names if name in avoid and not troubles[name]]
    why = "; ".join([group.policy.value, *words]) if well else f"no member is well: {', '.join(_all(troubles))}"
    return Choice(group.name, member, study, why, by_turn=bool(well), is_well=bool(well))


def _by_policy(group: Group, able: Sequence[str], situation: Situation) -> str:
    if group.policy is Policy.FAILOVER:
        return able[0]
    names = group.names
    last = names.index(situation.last) if situation.last in names else -1
    turns = sorted(able, key=lambda name: (names.index(name) - last - 1) % len(names))
    if group.policy is Policy.ROUND_ROBIN:
        return turns[0]
    return min(turns, key=lambda name: situation.members.get(name, MemberState()).queued)


def _all(troubles: Mapping[str, str]) -> list[str]:
    return [f"{name} {trouble or 'did not take it'}" for name, trouble in troubles.items()]


def pick_without_state(group: Group, study: str) -> Choice:
    """Choose as if all members were well and nothing had ever been sent."""
    return choose(group, Situation(), study)


def aim(destination: Destination | Group, files: Sequence[File], pick: Pick) -> tuple[Destination, Choice | None]:
    """Where files go: to the destination itself, or to a member of the group. A delivery is never split."""
    if not isinstance(destination, Group):
        return destination, None
    choice = pick(destination, main_study(files))
    return destination.member(choice.member), choice


def main_study(files: Sequence[File]) -> str:
    """The Study Instance UID of most files, the first by name of several such; empty if none has any."""
    counts = Counter(uid for file in files for uid in file.values(STUDY)[:1] if uid)
    return min(counts, key=lambda uid: (-counts[uid], uid), default="")
