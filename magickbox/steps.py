"""The order of durable steps (contracts, section 8) as a table of the points that a kill can fall between.

Each stage calls ``reached(step)`` when it has come to a step. In a running box that does nothing; a test gives a
function that kills, fills the disk or pauses there, so that every window is a test and not only the random ones.
"""

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """A point in the flow; the number is the clause of section 8 that it stands behind."""

    ASSOCIATION_WRITTEN = "1 association.json durable, nothing answered"
    PART_WRITTEN = "2 dataset in .part, not fsynced"
    PART_DURABLE = "2 .part fsynced"
    NAMED = "3 named <UID>.dcm, folder not fsynced"
    INSTANCE_DURABLE = "3 folder fsynced, nothing answered"
    REPORTED = "4 answered and reported"
    ASSOCIATION_ENDED = "5 association.json has its end"
    JOB_FOLDER_MADE = "6 .new-<job> there, no plan"
    JOB_PLANNED = "6 .plan.json durable, nothing moved"
    JOB_MOVING = "7 first instance moved"
    JOB_MOVED = "7 all moved, nothing fsynced"
    JOB_SYNCED = "8 folders fsynced, not renamed"
    JOB_BORN = "8 in jobs/, no row"
    JOB_RECORDED = "9 row there, plan not removed"
    JOB_SWEPT = "9 plan and association folders gone"
    RUN_RECORDED = "10 RUNNING, no attempt folder"
    RUN_PREPARED = "10 attempt folder there, not started"
    RUN_STARTED = "10 started"
    STEP_PREPARED = "10 folder of a chain's step there, not started"
    STEP_STARTED = "10 a chain's step started"
    STEP_ENDED = "10 a chain's step ended, no result.json"
    STEP_RESULT = "10 result.json of a chain's step durable"
    RUN_ENDED = "11 ended, no result.json"
    RUN_RESULT = "11 result.json durable"
    RUN_PUBLISHED = "12 OUTPUT renamed, no proc.json"
    RUN_SAID = "12 proc.json there, not PROCESSED"
    PROCESSED = "12 PROCESSED"
    DECIDED = "13 decided, not recorded"
    ROUTED = "13 deliveries recorded"
    RESPONSE = "14 response there, not committed"
    RESPONSE_COMMITTED = "14 response committed"
    ENTRY_ENDING = "15 entry over, not committed"
    ENTRY_ENDED = "15 entry and fallback committed"
    DELETE_MARKED = "16 DELETING"
    DELETE_RENAMED = "16 renamed to .trash-<job>"
    DELETE_REMOVED = "16 removed, not DELETED"


Reached = Callable[[Step], None]


def unwatched(_step: Step) -> None:
    """What a running box does at a step: nothing."""
