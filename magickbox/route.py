"""The third stage: a job that is PROCESSED meets the rules, and its deliveries are written down (step 13)."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from magickbox.decision import Decision, Facts, PlannedDelivery, decide
from magickbox.delivery import NewDelivery, NewItem
from magickbox.errors import MagickboxError
from magickbox.explanation import explain, log_lines
from magickbox.group import Pick
from magickbox.grouping import Picking
from magickbox.job import Job, JobState, Move
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Ledger, Reads, Transaction, deliveries, endings, groups, jobs
from magickbox.logs import Note, Seldom
from magickbox.processor import FAILED, NO_PROCESSOR
from magickbox.resultcheck import Came
from magickbox.routing import Rules
from magickbox.selection import damage_below, look_below
from magickbox.steps import Reached, Step, unwatched

PAUSE = 5.0
LOOKS = 5  # how often a decision is taken at most while its studies move from member to member
_NO_RULE = "the outcome is failed and no rule took it"


def decision_for(job: Job, folder: Path, rules: Rules, came: Came, ledger: Reads, pick: Pick | None = None) -> Decision:
    """Decide about one job with these rules; reads its files, writes nothing. ``pick`` chooses members of groups."""
    facts = Facts(job.called_ae, job.calling_ae, job.outcome or NO_PROCESSOR, job.peer, came)
    return decide(rules, facts, look_below(folder), damage_below(folder), pick or Picking(ledger))


def came_of(tx: Transaction, job: Job, rules: Rules) -> Came:
    """The UIDs of a job's input, if any rule looks at them."""
    if not any(rule.checks for rule in rules.rules):
        return Came()
    every = [held.instance for held in jobs.held_by(tx, job.id)]
    return Came(
        frozenset(each.study for each in every),
        frozenset(each.series for each in every),
        frozenset(each.sop_instance for each in every),
    )


class Route:
    """Decides about PROCESSED jobs, one after another, and hands what is to be delivered to the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        folder_of: Callable[[str], Path],
        rules: Callable[[], Rules],
        on_routed: Callable[[], None],
        note: Note,
        reached: Reached = unwatched,
    ) -> None:
        self._ledger, self._folder_of, self._rules = ledger, folder_of, rules
        self._on_routed, self._note, self._reached = on_routed, note, reached
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._not_before: dict[str, float] = {}
        self._seldom = Seldom(note)
        self._thread = threading.Thread(target=self._run, name="route", daemon=True)

    def start(self) -> None:
        """Start to take PROCESSED jobs."""
        self._thread.start()

    def wake(self) -> None:
        """A job was processed, released or is to be decided anew."""
        self._wake.set()

    def stop(self) -> None:
        """Finish the decision in hand."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        """The worker boundary: whatever a round meets, there is another one; trouble is noted once a minute."""
        while not self._stopping.is_set():
            self._wake.wait(timeout=1.0)
            self._wake.clear()
            try:
                self._look_round()
            except Exception as exc:  # noqa: BLE001  # worker boundary: nothing may end the stage
                self._seldom.note(
                    "", "error", "waits", {"reason": exc if isinstance(exc, MagickboxError) else repr(exc)}
                )

    def _look_round(self) -> None:
        with self._ledger.reading() as tx:
            processed = jobs.in_state(tx, JobState.PROCESSED)
        for job in processed:
            if not self._stopping.is_set() and self._not_before.get(job.id, 0.0) <= time.monotonic():
                self._take(job)

    def _take(self, job: Job) -> None:
        """The worker boundary: a job that cannot be decided waits, and says why."""
        try:
            self._decide(job)
            self._not_before.pop(job.id, None)
        except Exception as exc:  # noqa: BLE001  # worker boundary: one bad job must not end the stage
            self._not_before[job.id] = time.monotonic() + PAUSE
            why = (str(exc) or repr(exc)).encode("utf-8", "backslashreplace").decode()
            self._note("error", "routing-waits", {"job": job.id, "reason": why})
            with suppress(MagickboxError), self._ledger.transaction() as tx:
                if jobs.get(tx, job.id).state is JobState.PROCESSED:
                    jobs.note(tx, job.id, f"routing waits: {why}")

    def _decide(self, job: Job) -> None:
        if self._has_gone(job):
            return
        rules = self._rules()
        with self._ledger.reading() as tx:
            came = came_of(tx, job, rules)
        for look in range(LOOKS):
            picking = Picking(self._ledger)
            decision = decision_for(job, self._folder_of(job.id), rules, came, self._ledger, picking)
            self._reached(Step.DECIDED)
            moved = self._record(job, decision, None if look == LOOKS - 1 else picking)
            if moved is not None:
                self._tell(job, decision, moved)
                self._on_routed()
                return

    def _record(self, job: Job, decision: Decision, picking: Picking | None) -> Job | None:
        """Record a decision; None if it has to be taken anew, since a study that is sent in parts went elsewhere."""
        why = json.dumps(explain(decision, with_values=False))
        with self._ledger.transaction() as tx:
            if picking is not None and not picking.is_as_it_was(tx):
                return None
            n = deliveries.record_decision(tx, job.id, decision.digest, why)
            ids = deliveries.plan(tx, job.id, n, as_new(decision.deliveries))
            for choice in (each.choice for each in decision.deliveries if each.choice and each.choice.by_turn):
                groups.took_turn(tx, choice.group, choice.member)
            return _move(tx, job, decision, len(ids))

    def _tell(self, job: Job, decision: Decision, moved: Job) -> None:
        self._reached(Step.ROUTED)
        for line in log_lines(decision):
            self._note("info", "rule", {"job": job.id, **line})
        level = "warning" if moved.state is JobState.ATTENTION else "info"
        # The job's reason may quote the processor, and that a patient: it stays in the ledger.
        why = _NO_RULE if moved.state is JobState.ATTENTION and not _failed_checks(decision) else moved.reason
        facts = {"job": job.id, "deliveries": len(decision.deliveries), "state": moved.state, "reason": why}
        self._note(level, "routed", facts)

    def _has_gone(self, job: Job) -> bool:
        """Nothing is decided about a job whose folder or OUTPUT is gone: a person is to see it."""
        folder = JobFolder(self._folder_of(job.id))
        if not folder.path.parent.is_dir():
            raise FileNotFoundError(f"the folder of the jobs is not there: {folder.path.parent}")
        with self._ledger.transaction() as tx:
            if not folder.path.is_dir():
                moved = jobs.move(tx, job.id, Move.LOSE, "its folder is gone")
            elif _was_published(tx, job) and not folder.output.is_dir():
                moved = jobs.move(tx, job.id, Move.HOLD, "its OUTPUT folder is gone")
            else:
                return False
        self._note("error", moved.state.lower(), {"job": job.id, "reason": moved.reason})
        return True


def _was_published(tx: Transaction, job: Job) -> bool:
    """True if the job's outcome is that of a run of its own, which left an OUTPUT folder."""
    return any(a.n == job.attempt and a.outcome == job.outcome for a in jobs.attempts(tx, job.id))


