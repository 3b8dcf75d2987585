"""Chores are done again and again, and one that meets trouble is noted and stops no other."""

import threading
from collections.abc import Mapping

from magickbox.errors import DiskFull
from magickbox.housekeeping import Chore, Housekeeping


def test_chores_go_on_whatever_one_of_them_meets() -> None:
    done = threading.Semaphore(0)
    lines: list[tuple[str, str, str]] = []

    def trouble() -> None:
        raise DiskFull("no room")

    def note(level: str, event: str, facts: Mapping[str, object]) -> None:
        lines.append((level, event, str(facts["chore"])))

    def stumble() -> None:
        raise RecursionError("a bug")

    chores = [Chore("bad", 0.01, trouble), Chore("worse", 0.01, stumble), Chore("good", 0.01, done.release)]
    house = Housekeeping(chores, note)
    house.start()
    assert all(done.acquire(timeout=5) for _ in range(3))
    house.stop()
    assert set(lines) == {("error", "chore-failed", "bad"), ("error", "chore-failed", "worse")}


def test_stopping_what_was_never_started_is_harmless() -> None:
    Housekeeping([], lambda _level, _event, _facts: None).stop()
