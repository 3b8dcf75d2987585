"""The runs that are under way: what each of them holds, and what is left for others."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from magickbox.allotment import NOTHING, Amount
from magickbox.clock import now


@dataclass(frozen=True)
class Held:
    """What one run holds: its thread, its processor's name, and its part of the machine; and which attempt it is."""

    thread: threading.Thread
    processor: str
    amount: Amount
    attempt: int
    since: datetime


class Slots:
    """Each run in a thread of its own; safe from any thread."""

    def __init__(self, room: Amount) -> None:
        self.room = room
        self._held: dict[str, Held] = {}

    def running(self) -> dict[str, threading.Thread]:
        """The jobs whose runs are under way, with their threads."""
        return {job: held.thread for job, held in dict(self._held).items()}

    def held(self) -> dict[str, Held]:
        """The same, with all that is known of them."""
        return dict(self._held)

    def free(self) -> Amount:
        """What is left; nothing of what was given away already, even if it was more than there is."""
        held = NOTHING
        for each in dict(self._held).values():
            held = held.plus(each.amount)
        return self.room.less(held)

    def by_processor(self) -> Counter[str]:
        """How many runs of each processor there are."""
        return Counter(each.processor for each in dict(self._held).values())

    def give(
        self, job: str, attempt: int, processor: str, amount: Amount, work: Callable[[], None], over: Callable[[], None]
    ) -> None:
        """Start the thread of one run; ``over`` is called when what it holds is free again.

        Raises RuntimeError, after which nothing is held.
        """

        def go() -> None:
            try:
                work()
            finally:
                self._held.pop(job, None)
                over()

        thread = threading.Thread(target=go, name=f"run {job}", daemon=True)
        self._held[job] = Held(thread, processor, amount, attempt, now())
        try:
            thread.start()
        except BaseException:
            self._held.pop(job, None)
            raise
