"""Deliveries that have to be verified: asks destinations whether they have what was sent, and takes their reports.

A question is in the ledger before it is asked, so that its answer finds it after a restart as well. An answer ends the
delivery in the transaction that records it, whichever way it came.
"""

import random
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from magickbox.association import Association, same_title
from magickbox.clock import Clock, to_text
from magickbox.delivery import Delivery, DeliveryState
from magickbox.destination import Rejected, Retry
from magickbox.errors import DiskFull, LedgerError
from magickbox.ledger import Ledger, Transaction, deliveries, endings, proofs
from magickbox.logs import Note
from magickbox.pace import Again, Arrived, Asked, Outcome, Pace, judge_proof
from magickbox.proof import (
    ANSWERED,
    INVALID_ARGUMENT,
    NO_RESOURCES,
    NOT_AUTHORIZED,
    TAKEN,
    WORDS,
    YES,
    How,
    Proof,
    ProofState,
    Reference,
    Report,
    summary,
)
from magickbox.prover import Provers, Question, Watch

T = TypeVar("T")
S = ProofState
_VAIN = frozenset({S.FAILED, S.UNANSWERED})


class Commit(Protocol):
    """Writes to the ledger, and waits while the disk is full."""

    def __call__(self, write: Callable[[Transaction], T], /) -> T:
        """What ``write`` returns."""
        ...


