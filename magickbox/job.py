"""A Job and its states: which there are, and which move leads from one to another.

The table is the truth; ``after`` is the only reader. An outcome is not a state: a job whose processor said ``failed``
and whose ``failed`` rule delivered is DONE.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from magickbox.errors import ForbiddenMove


class JobState(StrEnum):
    """Where a job stands."""

    READY = "READY"  # born, waiting for a processor's slot
    RUNNING = "RUNNING"  # its processor runs
    PROCESSED = "PROCESSED"  # has an outcome, waiting to be routed
    DELIVERING = "DELIVERING"  # the rules asked for deliveries, some are open
    DONE = "DONE"  # everything the rules asked for is delivered, or they asked for nothing
    ATTENTION = "ATTENTION"  # something is dead, or failed and no rule took it: a person should look
    HELD = "HELD"  # kept from its next step, by a person or by the box with a reason
    DELETING = "DELETING"  # its folder is being removed
    DELETED = "DELETED"  # folder gone on purpose; the row stays
    LOST = "LOST"  # folder gone, nobody said why


class JobPriority(StrEnum):
    """How soon a job is to run; in the order in which they go."""

    URGENT = "urgent"
    NORMAL = "normal"
    OFF_PEAK = "off-peak"  # at certain times of day only


class Move(StrEnum):
    """What happens to a job."""

    START = "start"  # a processor starts
    PASS = "pass"  # noqa: S105  no processor serves the called AE, or none ever can
    FINISH = "finish"  # the processor's run has an outcome
    INTERRUPT = "interrupt"  # the run ended through no fault of the processor's, or failed passingly
    ROUTE = "route"  # the decision asks for deliveries
    SETTLE = "settle"  # nothing is open any more and all is well
    ALARM = "alarm"  # nothing is open any more and something is not well
    REOPEN = "reopen"  # dead deliveries are tried again
    REROUTE = "reroute"  # decide anew
    HOLD = "hold"
    RELEASE = "release"  # back to where it was held from
    DELETE = "delete"
    REMOVED = "removed"  # the folder is gone, on purpose
    LOSE = "lose"  # the folder is gone, not on purpose
    FIND = "find"  # a lost folder is back


S, M = JobState, Move

TABLE: dict[tuple[JobState, Move], JobState] = {
    (S.READY, M.START): S.RUNNING,
    (S.READY, M.PASS): S.PROCESSED,
    (S.RUNNING, M.FINISH): S.PROCESSED,
    (S.RUNNING, M.INTERRUPT): S.READY,
    (S.PROCESSED, M.ROUTE): S.DELIVERING,
    (S.PROCESSED, M.SETTLE): S.DONE,
    (S.PROCESSED, M.ALARM): S.ATTENTION,
    (S.DELIVERING, M.SETTLE): S.DONE,
    (S.DELIVERING, M.ALARM): S.ATTENTION,
    (S.ATTENTION, M.REOPEN): S.DELIVERING,
    (S.DONE, M.REOPEN): S.DELIVERING,
    **{(state, M.REROUTE): S.PROCESSED for state in (S.PROCESSED, S.DELIVERING, S.DONE, S.ATTENTION)},
    **{(state, M.HOLD): S.HELD for state in (S.READY, S.RUNNING, S.PROCESSED, S.DELIVERING)},
    **{(state, M.DELETE): S.DELETING for state in (S.READY, S.PROCESSED, S.DONE, S.ATTENTION, S.HELD, S.LOST)},
    (S.DELETING, M.REMOVED): S.DELETED,
    **{
        (state, M.LOSE): S.LOST
        for state in (S.READY, S.RUNNING, S.PROCESSED, S.DELIVERING, S.DONE, S.ATTENTION, S.HELD)
    },
    (S.LOST, M.FIND): S.HELD,
}

RESUMABLE = frozenset({S.READY, S.PROCESSED, S.DELIVERING})
OPEN = frozenset({S.READY, S.RUNNING, S.PROCESSED, S.DELIVERING})
HAS_FOLDER = frozenset(set(S) - {S.DELETED, S.LOST, S.DELETING})


def after(state: JobState, move: Move, resume: JobState | None = None) -> JobState:
    """The state that ``move`` leads to; ``resume`` is where a held job was held from.

    Raises ForbiddenMove with a sentence for a person if the table does not know the pair.
    """
    if (state, move) == (S.HELD, M.RELEASE) and resume in RESUMABLE:
        return resume
    try:
        return TABLE[state, move]
    except KeyError:
        raise ForbiddenMove(f"a job that is {state} cannot take the step '{move}'") from None


@dataclass(frozen=True)
class Job:
    """One job as the ledger knows it; see contracts, sections 2, 3 and 5.

    ``resume`` is the state that a HELD job goes back to; ``hold_asked`` says that a running job is to be held at its
    next step. ``delivered`` counts the deliveries that arrived whole. ``reason`` is why it is in this state.
    ``priority`` is what a person said; None is its processor's. It does not run again before ``not_before``.
    """

    id: str
    state: JobState
    calling_ae: str
    called_ae: str
    peer: str
    study: str
    received: datetime
    born: datetime
    instances: int
    bytes: int
    since: datetime
    reason: str = ""
    resume: JobState | None = None
    hold_asked: bool = False
    outcome: str | None = None
    message: str = ""
    processor: str | None = None
    attempt: int = 0
    interrupted: int = 0
    aborted: bool = False
    follows: str | None = None
    rerun_of: str | None = None
    parent: str | None = None
    delivered: int = 0
    priority: JobPriority | None = None
    not_before: datetime | None = None
