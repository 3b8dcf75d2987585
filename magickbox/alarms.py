"""Tells hooks of trouble: one thread looks every few seconds and tells what is new, goes on, or is over.

It looks at how things stand, not at events: nothing piles up, a hook that fails is told again later, and the flow never
waits for it.
"""

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from magickbox.alarm import Key, Kind, Message, Told, Trouble, compare, forgettable, remember
from magickbox.clock import Clock, now
from magickbox.errors import DiskFull
from magickbox.hook import Hook
from magickbox.ledger import Ledger, alarms
from magickbox.logs import Note, Seldom

LOOK, AFTER_FAILURE, GRACE = 5.0, 60.0, 2.0


@dataclass(frozen=True)
class AlarmTimes:
    """In seconds: trouble with a destination that is older than ``after`` is told, and again after ``pause``.

    ``look`` is the time between two looks, ``failed`` the one after a hook that did not take what it was told.
    """

    after: float
    pause: float
    look: float = LOOK
    failed: float = AFTER_FAILURE


class Alarms:
    """Watches until it is stopped. ``box`` is the name by which messages call it."""

    def __init__(
        self,
        box: str,
        ledger: Ledger,
        hooks: Sequence[Hook],
        has_room: Callable[[], bool],
        times: AlarmTimes,
        note: Note,
        clock: Clock = now,
    ) -> None:
        self._box, self._ledger, self._hooks, self._has_room = box, ledger, hooks, has_room
        self._times, self._note, self._clock = times, note, clock
        self._seldom = Seldom(note)
        self._told: dict[Key, Told] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)

    def start(self) -> None:
        """Begin, if there is anybody to tell."""
        if self._hooks:
            self._thread.start()

    def adopt(self, hooks: Sequence[Hook], times: AlarmTimes) -> None:
        """Tell others, at other times, from now on; what was told stays told."""
        before, self._hooks, self._times = self._hooks, hooks, times
        for hook in before:
            hook.end()
        if self._thread.ident is None:
            self.start()

    def stop(self) -> None:
        """Stop; what is being told is cut short, and told again at the next start."""
        self._stopping.set()
        for hook in self._hooks:
            hook.end()
        if self._thread.is_alive():
            self._thread.join(GRACE)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = self._times.look
            try:
                if not self._look():
                    pause = self._times.failed
            except Exception:  # noqa: BLE001  the thread's boundary: said, and looked again
                self._seldom.note("look", "error", "alarms-broke", {"trace": traceback.format_exc()})

    def _look(self) -> bool:
        """Tell what is to be told; False if nobody took it."""
        moment, pause = self._clock(), self._times.pause
        if not self._told:
            with self._ledger.reading() as tx:
                self._told = alarms.told(tx)
        for message in list(compare(self._told, self._present(), moment, pause)):
            if self._stopping.is_set():
                return True
            if not self._tell(message):
                return False
            self._told[message.trouble.key] = remember(self._told, message)
            self._record(self._told[message.trouble.key])
        self._forget(forgettable(self._told, moment, pause))
        return True

    def _present(self) -> Iterator[Trouble]:
        moment = self._clock()
        with self._ledger.reading() as tx:
            yield from alarms.jobs_in_attention(tx)
            yield from alarms.destinations_in_trouble(tx, moment - timedelta(seconds=self._times.after))
        if not self._has_room():
            known = self._told.get((Kind.DISK, "disk"))
            since = known.trouble.since if known and not known.over else moment
            yield Trouble(Kind.DISK, "disk", since, "below its free-space mark (min_free): nothing new is taken")

    def _tell(self, message: Message) -> bool:
        """Tell every hook; True if any took it."""
        facts = message.as_line(self._box)
        taken = []
        for hook in self._hooks:
            problem = hook.tell(facts)
            told = {"kind": message.trouble.kind, "subject": message.trouble.subject, "says": message.says}
            if problem is None:
                taken.append(hook.name)
                self._note("info", "alarm", {**told, "by": hook.name})
            else:
                self._seldom.note(hook.name, "error", "alarm-failed", {**told, "by": hook.name, "reason": problem})
        return bool(taken)

    def _record(self, told: Told) -> None:
        """Keep it for the next start; a disk that is too full for that must not stop the alarm that says so."""
        with suppress(DiskFull), self._ledger.transaction() as tx:
            alarms.record(tx, told)

    def _forget(self, keys: list[Key]) -> None:
        for key in keys:
            del self._told[key]
        if keys:
            with suppress(DiskFull), self._ledger.transaction() as tx:
                alarms.forget(tx, keys)
