"""What a destination is asked before a delivery to it counts: that it has what was sent; and what it may answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path


class How(StrEnum):
    """How a destination is asked whether it has what was sent."""

    NONE = "none"  # not at all: what it answered to each instance counts
    COMMITMENT = "commitment"  # storage commitment (PS3.4 Annex J)
    FIND = "find"  # C-FIND of each instance (PS3.4 Annex C)
    QIDO = "qido"  # the same over DICOMweb: QIDO-RS (PS3.18 10.6)


WORDS = {How.COMMITMENT: "storage commitment", How.FIND: "C-FIND", How.QIDO: "QIDO-RS"}
YES = {How.COMMITMENT: "committed by storage commitment", How.FIND: "found by C-FIND",
       How.QIDO: "found by QIDO-RS"}  # fmt: skip


@dataclass(frozen=True)
class Verify:
    """How a destination wants its deliveries verified; times in seconds.

    ``wait`` is how long its report is waited for on the association that asked, ``within`` how long it may take at
    all. ``reports_from`` is the AE title that reports, the called one if empty.
    """

    how: How = How.NONE
    wait: float = 10.0
    within: float = 3600.0
    reports_from: str = ""


NO_PROOF = Verify()


class ProofState(StrEnum):
    """Where one question stands."""

    ASKING = "ASKING"  # about to be asked, or asked: the destination has not said that it will answer
    ASKED = "ASKED"  # it will answer
    COMMITTED = "COMMITTED"  # it has every instance
    FAILED = "FAILED"  # it lacks some
    BROKEN = "BROKEN"  # the network, the peer or the box ended it before it was clear that it was asked
    UNANSWERED = "UNANSWERED"  # it refused to answer, did not in time, or a person had it asked anew


# What a report is answered (PS3.7 Annex C).
TAKEN, NO_SUCH_EVENT, INVALID_ARGUMENT, NOT_AUTHORIZED, NO_RESOURCES = 0x0000, 0x0113, 0x0115, 0x0124, 0x0213
ANSWERED = frozenset({ProofState.COMMITTED, ProofState.FAILED})


@dataclass(frozen=True)
class Proof:
    """One question to a destination; ``uid`` is its Transaction UID, ``peer`` the AE title that may answer."""

    uid: str
    delivery: int
    how: How
    peer: str
    asked: datetime
    answered: datetime | None
    state: ProofState
    reason: str


@dataclass(frozen=True)
class Reference:
    """An instance that is asked about, and its file."""

    sop_class: str
    sop_instance: str
    path: Path = Path()


@dataclass(frozen=True)
class Report:
    """The result of a transaction: the instances that the destination commits to, and those it does not, with why.

    The why is a Failure Reason (0008,1197), None if there was none.
    """

    transaction: str
    committed: tuple[str, ...] = ()
    failed: tuple[tuple[str, int | None], ...] = ()

    def missing(self, wanted: Iterable[str]) -> dict[str, str]:
        """Why each instance that was asked about is not committed; an instance that nothing is said of is not."""
        failed, committed = dict(self.failed), set(self.committed)
        return {
            uid: words_of(failed[uid]) if uid in failed else "the answer does not name it"
            for uid in wanted
            if uid in failed or uid not in committed
        }


# Failure Reason (PS3.3 C.14.1.1).
_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class/instance conflict",
    0x0122: "referenced SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}


def words_of(reason: int | None) -> str:
    """A Failure Reason in words."""
    return "no reason given" if reason is None else f"0x{reason:04X} {_REASONS.get(reason, '')}".rstrip()


def summary(missing: dict[str, str], total: int, what: str) -> str:
    """What is missing, in one sentence, with the most frequent reason: no instance is named, since logs repeat it."""
    reasons = sorted(set(missing.values()), key=list(missing.values()).count, reverse=True)
    more = f" and {len(reasons) - 1} other reasons" if len(reasons) > 1 else ""
    return f"{len(missing)} of {total} instances {what}: {reasons[0]}{more}"
