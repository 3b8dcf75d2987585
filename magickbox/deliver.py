"""The last stage: brings what routing decided to where it goes, with one queue a destination.

A destination that is dead or slow keeps only its own workers waiting. Nothing polls: a worker sleeps until its next
delivery is due or somebody calls ``wake``.
"""

import random
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from magickbox import clock
from magickbox.courier import Courier, Stopping
from magickbox.delivery import Delivery
from magickbox.destinationqueue import DestinationQueue, Means
from magickbox.errors import DiskFull
from magickbox.grouping import Groups, Moving
from magickbox.ledger import Ledger, endings, queues
from magickbox.ledger.responses import Responses
from magickbox.logs import Note, silent
from magickbox.pace import Pace
from magickbox.prover import Provers, no_provers
from magickbox.proving import Proving
from magickbox.queueing import DestinationPolicy, Lane
from magickbox.receipts import Receipts
from magickbox.sender import Sender
from magickbox.steps import Reached, unwatched

LAST_GRACE = 2.0


class Deliver:
    """The stage. ``folder_of`` gives a job's folder; ``reached`` is called at each step of section 8.

    ``policy_of`` says how a destination wants to be served, ``groups`` which there are; they are asked each time.
    """

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        folder_of: Callable[[str], Path],
        *,
        policy_of: Callable[[Lane], DestinationPolicy] = lambda _lane: DestinationPolicy(),
        provers: Provers | None = None,
        groups: Groups = lambda: {},
        pace: Pace | None = None,
        note: Note = silent,
        reached: Reached = unwatched,
        now: clock.Clock = clock.now,
        rng: random.Random | None = None,
    ) -> None:
        self._ledger = ledger
        self._note = note
        self._pace = pace or Pace()
        self._policy_of = policy_of
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._unsettled = threading.Event()
        self._changed = threading.Event()
        self._queues: dict[Lane, DestinationQueue] = {}
        self._dispatcher = threading.Thread(target=self._dispatch, name="deliver", daemon=True)
        rng = rng or random.Random()  # noqa: S311  jitter is no secret
        self._proving = Proving(
            ledger, provers or no_provers(), folder_of, self._pace, note, now, rng, self._stopping, self._wake_all
        )
        self.reported = self._proving.reported
        self._responses = Responses(ledger)
        courier = Courier(
            ledger, sender, folder_of, self._pace, self._proving, self._responses, note, reached, now, rng,
            self._stopping,
        )  # fmt: skip
        self._moving = Moving(ledger, courier.commit, groups, note)
        self._receipts = Receipts(ledger, folder_of, note)
        self._means = Means(
            ledger, sender, courier, self._pace, note, now, rng, self._stopping, self._wake_all, self._woken.set
        )

    def recover(self) -> None:
        """Tidy up after a crash: attempts that were cut short, and jobs that have nothing left to wait for.

        Destinations that were unreachable are asked at once.
        """
        self._responses.recover()
        with self._ledger.transaction() as tx:
            endings.close_attempts(tx)
            endings.settle_all(tx)
            queues.ask_all_soon(tx)

    def start(self) -> None:
        """Recover, and begin with all that is due."""
        self.recover()
        self._wake_all()
        self._dispatcher.start()

    def wake(self) -> None:
        """Look for work now: something was routed, released, or is to be tried again; never blocks."""
        self._unsettled.set()
        self._wake_all()

    def stop(self, timeout: float) -> bool:
        """Stop after the instances in hand; what takes longer than ``timeout`` s is aborted. True if all ended."""
        deadline = time.monotonic() + timeout
        self._stopping.set()
        self._woken.set()
        if self._dispatcher.is_alive():
            self._dispatcher.join(timeout)
        workers = [worker for queue in self._queues.values() for worker in queue.workers]
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
        self._means.sender.close()
        self._responses.close()
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

    def hindrance(self, lane: Lane) -> str:
        """Why nothing more may be sent to a destination now, as its workers know it; empty if nothing is in the way."""
        return self._queues[lane].hindrance() if lane in self._queues else ""

    def _wake_all(self) -> None:
        """Let every queue look for work: an attempt elsewhere may have opened something for it."""
        self._changed.set()
        self._woken.set()

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
                self._wake_all()

    def _look(self) -> None:
        """End the jobs that have nothing left, move what another member of a group can take, wake who may have work.

        Receipts are written last: they are looked at again at the next wake.
        """
        if self._unsettled.is_set():  # not after each delivery: it looks at every job that delivers
            self._unsettled.clear()
            self._means.courier.commit(endings.settle_all)
        if self._moving.move_all() or self._changed.is_set():
            self._changed.clear()
            self._wake_queues()
        with suppress(DiskFull):
            self._receipts.write_all()

    def _wake_queues(self) -> None:
        with self._ledger.reading() as tx:
            wanted = queues.lanes(tx)
        for lane in (*wanted, *self._moving.unreachable()):
            if lane not in self._queues:
                self._queues[lane] = DestinationQueue(lane, partial(self._policy_of, lane), self._means)
        for queue in self._queues.values():
            queue.wake()
