"""The first stage: associations are admitted, their instances gathered, and jobs born when they are due."""

import queue
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from magickbox.access import Access
from magickbox.association import Association, End
from magickbox.births.birth import Birth
from magickbox.births.newjob import Policy, conceive
from magickbox.births.plan import BirthPlan
from magickbox.capacity import Capacity
from magickbox.clock import now
from magickbox.datafolder import DataFolder
from magickbox.errors import UnreadableHeader
from magickbox.gathering import Arrival, Due, Gathering, Key, grouping
from magickbox.incoming.quarantine import Quarantine
from magickbox.incoming.record import read_instance, unreported
from magickbox.instance import Instance
from magickbox.intake import Refusal, Request
from magickbox.job import Job
from magickbox.ledger import Ledger
from magickbox.ledger.jobs import Share
from magickbox.logs import Note, Seldom
from magickbox.owncalls import OwnCalls
from magickbox.processor import Group
from magickbox.proof import INVALID_ARGUMENT, Report
from magickbox.traffic import Times, Traffic

RETRY = 2.0
OUT_OF_RESOURCES = 0xA700


@dataclass(frozen=True)
class _Stored:
    association: Association
    instance: Instance


@dataclass(frozen=True)
class _Ended:
    association: Association
    how: End
    resumed: bool = False  # of an earlier run of the box


