"""Builds a ledger with a routed job in it, for the tests of what delivers."""

from collections.abc import Sequence
from pathlib import Path

from magickbox.clock import now
from magickbox.delivery import NewDelivery, NewItem
from magickbox.destination import Destination, DicomDestination
from magickbox.job import Job, JobState, Move
from magickbox.ledger import Ledger, deliveries, jobs

PACS = DicomDestination("127.0.0.1", 104, "BOX", "PACS")
ARCHIVE = DicomDestination("127.0.0.1", 105, "BOX", "ARCHIVE")
QC = DicomDestination("127.0.0.1", 106, "BOX", "QC")

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def new_items(count: int = 2) -> tuple[NewItem, ...]:
    """Items in the job's OUTPUT that need not be there."""
    return tuple(NewItem(f"OUTPUT/{n}.dcm", f"1.2.3.{n}", CT, EXPLICIT) for n in range(1, count + 1))


def entry(
    to: Destination,
    items: Sequence[NewItem] | None = None,
    *,
    gate: bool = False,
    waits_for: int | None = None,
    has_fallback: bool = False,
    rule: str = "rule",
) -> NewDelivery:
    """An entry that applies."""
    return NewDelivery(rule, 0, to, gate, waits_for, has_fallback, new_items() if items is None else tuple(items))


def job(ledger: Ledger, name: str = "job", state: JobState = JobState.PROCESSED) -> None:
    """Record a job."""
    born = Job(name, state, "MODALITY", "Proc", "127.0.0.1", "1.2.3", now(), now(), 1, 1, now())
    with ledger.transaction() as tx:
        jobs.add(tx, born, [], [])


def routed(ledger: Ledger, *planned: NewDelivery, name: str = "job") -> list[int]:
    """Record a job and its routing; the ids of its deliveries."""
    job(ledger, name)
    with ledger.transaction() as tx:
        n = deliveries.record_decision(tx, name, "digest", "{}")
        ids = deliveries.plan(tx, name, n, planned)
        jobs.move(tx, name, Move.ROUTE, "routed")
    return ids


def with_files(folder: Path, items: Sequence[NewItem]) -> Path:
    """The job folder with something at each item's place."""
    for item in items:
        path = folder / item.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * 128 + b"DICM")
    return folder
