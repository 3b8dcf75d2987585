"""One attempt at a delivery: its instances go to the destination one by one, and each response is committed first."""

import random
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from magickbox.clock import Clock, to_text
from magickbox.delivery import Delivery, DeliveryItem, DeliveryState, ItemState
from magickbox.destination import Delivered, Destination, Result, Retry
from magickbox.errors import DiskFull
from magickbox.ledger import Ledger, Transaction, deliveries, endings
from magickbox.ledger.responses import Responses
from magickbox.logs import Note
from magickbox.pace import Again, Arrived, Outcome, Pace, judge_attempt
from magickbox.prover import Abortable
from magickbox.proving import Proving, facts_of
from magickbox.sender import Item, Sender, Session
from magickbox.steps import Reached, Step
from magickbox.tally import Tally, words_for

T = TypeVar("T")
_PLAIN = Delivered()
Hindrance = Callable[[Item], str]
"""Why an instance may not be sent now; empty as soon as nothing stands in the way: it may wait for its turn."""


def unhindered(_item: Item) -> str:
    """Nothing stands in the way."""
    return ""


class Stopping(Exception):
    """The box stops before something could be committed; it is done again after the next start."""


class Courier:
    """Makes attempts. It keeps no state between them, so that one serves every destination's worker at once."""

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        folder_of: Callable[[str], Path],
        pace: Pace,
        proving: Proving,
        responses: Responses,
        note: Note,
        reached: Reached,
        clock: Clock,
        rng: random.Random,
        stopping: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._folder_of = folder_of
        self._pace = pace
        self._proving = proving
        self._responses = responses
        self._note = note
        self._reached = reached
        self._clock = clock
        self._rng = rng
        self._stopping = stopping
        self._seen: dict[int, int] = {}

    def attempt(
        self, delivery: Delivery, watch: Callable[[Abortable | None], None], hindrance: Hindrance = unhindered
    ) -> Tally:
        """Try to bring what is left of a delivery, record what becomes of it, and return what the attempt brought.

        ``watch`` is given the session, so that whoever stops the box can abort it. ``hindrance`` is asked before each
        instance. Raises Stopping.
        """
        tally = Tally()
        begun = self.commit(lambda tx: self._begin_in(tx, delivery.id, delivery.destination))
        if begun is None:
            return tally
        n, items = begun
        try:
            self._bring(delivery, n, items, tally, watch, hindrance)
            self.trying(self._responses.flush)
            self._prove(delivery, tally, watch)
        except Stopping:
            raise
        except Exception as exc:  # noqa: BLE001  the delivery's boundary: said once, and tried again like other trouble
            tally.trouble = f"internal error: {type(exc).__name__}"
            self._note("error", "attempt-broke", {**facts_of(delivery), "trace": traceback.format_exc()})
        self._conclude(delivery, n, tally)
        return tally

    def _begin_in(self, tx: Transaction, number: int, to: Destination) -> tuple[int, list[DeliveryItem]] | None:
        """The attempt's number and what is left to send; None if it was held, taken back or moved just now.

        None as well while everything is sent and the destination may still say that it has it.
        """
        if not deliveries.is_wanted(tx, number) or deliveries.get(tx, number).destination != to:
            return None
        delivery = deliveries.get(tx, number)
        if self._proving.is_wanted(delivery) and self._proving.put_off(tx, delivery):
            return None
        self._proving.begin(number)
        return deliveries.begin_attempt(tx, number), deliveries.pending_items(tx, number)

    def _bring(
        self,
        delivery: Delivery,
        attempt: int,
        items: Sequence[DeliveryItem],
        tally: Tally,
        watch: Callable[[Abortable | None], None],
        hindrance: Hindrance,
    ) -> None:
        folder = self._folder_of(delivery.job)
        numbers = {Item(folder / i.file, i.sop_class, i.sop_instance, i.transfer_syntax): i.n for i in items}
        for group in self._sender.split(delivery.destination, list(numbers)):
            session = self._sender.connect(delivery.destination, group, delivery.job)
            tally.answered = not isinstance(session, Retry) or session.answered
            if isinstance(session, Retry):
                tally.trouble = words_for(session)
                return
            watch(session)
            try:
                with session:
                    record = partial(self._record, delivery, attempt, session)
                    going_on = all(
                        self._send(delivery, partial(record, numbers[item]), item, session, tally, hindrance)
                        for item in group
                    )
            finally:
                watch(None)
            if not going_on:
                return

    def _prove(self, delivery: Delivery, tally: Tally, watch: Callable[[Abortable | None], None]) -> None:
        """Ask the destination to verify what it has, if it is to and everything is sent."""
        if tally.cut_short or tally.trouble or not self._proving.is_wanted(delivery):
            return
        with self._ledger.reading() as tx:
            left = deliveries.progress(tx, delivery.id)
        tally.cut_short = "the box stops" if self._stopping.is_set() else ""
        if left.pending or left.refused or left.rejected or tally.cut_short:
            return
        tally.asked = True
        trouble = self._proving.prove(delivery, self.commit, watch)
        tally.answered = trouble is None or trouble.answered
        tally.trouble = "" if trouble is None else trouble.reason

    def _send(
        self,
        delivery: Delivery,
        record: Callable[[Result], tuple[ItemState, bool]],
        item: Item,
        session: Session,
        tally: Tally,
        hindrance: Hindrance,
    ) -> bool:
        """Send one instance and record the response (section 8, step 14); False if no other may follow it."""
        tally.cut_short = hindrance(item) or ("the box stops" if self._stopping.is_set() else "")
        if tally.cut_short:
            return False
        result = session.send(item)
        self._reached(Step.RESPONSE)
        state, wanted = record(result)
        self._reached(Step.RESPONSE_COMMITTED)
        tally.count(state, result)
        if not isinstance(result, Delivered) or result.status:
            said = {"sop": item.sop_instance, "said": words_for(result)}
            self._note("warning", "instance", {**facts_of(delivery), **said})
        if not wanted:
            tally.cut_short = "held or taken back"
        if not session.is_open:
            tally.trouble = tally.trouble or "the disk is full"
        return wanted and session.is_open and not _is_out_of_resources(result)

    def _record(
        self, delivery: Delivery, attempt: int, session: Session, n: int, result: Result
    ) -> tuple[ItemState, bool]:
        """Record a response so that no kill takes it back; where the instance stands, and whether others may follow.

        The next request must not leave before that is done.
        """
        if result == _PLAIN and self._responses.took(delivery.id, attempt, n):
            if self._responses.is_due:
                self.trying(self._responses.flush, session.abort)
            return ItemState.SENT, self._is_wanted(delivery.id)
        return self.commit(
            lambda tx: (deliveries.record_response(tx, delivery.id, n, result), deliveries.is_wanted(tx, delivery.id)),
            session.abort,
            soon=True,
        )

    def _is_wanted(self, number: int) -> bool:
        """``deliveries.is_wanted``, asked only if the ledger has changed since it was."""
        if self._seen.get(number) == self._ledger.commits:
            return True
        self._seen[number] = self._ledger.commits
        with self._ledger.reading() as tx:
            return deliveries.is_wanted(tx, number)

    def commit(
        self, write: Callable[[Transaction], T], when_full: Callable[[], None] = lambda: None, *, soon: bool = False
    ) -> T:
        """Write to the ledger; while the disk is full, wait and try again. Raises Stopping if the box stops first.

        With ``soon`` it is durable within a second only: after a power loss, what it tells of is done once more.
        """

        def written() -> T:
            with self._ledger.transaction(soon=soon) as tx:
                return write(tx)

        return self.trying(written, when_full)

    def trying(self, write: Callable[[], T], when_full: Callable[[], None] = lambda: None) -> T:
        """What ``write`` comes to; while the disk is full, wait and try again. Raises Stopping if the box stops."""
        said = False
        while True:
            try:
                return write()
            except DiskFull as exc:
                when_full()
                if not said:
                    self._note("error", "disk-full", {"reason": exc})
                    said = True
                if self._stopping.wait(self._pace.full):
                    raise Stopping from exc

    def give_up(self, delivery: Delivery, reason: str) -> None:
        """End a delivery that is still open as failed, without an attempt. Raises Stopping."""
        ended = self.commit(
            lambda tx: endings.fail(tx, delivery.id, reason) if deliveries.is_wanted(tx, delivery.id) else None
        )
        if ended is not None:
            self._tell(ended, {"reason": ended.reason})

    def _conclude(self, delivery: Delivery, n: int, tally: Tally) -> None:
        """End the attempt and, if that was the last, the entry with all that follows from it (section 8, step 15)."""
        self.trying(self._responses.flush)
        self._seen.pop(delivery.id, None)
        ended = self.commit(lambda tx: self._conclude_in(tx, delivery.id, n, tally))
        over = ended.state is not DeliveryState.OPEN
        told = {
            "attempt": n,
            "sent": tally.sent,
            "refused": tally.refused,
            "reason": ended.reason if over else tally.cut_short or ended.reason,
        }
        self._tell(ended, told if over else {**told, "next": ended.next_try and to_text(ended.next_try)})

    def _tell(self, ended: Delivery, told: Mapping[str, object]) -> None:
        over = ended.state is not DeliveryState.OPEN
        if over:
            self._reached(Step.ENTRY_ENDED)
        alarming = ended.state is DeliveryState.DEAD
        self._note(
            "error" if alarming else "info" if over else "warning",
            ended.state.lower() if over else "attempt",
            {**facts_of(ended), **told},
        )

    def _conclude_in(self, tx: Transaction, number: int, n: int, tally: Tally) -> Delivery:
        delivery, left = deliveries.get(tx, number), deliveries.progress(tx, number)
        result = tally.cut_short or tally.trouble
        deliveries.end_attempt(tx, number, n, tally.sent, tally.refused, result)
        self._proving.end(number)
        to_prove = tally.asked or (
            self._proving.is_wanted(delivery) and not (left.pending or left.refused or left.rejected)
        )
        if delivery.state is not DeliveryState.OPEN or (tally.cut_short and (left.pending or left.refused or to_prove)):
            return delivery
        moment = self._clock()
        age = (moment - delivery.opened).total_seconds() if delivery.opened else 0.0
        outcome = Outcome(tally.sent, tally.refused, tally.trouble, tally.after)
        if to_prove:
            return self._proving.conclude(tx, delivery, outcome, delivery.tries + 1)
        verdict = judge_attempt(left, outcome, delivery.tries + 1, age, delivery.has_fallback, self._pace, self._rng)
        if isinstance(verdict, Again):
            again = moment + timedelta(seconds=verdict.pause)
            deliveries.try_again_at(tx, number, again, verdict.tries, verdict.reason)
            return deliveries.get(tx, number)
        self._reached(Step.ENTRY_ENDING)
        if isinstance(verdict, Arrived):
            return endings.deliver(tx, number)
        return endings.fail(tx, number, verdict.reason + self._example(tx, number))

    def _example(self, tx: Transaction, number: int) -> str:
        refused = deliveries.instances_of(tx, number, (ItemState.REJECTED, ItemState.REFUSED), limit=1)
        return f", for example: {words_for(refused[0])}" if refused else ""


def _is_out_of_resources(result: Result) -> bool:
    """0xA7xx: what has no room for one instance now has none for the next (PS3.4 Table B.2-1)."""
    return isinstance(result, Retry) and result.status is not None and result.status & 0xFF00 == 0xA700
