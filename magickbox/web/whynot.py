"""Why each rule did or did not fire for a job: as it was decided, and as today's rules would decide."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from magickbox.errors import NotFound
from magickbox.explanation import explain
from magickbox.job import HAS_FOLDER, Job
from magickbox.ledger import decisions, jobs
from magickbox.route import came_of, decision_for
from magickbox.routing import Rules
from magickbox.rules.file import RulesRefused, load
from magickbox.web.context import Context
from magickbox.web.models.jobs import WhyModel
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem

AT_ONCE, PATIENCE = 2, 20.0
_turns = threading.BoundedSemaphore(AT_ONCE)


@contextmanager
def _turn() -> Iterator[None]:
    """Looking at all files of a job is work: a few at a time, so that the others are answered meanwhile."""
    if not _turns.acquire(timeout=PATIENCE):
        raise Problem(503, "Busy", "several jobs are being explained; try again in a moment", {"Retry-After": "5"})
    try:
        yield
    finally:
        _turns.release()


def why_decided(box: Context, job: str, n: int | None = None) -> WhyModel:
    """The last decision about a job, or number ``n``; raises NotFound."""
    with box.ledger.reading() as tx:
        jobs.get(tx, job)
        every = decisions.of_job(tx, job)
    found = next((each for each in reversed(every) if n in (None, each.n)), None)
    if found is None:
        raise NotFound(f"there is no decision {n} about {job}" if n else f"nothing was decided about {job} yet")
    rules = _rules(box)
    return WhyModel(
        when="decided", at=found.at, n=found.n, same_rules=None if rules is None else rules.digest == found.rules,
        with_values=False, note="", decision=found.why,
    )  # fmt: skip


def why_today(box: Context, job: str, who: Principal) -> WhyModel:
    """What the rules in force would decide about a job now, with the values that they see; raises NotFound."""
    rules = _rules(box)
    if rules is None:
        raise Problem(409, "Conflict", "the rules cannot be used, and there are no last good ones")
    with _turn():
        with box.ledger.reading() as tx:
            found = jobs.get(tx, job)
            came = came_of(tx, found, rules)
        if found.state not in HAS_FOLDER:
            raise NotFound(f"{job} is {found.state}: its files are not there any more")
        decision = decision_for(found, box.data.jobs / found.id, rules, came, box.ledger)
    return WhyModel(
        when="today", at=None, n=None, same_rules=True, with_values=who.sees_names, note=_note(found),
        decision=explain(decision, with_values=who.sees_names),
    )  # fmt: skip


def _note(job: Job) -> str:
    if job.outcome is None:
        return f"It is {job.state} and has no outcome yet; this is what would happen without a processor."
    return ""


def _rules(box: Context) -> Rules | None:
    """The rules in force: those of the file, or the last good ones."""
    for path in (box.places.routing, box.data.last_good_rules):
        try:
            return load(path, box.settings.me, box.settings.me_port)
        except (RulesRefused, OSError):
            continue
    return None
