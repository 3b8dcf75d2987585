"""What somebody should be told of, and when it is told again: pure, with the time given. No patient's data is in it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from magickbox.clock import to_text

MOST = 20  # troubles of one kind that are told one by one


class Kind(StrEnum):
    """What kind of trouble it is."""

    ATTENTION = "attention"  # a job is in ATTENTION; the subject is its id
    UNREACHABLE = "unreachable"  # nothing gets through to a destination; the subject is its name
    DISK = "disk"  # the disk is below its mark
    TEST = "test"


class Says(StrEnum):
    """What a message says of a trouble."""

    ALARM = "alarm"  # it is new
    AGAIN = "again"  # it goes on
    CLEAR = "clear"  # it is over
    TEST = "test"


Key = tuple[Kind, str]


@dataclass(frozen=True)
class Trouble:
    """Something that a person should look at, since when, and why."""

    kind: Kind
    subject: str
    since: datetime
    reason: str

    @property
    def key(self) -> Key:
        """What makes it the same trouble at the next look."""
        return self.kind, self.subject


@dataclass(frozen=True)
class Told:
    """A trouble that somebody was told of, last at ``at``; ``over`` if it is over and that was told."""

    trouble: Trouble
    at: datetime
    over: bool = False


@dataclass(frozen=True)
class Message:
    """What a hook is told."""

    says: Says
    trouble: Trouble
    at: datetime

    def as_line(self, box: str) -> bytes:
        """As a hook gets it: one JSON object in one line; ``box`` is the box's own AE title."""
        told = {
            "box": box,
            "says": self.says,
            "kind": self.trouble.kind,
            "subject": self.trouble.subject,
            "since": to_text(self.trouble.since),
            "at": to_text(self.at),
            "reason": self.trouble.reason,
        }
        return json.dumps(told).encode() + b"\n"


def trial(moment: datetime) -> Message:
    """What ``magickbox alarms test`` tells."""
    return Message(Says.TEST, Trouble(Kind.TEST, "test", moment, "a test, asked for by a person"), moment)


def compare(told: Mapping[Key, Told], present: Iterable[Trouble], moment: datetime, pause: float) -> Iterator[Message]:
    """What is to be told now: new trouble at once, trouble that lasts after ``pause`` s, what is over at once.

    Trouble that comes back is not told before the pause since it was last told is over.
    """
    troubles = {trouble.key: trouble for trouble in present}
    for key, trouble in troubles.items():
        before = told.get(key)
        if before is None:
            yield Message(Says.ALARM, trouble, moment)
        elif _is_over(before.at, moment, pause):
            yield Message(Says.ALARM if before.over else Says.AGAIN, trouble, moment)
    for key, before in told.items():
        if key not in troubles and not before.over:
            yield Message(Says.CLEAR, before.trouble, moment)


def remember(told: Mapping[Key, Told], message: Message) -> Told:
    """What is known of a trouble once that message was told."""
    key = message.trouble.key
    if message.says is Says.CLEAR:
        return replace(told[key], over=True)
    return Told(message.trouble, message.at)


def forgettable(told: Mapping[Key, Told], moment: datetime, pause: float) -> list[Key]:
    """What need not be known any more: it is over, and so is the pause."""
    return [key for key, each in told.items() if each.over and _is_over(each.at, moment, pause)]


def _is_over(at: datetime, moment: datetime, pause: float) -> bool:
    """True if the pause is; also if the clock was set back by more than it."""
    return abs(moment - at) >= timedelta(seconds=pause)


def fold(oldest: list[Trouble], count: int) -> list[Trouble]:
    """The oldest of ``count`` troubles of a kind, and one for all others: a thousand jobs make no thousand messages."""
    more = count - len(oldest)
    if not oldest or more <= 0:
        return oldest
    return [*oldest, Trouble(oldest[0].kind, "more", oldest[-1].since, f"{more} more of the same kind")]