def _move(tx: Transaction, job: Job, decision: Decision, count: int) -> Job:
    """Where the job goes from here: DELIVERING, or its end if there is nothing to send."""
    aside = _left_aside(decision)
    if count:
        planned = "1 delivery" if count == 1 else f"{count} deliveries"
        jobs.move(tx, job.id, Move.ROUTE, f"{planned} decided by {_rules_that_apply(decision)}{aside}")
        endings.settle(tx, job.id)  # all may be held back
        return jobs.get(tx, job.id)
    if failed := _failed_checks(decision):
        return jobs.move(tx, job.id, Move.ALARM, f"{failed}{aside}")
    if (job.outcome or "").casefold() == FAILED:
        return jobs.move(tx, job.id, Move.ALARM, f"{_NO_RULE}: {job.message}{aside}")
    return jobs.move(tx, job.id, Move.SETTLE, f"no rule asks for a delivery{aside}")


def _failed_checks(decision: Decision) -> str:
    """Which rules hold their files back and why, without names; empty if none does."""
    return "; ".join(
        f"not sent by '{finding.rule.name}', check {failed}" for finding in decision.rules for failed in finding.failed
    )


def _left_aside(decision: Decision) -> str:
    """How many DICOM files no rule could take, as the end of a reason; without names, since it is logged."""
    listings = [rule.listing for rule in decision.rules if rule.listing is not None]
    files = {path for listing in listings for path, _ in listing.unreadable}
    if not files:
        return ""
    what = "1 DICOM file was" if len(files) == 1 else f"{len(files)} DICOM files were"
    return f"; {what} left aside as unreadable, see 'magickbox explain'"


def _rules_that_apply(decision: Decision) -> str:
    return ", ".join(f"'{finding.rule.name}'" for finding in decision.rules if finding.applies)


def as_new(planned: tuple[PlannedDelivery, ...]) -> list[NewDelivery]:
    """Planned deliveries as the ledger takes them: a gate is named by its place in the sequence."""
    place = {(p.rule, p.entry): at for at, p in enumerate(planned)}
    return [
        NewDelivery(
            rule=p.rule_name,
            entry=p.entry,
            destination=p.destination,
            gate=p.gate,
            waits_for=None if p.waits_for is None else place[p.rule, p.waits_for],
            has_fallback=p.has_fallback,
            items=tuple(NewItem(c.path, c.sop_instance, c.sop_class, c.transfer_syntax) for c in p.instances),
            held=p.held,
            priority=p.priority,
            group=p.choice.group if p.choice else "",
            study=p.choice.study if p.choice else "",
        )
        for p in planned
    ]