class Proving:
    """Asks and listens; ``wake`` is called when an answer has changed what there is to do."""

    def __init__(
        self,
        ledger: Ledger,
        provers: Provers,
        folder_of: Callable[[str], Path],
        pace: Pace,
        note: Note,
        clock: Clock,
        rng: random.Random,
        stopping: threading.Event,
        wake: Callable[[], None],
    ) -> None:
        self._ledger, self._provers, self._pace, self._folder_of = ledger, provers, pace, folder_of
        self._note, self._clock, self._rng = note, clock, rng
        self._stopping, self._wake = stopping, wake
        self._listening: dict[str, threading.Event] = {}
        self._attempted: set[int] = set()

    def is_wanted(self, delivery: Delivery) -> bool:
        """True if it counts only when its destination has said that it has everything."""
        return self._provers.wanted(delivery.destination).how is not How.NONE

    # --- asking -----------------------------------------------------------------------------------------------------

    def begin(self, delivery: int) -> None:
        """An attempt at a delivery begins, in the caller's transaction: what is answered now, it concludes itself."""
        self._attempted.add(delivery)

    def end(self, delivery: int) -> None:
        """It ends, in the caller's transaction."""
        self._attempted.discard(delivery)

    def put_off(self, tx: Transaction, delivery: Delivery) -> bool:
        """True if its answer may still come, so that there is nothing to do before that; it is tried again then."""
        self._attempted.discard(delivery.id)
        asked = self._asked(tx, delivery)
        if asked.state is not S.ASKED or asked.left <= 0 or deliveries.pending_items(tx, delivery.id):
            return False
        again = self._clock() + timedelta(seconds=asked.left)
        deliveries.try_again_at(tx, delivery.id, again, delivery.tries, asked.reason)
        return True

    def prove(self, delivery: Delivery, commit: Commit, watch: Watch) -> Retry | None:
        """Ask the destination about a delivery whose instances are all sent; the trouble on the way, if there was any.

        One that was asked in vain often enough, or was answered just before the box was killed, is not asked again.
        What becomes of the delivery is ``conclude``'s, or an answer's that comes meanwhile.
        """
        question = commit(lambda tx: self._begin(tx, delivery))
        if question is None:
            return None
        heard = self._listening[question.uid] = threading.Event()
        ear = _Ear(self, question.uid, heard, self._stopping, commit)
        told = {"how": question.verify.how, "instances": len(question.instances)}
        self._note("info", "asked", {**facts_of(delivery), **told})
        try:
            said = self._provers.ask(delivery.destination, question, ear, watch)
        finally:
            del self._listening[question.uid]
        if said is not None:
            state = S.UNANSWERED if isinstance(said, Rejected) else S.BROKEN
            commit(lambda tx: proofs.give_up(tx, question.uid, state, said.reason))
        return said if isinstance(said, Retry) else None

    def _begin(self, tx: Transaction, delivery: Delivery) -> Question | None:
        """Record a new question; the earlier ones are broken or were not answered."""
        for old in proofs.of_delivery(tx, delivery.id):
            if old.state is S.ASKING:
                proofs.give_up(tx, old.uid, S.BROKEN, "cut short: the box ended")
            elif old.state is S.ASKED:
                proofs.give_up(tx, old.uid, S.UNANSWERED, _no_answer(old))
        asked = self._asked(tx, delivery)
        if asked.state is S.COMMITTED or asked.vain >= self._pace.questions:
            return None
        verify = self._provers.wanted(delivery.destination)
        uid = f"2.25.{uuid.uuid4().int}"
        peer, own = self._provers.peer(delivery.destination), getattr(delivery.destination, "calling_ae", "")
        proofs.ask(tx, uid, delivery.id, verify.how, peer, own)
        folder = self._folder_of(delivery.job)
        instances = (
            Reference(each.sop_class, each.sop_instance, folder / each.file)
            for each in deliveries.instances_of(tx, delivery.id)
        )
        first = proofs.of_delivery(tx, delivery.id, delivery.opened)[0].asked
        age = (self._clock() - first).total_seconds()
        return Question(uid, tuple(instances), verify, delivery.job, age)

    def _asked(self, tx: Transaction, delivery: Delivery) -> Asked:
        """Where the verification stands. A question that is out of time counts as not answered."""
        found = proofs.of_delivery(tx, delivery.id, delivery.opened)
        if not found:
            return Asked(None)
        answers = [(each.answered, each) for each in found if each.answered is not None]
        newest = max(answers, key=lambda answer: answer[0])[1] if answers else None
        if newest is not None and newest.state is S.COMMITTED:  # an earlier question, answered late, is as good
            return Asked(S.COMMITTED, reason=newest.reason)
        last, vain = found[-1], sum(each.state in _VAIN for each in found)
        state, left, reason = last.state, 0.0, last.reason
        if state is S.ASKED:
            within = self._provers.wanted(delivery.destination).within
            left = within - (self._clock() - last.asked).total_seconds()
            state, vain = (S.ASKED, vain) if 0 < left <= within else (S.UNANSWERED, vain + 1)
            reason = f"sent; waits for {WORDS[last.how]} since {to_text(last.asked)}" if left > 0 else _no_answer(last)
        return Asked(state, left, vain, reason)

    def conclude(self, tx: Transaction, delivery: Delivery, outcome: Outcome, tries: int) -> Delivery:
        """What becomes of an open delivery whose instances are all sent, or were found missing; as it is then."""
        asked = self._asked(tx, delivery)
        moment = self._clock()
        age = (moment - delivery.opened).total_seconds() if delivery.opened else 0.0
        verdict = judge_proof(asked, outcome, tries, age, delivery.has_fallback, self._pace, self._rng)
        if isinstance(verdict, Again):
            again = moment + timedelta(seconds=verdict.pause)
            deliveries.try_again_at(tx, delivery.id, again, verdict.tries, verdict.reason)
            return deliveries.get(tx, delivery.id)
        if isinstance(verdict, Arrived):
            return endings.deliver(tx, delivery.id, asked.reason)
        return endings.fail(tx, delivery.id, verdict.reason)

    # --- listening --------------------------------------------------------------------------------------------------

    def reported(self, association: Association, report: Report) -> int:
        """A report that came to the box's port; the status to answer, with the result durable (``intake.Intake``)."""
        try:
            return self.take(report, association.calling_ae, self._write)
        except (DiskFull, LedgerError) as exc:
            self._note("error", "report", {"association": association.id, "reason": exc})
            return NO_RESOURCES

    def _write(self, write: Callable[[Transaction], T]) -> T:
        with self._ledger.transaction() as tx:
            return write(tx)

    def take(self, report: Report, calling_ae: str | None, commit: Commit) -> int:
        """Record a report, and what follows from it; None for ``calling_ae`` says that the peer was called by us."""
        status, why, ended, ours = commit(lambda tx: self._take_in(tx, report, calling_ae))
        if why:
            facts = {"from": calling_ae or "-", "answer": f"0x{status:04X}", "reason": why}
            self._note("warning", "report", facts)
        if ended is not None:
            if ours:
                self._tell(ended)
            if (heard := self._listening.get(report.transaction)) is not None:
                heard.set()
            self._wake()
        return status

    def _take_in(
        self, tx: Transaction, report: Report, calling_ae: str | None
    ) -> tuple[int, str, Delivery | None, bool]:
        """The status to answer, what is odd about the report, its delivery, and whether no attempt concludes that."""
        proof = proofs.find(tx, report.transaction)
        if proof is None:
            return INVALID_ARGUMENT, "of a transaction that the box does not know", None, False
        delivery = deliveries.get(tx, proof.delivery)
        if calling_ae is not None and not same_title(calling_ae, proof.peer):
            return NOT_AUTHORIZED, f"about delivery {delivery.id}, but {proof.peer} was asked", None, False
        if proof.state in ANSWERED:
            return TAKEN, f"about delivery {delivery.id}, which was answered before", None, False
        items = deliveries.instances_of(tx, delivery.id)
        missing = report.missing(proofs.sent_uids(items))
        yes = YES[proof.how]
        said = summary(missing, len(items), f"not {yes}") if missing else yes
        proofs.answered(tx, proof.uid, S.FAILED if missing else S.COMMITTED, said)
        return TAKEN, "", self._follow(tx, delivery, proof, missing), delivery.id not in self._attempted

    def _follow(self, tx: Transaction, delivery: Delivery, proof: Proof, missing: dict[str, str]) -> Delivery:
        """What an answer means for its delivery; nothing if that is over, or has been asked about anew."""
        last = proofs.of_delivery(tx, delivery.id)[-1]
        if delivery.state is not DeliveryState.OPEN or (missing and last.uid != proof.uid):
            return delivery
        proofs.send_again(tx, delivery.id, missing, f"not {YES[proof.how]}")
        left = deliveries.progress(tx, delivery.id)
        is_left = not missing and (left.pending or left.refused or left.rejected)
        if is_left or delivery.id in self._attempted:
            return delivery
        return self.conclude(tx, delivery, Outcome(), delivery.tries)

    def _tell(self, delivery: Delivery) -> None:
        state = delivery.state
        level = "info" if state is DeliveryState.DELIVERED else "error" if state is DeliveryState.DEAD else "warning"
        event = "not-verified" if state is DeliveryState.OPEN else state.lower()
        self._note(level, event, {**facts_of(delivery), "reason": delivery.reason})


def facts_of(delivery: Delivery) -> dict[str, object]:
    """What a log line says of a delivery."""
    return {
        "job": delivery.job,
        "rule": delivery.rule,
        "entry": delivery.entry + 1,
        "delivery": delivery.id,
        "to": delivery.destination,
    }


def _no_answer(proof: Proof) -> str:
    return f"no answer by {WORDS[proof.how]} to the question of {to_text(proof.asked)}"


class _Ear:
    """Who listens while a question is asked (``prover.Ear``)."""

    def __init__(
        self, proving: Proving, uid: str, heard: threading.Event, stopping: threading.Event, commit: Commit
    ) -> None:
        self._proving, self._uid, self._heard = proving, uid, heard
        self._stopping, self._commit = stopping, commit

    def accepted(self) -> None:
        """The destination will answer."""
        self._commit(lambda tx: proofs.accepted(tx, self._uid))

    def report(self, report: Report) -> int:
        """Its answer, on the association that asked."""
        return self._proving.take(report, None, self._commit)

    @property
    def is_over(self) -> bool:
        """True if the answer has come, or the box stops."""
        return self._heard.is_set() or self._stopping.is_set()
