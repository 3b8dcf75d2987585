"""Conversions for one session: a few instances ahead of what is sent, so that codec and network work side by side."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeAlias

from magickbox.sender import Item
from magickbox.transcoder import CannotTranscode, Transcoded, Transcoder

AHEAD = 4  # files that wait for their turn on disk, at most; the transcoder says how many are made at once
Outcome: TypeAlias = Transcoded | CannotTranscode


class Conversions:
    """Made by one thread, which takes each item's conversion in turn; ``abort`` may come from any."""

    def __init__(self, transcoder: Transcoder, wanted: Iterable[tuple[Item, tuple[str, ...]]]) -> None:
        """``wanted`` are the items that have to be converted, in the order in which they will be taken."""
        self._transcoder = transcoder
        self._waiting = deque(wanted)
        self._begun: dict[Item, Future[Outcome]] = {}
        self._threads = ThreadPoolExecutor(AHEAD, "convert")
        self._over: Future[Outcome] = Future()

    def take(self, item: Item, targets: tuple[str, ...]) -> Outcome:
        """The item in the first of those transfer syntaxes that is possible; a file is the caller's to remove."""
        if item not in self._begun:
            self._waiting = deque(each for each in self._waiting if each[0] != item)
            self._begin(item, targets)
        while self._waiting and len(self._begun) < AHEAD:
            self._begin(*self._waiting.popleft())
        mine = self._begun.pop(item)
        wait((mine, self._over), return_when=FIRST_COMPLETED)
        if mine.done():
            return mine.result()
        mine.add_done_callback(_remove)
        return CannotTranscode("the association was aborted", passing=True)

    def _begin(self, item: Item, targets: tuple[str, ...]) -> None:
        self._begun[item] = self._threads.submit(
            self._transcoder.transcode, item.path, item.transfer_syntax, list(targets)
        )

    def abort(self) -> None:
        """Have ``take`` come back at once."""
        if not self._over.done():
            self._over.set_result(CannotTranscode("aborted", passing=True))

    def close(self) -> None:
        """Forget what was not taken; what is being converted yet is removed when it is there."""
        self.abort()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for future in self._begun.values():
            future.add_done_callback(_remove)
        self._begun.clear()


def _remove(future: "Future[Outcome]") -> None:
    if future.cancelled() or future.exception() is not None:
        return
    outcome = future.result()
    if isinstance(outcome, Transcoded):
        Path(outcome.path).unlink(missing_ok=True)
