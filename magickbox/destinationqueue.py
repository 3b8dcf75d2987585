"""The queue of one destination: its workers, what they may take next, and what is done while nobody answers.

A worker has one delivery at a time, so that a study is not split over two associations. While the destination is
unreachable nothing is sent: the first worker asks it every now and then whether it is there again, and gives up what
has used its budget.
"""

import random
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from magickbox.clock import Clock, to_text
from magickbox.courier import Courier, Stopping
from magickbox.delivery import Delivery
from magickbox.destination import Destination
from magickbox.ledger import Ledger, Transaction, queues
from magickbox.logs import Note
from magickbox.pace import Pace
from magickbox.prover import Abortable
from magickbox.queueing import DestinationPolicy, Lane, Mode, QueueState, until_given_up
from magickbox.schedule import Rate, Ration
from magickbox.sender import Item, Sender
from magickbox.tally import Tally

TURN = 1.0
_NO_RATE = Rate()


@dataclass(frozen=True)
class Means:
    """What every destination's queue works with.

    ``changed`` is called when another destination may have work now, ``over`` when only an attempt has ended.
    """

    ledger: Ledger
    sender: Sender
    courier: Courier
    pace: Pace
    note: Note
    now: Clock
    rng: random.Random
    stopping: threading.Event
    changed: Callable[[], None]
    over: Callable[[], None]


