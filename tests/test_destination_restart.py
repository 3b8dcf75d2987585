"""Whole boxes that are killed while a destination is gone or paused: nothing is lost, nothing comes twice."""

import time
from pathlib import Path

import peers
from boxprocess import all_jobs, running, send, set_up, station, until
from studies import study

from magickbox.clock import now
from magickbox.datafolder import DataFolder
from magickbox.ledger import Ledger, queues
from magickbox.ledger.queues import QueueLine


def line(root: Path) -> QueueLine | None:
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    try:
        with ledger.reading() as tx:
            return next(iter(queues.overview(tx)), None)
    finally:
        ledger.close()


def is_unreachable(root: Path) -> bool:
    found = line(root)
    return found is not None and found.state.circuit.is_open


def test_gone_killed_paused_killed_back_and_all_is_there_once(tmp_path: Path) -> None:
    root, port = tmp_path / "data", peers.free_port()
    set_up(root, port)
    items = study(tmp_path / "one", 3)
    with running(root) as box:
        assert box.port is not None
        send(box.port, items)
        until(lambda: is_unreachable(root), what="the destination to be unreachable")
        box.kill()
    since = line(root)
    with running(root) as box:
        found = line(root)
        assert found is not None
        assert since is not None
        assert found.state.circuit.open_since == since.state.circuit.open_since
        box.ask("pause", f"STATION@127.0.0.1:{port}")
        box.kill()
    with station(tmp_path / "station", port=port) as goal, running(root) as box:
        time.sleep(1.0)  # twice the longest pause between probes
        assert sum(goal.seen.values()) == 0
        box.ask("resume", "STATION")
        until(lambda: all(state == "DONE" for state in states(root)), what="the job to be done")
        assert sorted(goal.seen.values()) == [1, 1, 1]
        found = line(root)
        assert found is not None
        assert (found.state.word, found.open) == ("RUNNING", 0)
        assert not found.state.circuit.is_open
        assert found.state.since is not None
        assert found.state.since <= now()


def states(root: Path) -> list[str]:
    return [str(job.state) for job in all_jobs(root)]