class Receive:
    """The intake of the box (see ``intake.Intake``) and the coordinator's thread that gives birth to jobs."""

    def __init__(
        self,
        data: DataFolder,
        ledger: Ledger,
        birth: Birth,
        policy: Callable[[str], Policy],
        access: Access,
        capacity: Capacity,
        own_calls: OwnCalls,
        on_born: Callable[[Job], None],
        note: Note,
        reported: Callable[[Association, Report], int] = lambda _from, _report: INVALID_ARGUMENT,
    ) -> None:
        self._data, self._ledger, self._birth = data, ledger, birth
        self._policy, self._access, self._own_calls = policy, access, own_calls
        self._capacity = capacity
        self.has_room, self.pause = capacity.has_room, capacity.pause
        self._on_born, self._note, self.reported = on_born, note, reported
        self._events: queue.SimpleQueue[_Stored | _Ended | None] = queue.SimpleQueue()
        self._gathering = Gathering()
        self._lock = threading.Lock()
        self._open: dict[str, Association] = {}
        self._counts: dict[str, int] = {}
        self._known: dict[str, Association] = {}
        self._unborn: list[str] = []
        self._again: list[_Stored | _Ended] = []
        self._put_off: dict[str, int] = {}
        self._policy_now = policy
        self._order = 0
        self.traffic, self.times = Traffic(), Times()
        self._seldom = Seldom(note)
        self._thread = threading.Thread(target=self._run, name="receive", daemon=True)
        self._stopping = threading.Event()

    def admit(self, request: Request) -> Association | Refusal:
        """Decide on an association (``intake.Intake``)."""
        with self._lock:
            calling = [association.calling_ae for association in self._open.values()]
            refusal = self._access.judge(request, calling, self._capacity.obstacle())
            if refusal is None:
                association = self._new_association(request)
                self._open[association.id] = association
        facts = {"calling": request.calling_ae, "called": request.called_ae, "from": request.address[0]}
        facts |= {key: fact for key, fact in (("tls", request.tls), ("certificate", request.certificate)) if fact}
        self.traffic.count(**{"associations" if refusal is None else "rejected": 1})
        if refusal is not None:
            code = f"{refusal.result}/{refusal.source}/{refusal.reason}"
            self._note("warning", "rejected", {**facts, "answer": code, "reason": refusal.why})
            return refusal
        self._note("info", "accepted", {"association": association.id, **facts})
        return association

    def _new_association(self, request: Request) -> Association:
        moment = now()
        return Association(
            id=f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}",
            calling_ae=request.calling_ae,
            called_ae=request.called_ae,
            peer=request.address[0],
            began=moment,
            parent=self._own_calls.job_of(request.address),
        )

    def stored(self, association: Association, instance: Instance) -> None:
        """An instance is durable and answered (``intake.Intake``)."""
        self._events.put(_Stored(association, instance))

    def refused(self, association: Association, sop_instance: str, status: int, why: str) -> None:
        """An instance was answered with a failure (``intake.Intake``)."""
        passing = status & 0xFF00 == OUT_OF_RESOURCES
        self.traffic.count(**{"put_off" if passing else "refused": 1})
        if passing:
            with self._lock:
                self._put_off[association.id] = self._put_off.get(association.id, 0) + 1
        facts = {"association": association.id, "instance": sop_instance, "status": f"0x{status:04X}", "reason": why}
        self._note("warning", "refused", facts)

    def ended(self, association: Association, how: End) -> None:
        """An association is over (``intake.Intake``)."""
        with self._lock:
            self._open.pop(association.id, None)
        self._events.put(_Ended(association, how))

    def start(self) -> None:
        """Start to give birth to jobs."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is in hand; what still gathers stays in its association folders for the next start."""
        self._stopping.set()
        self._events.put(None)
        self._thread.join()

    def recover(self, association: Association) -> None:
        """Gather what an association folder of an earlier run of the box holds; before ``start`` (step 20)."""
        ended = replace(association, ended=association.ended or now(), how=association.how or End.STOPPED)
        self._take(_Ended(ended, End.STOPPED, resumed=True))

    def behind(self) -> int:
        """How many reports of receivers wait to be taken."""
        return self._events.qsize()

    def gathering(self) -> list[tuple[Key, int, float]]:
        """The studies that wait to become jobs: how many instances each has, and in how many seconds it is due."""
        at = time.monotonic()
        return [(key, count, max(0.0, due - at)) for key, count, due in self._gathering.waiting()]

    def open_associations(self) -> list[tuple[Association, int]]:
        """The associations that are open now, and how many instances of each are gathered."""
        with self._lock:
            return [(association, self._counts.get(association.id, 0)) for association in self._open.values()]

    def _run(self) -> None:
        while not self._stopping.is_set():
            due = self._gathering.next_due()
            timeout = None if due is None else max(0.0, due - time.monotonic())
            if self._unborn or self._again:
                timeout = min(RETRY, timeout) if timeout is not None else RETRY
            self._take_events(timeout)
            for job in list(self._unborn):
                self._bear(job)
            due_now = self._gathering.take_due(time.monotonic())
            for ready in due_now:
                self._give_birth(ready)
            if due_now:
                self._forget_associations()

    def _take_events(self, timeout: float | None) -> None:
        """Wait for one event, at most until the next job is due, then take all that have come."""
        try:
            event = self._events.get(timeout=timeout)
            self._policy_now = cache(self._policy)  # for what has come together; a look each would cost too much
            self._take(event)
            while True:
                self._take(self._events.get_nowait())
        except queue.Empty:
            pass
        again, self._again = self._again, []
        for event in again:
            self._take(event)

    def _take(self, event: _Stored | _Ended | None) -> None:
        """The worker boundary: an event that meets trouble is taken again, and stops no other."""
        try:
            if isinstance(event, _Stored):
                self.traffic.count(instances=1, bytes=event.instance.size)
                self.times.take(event.instance.took)
                self._gather(event.association, event.instance)
            elif isinstance(event, _Ended):
                self._end(event)
        except Exception as exc:  # noqa: BLE001  # worker boundary: what was acknowledged must not be forgotten
            assert event is not None
            self._again.append(event)
            facts = {"association": event.association.id, "reason": repr(exc)}
            self._seldom.note(event.association.id, "error", "intake-waits", facts)

    def _gather(self, association: Association, instance: Instance, order: int | None = None) -> None:
        policy = self._policy_now(association.called_ae)
        key = grouping(association, instance.study, policy.group is Group.ASSOCIATION)
        self._known[association.id] = association
        self._counts[association.id] = self._counts.get(association.id, 0) + 1
        order = order or max(self._order + 1, instance.arrived)
        self._order = max(self._order, order)
        arrival = Arrival(association.id, instance, order)
        self._gathering.stored(key, policy.waits, arrival, time.monotonic())

    def _end(self, event: _Ended) -> None:
        """Rescan the folder for what was acknowledged and not reported, then let the studies go."""
        association = event.association
        known = self._gathering.files_of(association.id)
        folder = self._data.incoming / association.id
        if folder.is_dir():
            for path in unreported(folder, known):
                self._gather_found(association, path, count=not event.resumed)
        if association.id in self._known:
            self._known[association.id] = association
        with self._lock:
            put_off = self._put_off.pop(association.id, 0)
        # Instances that were refused for now will come again, as after an abort.
        self._gathering.ended(association.id, End.ABORTED if put_off else event.how, time.monotonic())
        if not self._gathering.files_of(association.id):
            self._birth.sweep(association.id, known_ended=True)
        how = (event.resumed and association.how) or event.how
        facts = {"association": association.id, "how": how, "instances": self._counts.pop(association.id, 0)}
        level = "info" if how is End.RELEASED and not put_off else "warning"
        self._note(level, "resumed" if event.resumed else "ended", {**facts, "put-off": put_off} if put_off else facts)

    def _gather_found(self, association: Association, path: Path, count: bool) -> None:
        try:
            instance = read_instance(path)
        except UnreadableHeader as exc:
            Quarantine(self._data.quarantine).take(path, association, path.stem, str(exc))
            facts = {"association": association.id, "file": path.name, "reason": f"{exc}; it is in quarantine now"}
            self._note("error", "unreadable", facts)
            return
        if count:
            self.traffic.count(instances=1, bytes=instance.size)
        self._gather(association, instance, instance.arrived)

    # --- birth ------------------------------------------------------------------------------------------------------

    def _give_birth(self, due: Due) -> None:
        """Plan and bear a job; what the disk refuses is tried again."""
        try:
            plan = self._plan(due)
            if plan is None:
                return
            self._birth.plan(plan)
        except Exception as exc:  # noqa: BLE001  # worker boundary: one study must not end the intake for others
            facts = {"called": due.key.called_ae, "reason": repr(exc)}
            self._seldom.note(f"{due.key}", "error", "birth-waits", facts)
            waits = replace(self._policy(due.key.called_ae).waits, settle=RETRY, settle_after_abort=RETRY)
            self._gathering.put_back(due, waits, time.monotonic())
            return
        for event, told in plan.told_repeats():
            self._note("info", event, told)
        self._unborn.append(plan.job.id)
        self._bear(plan.job.id)

    def _bear(self, job: str) -> None:
        try:
            born = self._birth.carry_on(self._birth.find(job))
        except Exception as exc:  # noqa: BLE001  # worker boundary: one birth must not end the intake for others
            self._seldom.note(job, "error", "birth-waits", {"job": job, "reason": repr(exc)})
            return
        self._unborn.remove(job)
        facts = {"job": born.id, "calling": born.calling_ae, "called": born.called_ae, "instances": born.instances}
        self._note("info", "born", {**facts, "follows": born.follows, "state": born.state, "reason": born.reason})
        self._on_born(born)

    def _forget_associations(self) -> None:
        waiting = self._gathering.associations()
        with self._lock:
            self._known = {i: a for i, a in self._known.items() if i in waiting or i in self._open}

    def _plan(self, due: Due) -> BirthPlan | None:
        """What is to be born of a due study; None if all of it is part of a job already."""
        associations = due.per_association()
        due = self._birth.still_waiting(due)
        if not due.arrivals:
            for association in associations:
                self._birth.sweep(association)
            return None
        shares = tuple(Share(self._known[a], n) for a, n in due.per_association().items())
        with self._ledger.reading() as tx:
            return conceive(tx, due, shares, self._policy(due.key.called_ae), self._birth.same)