class DestinationQueue:
    """Brings what is open for one destination there, ``policy().connections`` deliveries at a time."""

    def __init__(self, lane: Lane, policy: Callable[[], DestinationPolicy], means: Means) -> None:
        self.lane = lane
        self._policy = policy
        self._means = means
        self._mode = Mode.RUNNING
        self._lock = threading.Lock()
        self._claimed: set[int] = set()
        self._ration = Ration()
        self.workers: list[Worker] = []

    def wake(self) -> None:
        """Look for work now; more workers if the policy asks for them."""
        with self._means.ledger.reading() as tx:
            self._mode = queues.state_of(tx, self.lane).mode
        while len(self.workers) < self._policy().connections:
            self.workers.append(Worker(self.lane, len(self.workers), self._serve))
        for worker in self.workers:
            worker.woken.set()

    def hindrance(self) -> str:
        """Why no further instance may be sent now."""
        if self._mode is Mode.PAUSED:
            return "its destination is paused"
        return "outside its destination's hours" if self._closed_for() else ""

    def _closed_for(self) -> float:
        """Seconds until the destination's hours begin; 0 if nothing is in the way."""
        hours = self._policy().hours
        return hours.closed_for(self._means.now().astimezone()) if hours else 0.0

    def _admit(self, item: Item) -> str:
        """Wait until the destination's rate lets this instance through, or say why it may not be sent now."""
        rate, stopping = self._policy().rate, self._means.stopping
        if rate == _NO_RATE:
            return self.hindrance()
        cost = rate.cost(_size(item))
        while not (stopping.is_set() or self.hindrance()):
            with self._lock:
                left = self._ration.left(time.monotonic())
                if not left:
                    self._ration = self._ration.used(time.monotonic(), cost)
                    return ""
            stopping.wait(min(left, TURN))
        return self.hindrance()

    def _serve(self, worker: "Worker") -> None:
        """A worker's life: attempt what is due, sleep until the next is."""
        stopping = self._means.stopping
        while True:
            worker.woken.clear()
            if stopping.is_set():  # looked at after that: whoever stops sets both
                return
            try:
                pause = self._turn(worker)
            except Stopping:
                return
            except Exception:  # noqa: BLE001  the thread's boundary: said, and gone on after a pause
                self._means.note("error", "worker-broke", {"to": self.lane, "trace": traceback.format_exc()})
                stopping.wait(self._means.pace.confirm)
                continue
            worker.woken.wait(pause)

    def _turn(self, worker: "Worker") -> float | None:
        """Do one thing if there is one to do; how long to sleep then, None until woken."""
        moment = self._means.now()
        with self._means.ledger.reading() as tx:
            state = queues.state_of(tx, self.lane)
        self._mode = state.mode
        if state.mode is Mode.PAUSED or worker.n >= self._policy().connections:
            return None
        if closed := self._closed_for():
            return min(closed, self._means.pace.longest)  # looked at again: the clock may be changed meanwhile
        if state.circuit.is_open:
            return None if worker.n else self._while_unreachable(state, moment)
        delivery, pause = self._claim(state, moment)
        if delivery is None:
            return pause
        try:
            tally = self._means.courier.attempt(delivery, worker.watch, self._admit)
            self._learn(tally)
        finally:
            with self._lock:
                self._claimed.discard(delivery.id)
        if delivery.gate:  # another destination's entry may be open now
            self._means.changed()
        else:
            self._means.over()
        return 0.0

    def _claim(self, state: QueueState, moment: datetime) -> tuple[Delivery | None, float | None]:
        """The next delivery that no other worker has, or how long there is none."""
        longest = self._means.pace.longest
        with self._lock, self._means.ledger.reading() as tx:
            limit, until = len(self._claimed) + 1, state.opened_until
            due = queues.due(tx, moment, moment + timedelta(seconds=longest), self.lane, until, limit)
            for delivery in due:
                if delivery.id not in self._claimed:
                    self._claimed.add(delivery.id)
                    return delivery, None
            next_try = queues.next_due(tx, self.lane, until, moment)
        return None, None if next_try is None else min(longest, (next_try - moment).total_seconds())

    # Whether anybody is there

    def _learn(self, tally: Tally) -> None:
        """Keep what an attempt says of the destination."""
        if tally.answered is None:
            return
        moment, pace, rng = self._means.now(), self._means.pace, self._means.rng

        def learned(was: QueueState) -> QueueState:
            circuit = was.circuit.answered() if tally.answered else was.circuit.unanswered(
                moment, tally.trouble, pace, rng
            )  # fmt: skip
            if tally.sent or not tally.trouble:
                return replace(was, circuit=circuit, troubled=None, trouble="")
            return replace(was, circuit=circuit, troubled=was.troubled or moment, trouble=tally.trouble)

        self._change(learned)

    def _while_unreachable(self, state: QueueState, moment: datetime) -> float | None:
        """Give up what has used its budget; ask the destination when that is due. How long to sleep then."""
        left = self._give_up(state, moment)
        pause = state.circuit.probe_in(moment, self._means.pace.longest_probe)
        if pause > 0:
            return pause if left is None else min(left, pause)
        with self._means.ledger.reading() as tx:
            waiting = queues.oldest(tx, self.lane)
        goal = self._policy().asked if waiting is None else waiting.destination
        if goal is None:
            return None
        self._probe(goal)
        return 0.0

    def _give_up(self, state: QueueState, moment: datetime) -> float | None:
        """Seconds until the next delivery has used its budget; None if nothing is left to send."""
        lefts = []
        for with_fallback in (True, False):
            with self._means.ledger.reading() as tx:
                delivery = queues.oldest(tx, self.lane, with_fallback=with_fallback)
            if delivery is not None:
                left = until_given_up(moment, delivery.opened, self._means.pace.budget(with_fallback))
                if not left:
                    since = to_text(state.circuit.open_since) if state.circuit.open_since else "-"
                    reason = f"given up: unreachable since {since}: {state.circuit.reason}"
                    self._means.courier.give_up(delivery, reason)
                    self._means.changed()
                lefts.append(left)
        return min(lefts, default=None)

    def _probe(self, goal: Destination) -> None:
        """Ask the destination whether it is there; if so, all that is open goes on at once."""
        said = self._means.sender.probe(goal)
        moment, pace, rng = self._means.now(), self._means.pace, self._means.rng
        if said is not None:
            self._change(lambda was: replace(was, circuit=was.circuit.unanswered(moment, said.reason, pace, rng)))
            return
        self._change(lambda was: replace(was, circuit=was.circuit.answered()))
        for worker in self.workers:
            worker.woken.set()
        self._means.changed()  # what waits for another member of its group may come here

    def _change(self, how: Callable[[QueueState], QueueState]) -> None:
        was, state = self._means.courier.commit(lambda tx: self._change_in(tx, how))
        if state.circuit.is_open and not was.circuit.is_open:
            circuit = state.circuit
            facts = {"to": self.lane, "failures": circuit.failures, "reason": circuit.reason}
            self._means.note("error", "unreachable", facts)
        if was.circuit.is_open and not state.circuit.is_open:
            since = was.circuit.open_since
            self._means.note("info", "reachable", {"to": self.lane, "since": since and to_text(since)})

    def _change_in(self, tx: Transaction, how: Callable[[QueueState], QueueState]) -> tuple[QueueState, QueueState]:
        was, state = queues.change(tx, self.lane, how)
        if was.circuit.is_open and not state.circuit.is_open:
            queues.try_all_now(tx, self.lane)
        return was, state


def _size(item: Item) -> int:
    try:
        return item.path.stat().st_size
    except OSError:
        return 0


class Worker:
    """One thread of a destination, its ``n``-th from 0, and the session that it is in."""

    def __init__(self, name: str, n: int, serve: Callable[["Worker"], None]) -> None:
        self.n = n
        self.woken = threading.Event()
        self._session: Abortable | None = None
        self._aborting = False
        self.thread = threading.Thread(target=serve, args=(self,), name=f"deliver-{name}", daemon=True)
        self.thread.start()

    def watch(self, session: Abortable | None) -> None:
        """Be told of the session that is open now."""
        self._session = session
        if session is not None and self._aborting:
            session.abort()

    def abort(self) -> None:
        """Abort the session that is open now and any that opens later."""
        self._aborting = True
        session = self._session
        if session is not None:
            session.abort()
