"""The statements about where instances are: which jobs own one, and which jobs there are at all."""

from dataclasses import dataclass

from magickbox.job import JobState
from magickbox.ledger.store import Transaction


@dataclass(frozen=True)
class Owner:
    """A job that owns an instance; ``place`` is INPUT or superseded, ``file`` its name there."""

    job: str
    state: JobState
    place: str
    file: str


def owners(tx: Transaction, sop_instance: str) -> list[Owner]:
    """Every row that owns an instance, earliest job first; views of what an earlier job owns are none."""
    rows = tx.execute(
        "SELECT jobs.id, jobs.state, instances.place, instances.file FROM instances"
        " JOIN jobs ON jobs.id = instances.job WHERE instances.sop_instance = ? AND instances.place != 'view'"
        " ORDER BY jobs.born, jobs.id, instances.place, instances.file",
        (sop_instance,),
    )
    return [Owner(str(row[0]), JobState(str(row[1])), str(row[2]), str(row[3])) for row in rows]


def job_ids(tx: Transaction) -> list[str]:
    """The ids of all jobs that were ever recorded, in order."""
    return [str(row[0]) for row in tx.execute("SELECT id FROM jobs ORDER BY id")]
