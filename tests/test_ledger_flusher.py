"""Commits that are durable a moment later: a kill takes none of them back, and no moment passes without an fsync."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from peers import wait_for

from magickbox.ledger import Ledger

NORMAL, FULL = 1, 2
COUNTING = """
import sys
from pathlib import Path
from magickbox.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
n = 0
while True:
    n += 1
    with ledger.transaction(soon=True) as tx:
        tx.execute("UPDATE counted SET n = ?", (n,))
    print(n, flush=True)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        with ledger.transaction() as tx:
            tx.execute("CREATE TABLE counted (n INTEGER)")
            tx.execute("INSERT INTO counted VALUES (0)")
        yield ledger


def counted(ledger: Ledger) -> int:
    with ledger.reading() as tx:
        return int(tx.execute("SELECT n FROM counted").fetchone()[0])


def commit(ledger: Ledger, *, soon: bool) -> int:
    """Commit something, and say how SQLite was told to."""
    with ledger.transaction(soon=soon) as tx:
        tx.execute("UPDATE counted SET n = n + 1")
        return int(tx.execute("PRAGMA synchronous").fetchone()[0])


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When somebody but SQLite itself called fsync."""
    moments: list[float] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        assert os.readlink(f"/proc/self/fd/{fd}").endswith("ledger.sqlite-wal")
        real(fd)
        moments.append(time.monotonic())

    monkeypatch.setattr(os, "fsync", fsync)
    return moments


@pytest.mark.kill
def test_a_kill_takes_back_nothing_that_was_committed(ledger: Ledger) -> None:
    writer = subprocess.Popen([sys.executable, "-c", COUNTING, str(ledger.path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    try:
        for line in writer.stdout:
            if int(line) >= 200:
                break
    finally:
        writer.send_signal(signal.SIGKILL)
    said = [int(line) for line in writer.stdout.read().splitlines() if line.isdigit()]
    writer.wait()
    assert counted(ledger) >= max(said, default=200)
    assert ledger.damage() == []


def test_many_commits_share_an_fsync_that_comes_within_the_second(ledger: Ledger, fsyncs: list[float]) -> None:
    began = time.monotonic()
    assert {commit(ledger, soon=True) for _ in range(20)} == {NORMAL}
    took = time.monotonic() - began
    wait_for(lambda: fsyncs)
    assert len(fsyncs) <= 1 + took / 0.5
    assert commit(ledger, soon=False) == FULL


def test_nothing_is_left_to_do_and_no_thread_either(ledger: Ledger, fsyncs: list[float]) -> None:
    commit(ledger, soon=True)
    wait_for(lambda: fsyncs)
    wait_for(lambda: "ledger" not in {thread.name for thread in threading.enumerate()})
    assert len(fsyncs) == 1
    commit(ledger, soon=True)
    wait_for(lambda: len(fsyncs) == 2)


def test_an_end_makes_durable_what_is_not_yet(ledger: Ledger, fsyncs: list[float]) -> None:
    commit(ledger, soon=True)
    ledger.close()
    assert len(fsyncs) == 1


def test_after_a_failed_fsync_each_commit_has_its_own(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    assert commit(ledger, soon=True) == NORMAL
    wait_for(lambda: commit(ledger, soon=True) == FULL)
