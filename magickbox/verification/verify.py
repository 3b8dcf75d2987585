"""Proves that folders and ledger agree, or says where they do not (``magickbox verify``). Reads only.

Jobs are looked at one after the other, so that neither the number of jobs nor their size counts in memory. While the
box runs, things move: a job is told of only if it stays as it is while it is looked at.
"""

import os
from collections.abc import Iterator

from magickbox.datafolder import DataFolder
from magickbox.jobfolder import JobFolder, is_job_id
from magickbox.ledger import Ledger, jobs, places
from magickbox.verification.finding import Finding, error, warning
from magickbox.verification.incoming import check_incoming, check_quarantine
from magickbox.verification.jobs import JobCheck
from magickbox.verification.ownership import where_is

__all__ = ["Finding", "verify", "where_is"]


def verify(data: DataFolder, ledger: Ledger, *, quick: bool, running: bool) -> list[Finding]:
    """Every difference between the data folder and its ledger; none if all is well.

    ``quick`` compares sizes and does not read the instances. Raises OSError if a folder cannot be listed.
    """
    return list(_findings(data, ledger, quick, running))


def _findings(data: DataFolder, ledger: Ledger, quick: bool, running: bool) -> Iterator[Finding]:
    damage = ledger.damage()
    for line in damage:
        yield error("state/ledger.sqlite", f"the ledger is damaged: {line}; stop the box and use verify --repair")
    if not damage:
        yield from _jobs(data, ledger, quick, running)
    yield from check_incoming(data, quick=quick, running=running)
    yield from check_quarantine(data, running=running)


def _jobs(data: DataFolder, ledger: Ledger, quick: bool, running: bool) -> Iterator[Finding]:
    """Folders are listed before rows: what was born in between has both."""
    names = sorted(os.listdir(data.jobs))
    with ledger.reading() as tx:
        rows = places.job_ids(tx)
    check = JobCheck(data, ledger, quick, running)
    for job in rows:
        yield from check.findings(job)
    known = frozenset(rows)
    for name in names:
        if name not in known:
            yield from _without_row(data, ledger, name, running)


def _without_row(data: DataFolder, ledger: Ledger, name: str, running: bool) -> Iterator[Finding]:
    where, folder = f"jobs/{name}", JobFolder(data.jobs / name)
    if not is_job_id(name) or not folder.path.is_dir():
        if folder.path.exists():
            yield warning(where, "its name is not a job's; it is left alone")
        return
    being_born = folder.plan.exists()
    if running:
        with ledger.reading() as tx:
            being_born = being_born or jobs.find(tx, name) is not None
    if not being_born:
        yield error(where, "a job's folder without a row in the ledger; the next start adopts it and holds it")
    elif not running:
        yield warning(where, "its birth was interrupted before its row was written; the next start carries it on")
