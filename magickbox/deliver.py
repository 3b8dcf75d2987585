"""The last stage: brings what routing decided to where it goes, with one queue and one worker a destination.

A destination that is dead or slow keeps only its own worker waiting. Nothing polls: a worker sleeps until its next
delivery is due or somebody calls ``wake``.
"""

import random
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from magickbox import clock
from magickbox.courier import Courier, Stopping
from magickbox.delivery import Delivery
from magickbox.ledger import Ledger, deliveries, endings
from magickbox.ledger.deliveries import Lane
from magickbox.logs import Note, silent
from magickbox.pace import Pace
from magickbox.sender import Sender, Session
from magickbox.steps import Reached, unwatched

LAST_GRACE = 2.0


class Deliver:
    """The stage. ``folder_of`` gives a job's folder; ``reached`` is called at each step of section 8."""

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        folder_of: Callable[[str], Path],
        *,
        pace: Pace | None = None,
        note: Note = silent,
        reached: Reached = unwatched,
        now: clock.Clock = clock.now,
        rng: random.Random | None = None,
    ) -> None:
        self._ledger = ledger
        self._note = note
        self._pace = pace or Pace()
        self._now = now
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._workers: dict[Lane, _Worker] = {}
        self._dispatcher = threading.Thread(target=self._dispatch, name="deliver", daemon=True)
        self._courier = Courier(
            ledger, sender, folder_of, self._pace, note, reached, now,
            rng or random.Random(), self._stopping,  # noqa: S311  jitter is no secret
        )  # fmt: skip

    def recover(self) -> None:
        """Tidy up after a crash: attempts that were cut short, and jobs that have nothing left to wait for."""
        with self._ledger.transaction() as tx:
            endings.close_attempts(tx)
            endings.settle_all(tx)

    def start(self) -> None:
        """Recover, and begin with all that is due."""
        self.recover()
        self._woken.set()
        self._dispatcher.start()

    def wake(self) -> None:
        """Look for work now: something was routed, released, or is to be tried again; never blocks."""
        self._woken.set()

    def stop(self, timeout: float) -> bool:
        """Stop after the instances in hand; what takes longer than ``timeout`` s is aborted. True if all ended."""
        deadline = time.monotonic() + timeout
        self._stopping.set()
        self._woken.set()
        if self._dispatcher.is_alive():
            self._dispatcher.join(timeout)
        workers = list(self._workers.values())
        for worker in workers:
            worker.woken.set()
        for worker in workers:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
        slow = [worker for worker in workers if worker.thread.is_alive()]
        for worker in slow:
            worker.abort()
        deadline = time.monotonic() + LAST_GRACE
        for worker in slow:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(worker.thread.is_alive() for worker in workers)

    def retry(self, delivery: int, who: str) -> Delivery:
        """Try a delivery again that did not arrive; raises NotFound or ForbiddenMove."""
        with self._ledger.transaction() as tx:
            opened = endings.retry(tx, delivery, who)
        self.wake()
        return opened

    def cancel(self, delivery: int, who: str) -> Delivery:
        """Take a delivery back that is not over; raises NotFound or ForbiddenMove."""
        with self._ledger.transaction() as tx:
            ended = endings.cancel(tx, delivery, who)
        self.wake()
        return ended

    def _dispatch(self) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            if self._stopping.is_set():
                return
            try:
                self._look()
            except Stopping:
                return
            except Exception:  # noqa: BLE001  the thread's boundary: said, and looked again
                self._note("error", "deliver-broke", {"trace": traceback.format_exc()})
                self._stopping.wait(self._pace.confirm)
                self._woken.set()

    def _look(self) -> None:
        """End the jobs that have nothing left, see that each destination has a worker, and wake them all."""
        self._courier.commit(endings.settle_all)
        with self._ledger.reading() as tx:
            wanted = deliveries.lanes(tx)
        for lane in wanted:
            if lane not in self._workers:
                self._workers[lane] = _Worker(lane, self._serve)
        for worker in self._workers.values():
            worker.woken.set()

    def _serve(self, worker: "_Worker") -> None:
        """A worker's life: attempt what is due for its destination, sleep until the next is."""
        while not self._stopping.is_set():
            worker.woken.clear()
            try:
                pause = self._turn(worker)
            except Stopping:
                return
            except Exception:  # noqa: BLE001  the thread's boundary: said, and gone on after a pause
                self._note("error", "worker-broke", {"to": worker.lane, "trace": traceback.format_exc()})
                self._stopping.wait(self._pace.confirm)
                continue
            worker.woken.wait(pause)

    def _turn(self, worker: "_Worker") -> float | None:
        """Make one attempt if one is due; how long to sleep then, None until woken."""
        moment = self._now()
        with self._ledger.reading() as tx:
            due = deliveries.due(tx, moment, moment + timedelta(seconds=self._pace.longest), worker.lane, limit=1)
            next_try = None if due else deliveries.next_due(tx, worker.lane)
        if due:
            self._courier.attempt(due[0], worker.watch)
            self.wake()  # another destination's entry may be open now
            return 0.0
        if next_try is None:
            return None
        return min(self._pace.longest, max(0.0, (next_try - moment).total_seconds()))


class _Worker:
    """The thread of one destination, and the session that it is in."""

    def __init__(self, lane: Lane, serve: Callable[["_Worker"], None]) -> None:
        self.lane = lane
        self.woken = threading.Event()
        self._session: Session | None = None
        self._aborting = False
        host, _, called_ae = lane
        self.thread = threading.Thread(target=serve, args=(self,), name=f"deliver-{called_ae}@{host}", daemon=True)
        self.thread.start()

    def watch(self, session: Session | None) -> None:
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
