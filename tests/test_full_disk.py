"""A disk that fills up while receiving, while a job is born, while its processor runs and while it is routed.

The data folder is a small tmpfs, so that the disk is really full; mounting it needs root.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from boxprocess import all_jobs, is_quiet, running, send, set_up, station, until
from studies import study

from magickbox.datafolder import DataFolder
from magickbox.job import JobState
from magickbox.ledger import Ledger, jobs
from magickbox.verification.verify import verify, where_is

MB = 1024 * 1024
FILL = '#!/bin/sh\ncat /dev/zero > "$2/fill" 2>/dev/null\nexit 3\n'


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A tmpfs of ``request.param`` MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """A file beside the box's that takes all room but ``leave`` bytes."""
    path = folder / "filler"
    with path.open("wb") as file:
        while (room := _room(folder) - leave) > 0:
            with suppress(OSError):  # the box has written something meanwhile
                os.posix_fallocate(file.fileno(), 0, room)
                break
    return path


def _room(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def check_kept(root: Path, acknowledged: set[str]) -> None:
    """Every acknowledged instance is in one place, and verify finds nothing."""
    data = DataFolder(root)
    ledger = Ledger(data.ledger, readonly=True)
    try:
        assert [f for f in verify(data, ledger, quick=False, running=False) if f.severity == "error"] == []
        assert all(len(where_is(data, ledger, uid)) == 1 for uid in acknowledged)
    finally:
        ledger.close()


@pytest.mark.parametrize("small_disk", [40], indirect=True)
def test_full_while_receiving(tmp_path: Path, small_disk: Path) -> None:
    """Instances are refused for now, none that was acknowledged is lost, and the rest is taken when there is room."""
    root = small_disk / "data"
    items = study(tmp_path / "one", 12, pixels=512)
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, settings={"min_free": "2M"}) as box:
            assert box.port is not None
            filler = fill(small_disk, leave=5 * MB)
            first = send(box.port, items)
            assert first.acknowledged
            assert first.unanswered
            filler.unlink()
            rest = [item for item in items if item.sop_instance in first.unanswered]
            second = send(box.port, rest)
            assert second.unanswered == set()
            until(lambda: is_quiet(root), what="all jobs done")
        acknowledged = first.acknowledged | second.acknowledged
        check_kept(root, acknowledged)
        assert set(goal.seen) == acknowledged
        assert {job.state for job in all_jobs(root)} == {JobState.DONE}


@pytest.mark.parametrize("small_disk", [40], indirect=True)
def test_refused_association_while_the_disk_is_full(tmp_path: Path, small_disk: Path) -> None:
    """Below the mark a new association is rejected for now, and the log says why."""
    root = small_disk / "data"
    set_up(root, 1)
    with running(root, settings={"min_free": "8M"}) as box:
        assert box.port is not None
        fill(small_disk, leave=4 * MB)
        sent = send(box.port, study(tmp_path / "one", 1))
        assert sent.acknowledged == set()
    log = (root / "logs" / "receive.log").read_text()
    assert "rejected" in log
    assert "answer=2/3/2" in log
    assert "min_free" in log


@pytest.mark.parametrize("small_disk", [40], indirect=True)
def test_full_while_a_job_is_born(tmp_path: Path, small_disk: Path) -> None:
    """A birth that finds no room waits, and happens when there is room again."""
    root = small_disk / "data"
    items = study(tmp_path / "one", 3)
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root) as box:
            assert box.port is not None
            sent = send(box.port, items)
            filler = fill(small_disk)
            log = root / "logs" / "receive.log"
            with pytest.raises(AssertionError, match="in vain"):
                until(lambda: bool(all_jobs(root)), timeout=1.5)
            filler.unlink()
            until(lambda: bool(all_jobs(root)) and is_quiet(root), what=log.read_text())
        check_kept(root, sent.acknowledged)
        assert set(goal.seen) == {item.sop_instance for item in items}


@pytest.mark.parametrize("small_disk", [60], indirect=True)
def test_a_processor_that_fills_the_disk(tmp_path: Path, small_disk: Path) -> None:
    """It is tried three times and then HELD with a reason; what it wrote is gone, and other jobs go on."""
    root = small_disk / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        greedy = root / "processors" / "FILL"
        greedy.write_text(FILL)
        greedy.chmod(0o755)
        with running(root, settings={"min_free": "4M"}) as box:
            assert box.port is not None
            assert send(box.port, study(tmp_path / "one", 2), called="FILL").unanswered == set()
            held = lambda: any(job.state is JobState.HELD for job in all_jobs(root))  # noqa: E731
            until(held, 40, "the job is held")
            [job] = all_jobs(root)
            assert "3 times" in job.reason
            assert "disk" in job.reason
            assert send(box.port, study(tmp_path / "two", 2)).unanswered == set()
            until(lambda: is_quiet(root), what="the other job is done")
        assert sorted(j.state for j in all_jobs(root)) == [JobState.DONE, JobState.HELD]


@pytest.mark.parametrize("code", [0, 75])
@pytest.mark.parametrize("in_chain", [False, True])
@pytest.mark.parametrize("small_disk", [60], indirect=True)
def test_what_filled_the_disk_does_not_keep_the_box_from_saying_so(
    tmp_path: Path, small_disk: Path, in_chain: bool, code: int
) -> None:
    root = small_disk / "data"
    set_up(root, 1)
    greedy = root / "processors" / "FILL"
    greedy.mkdir()
    (greedy / "run.sh").write_text(f'#!/bin/sh\ncat /dev/zero > "$2/fill" 2>/dev/null\nexit {code}\n')
    (greedy / "run.sh").chmod(0o755)
    what = {"command": ["./run.sh"]}
    (greedy / "processor.json").write_text(json.dumps({"steps": [what, what]} if in_chain else what))
    with running(root, settings={"min_free": "4M"}) as box:
        assert box.port is not None
        assert send(box.port, study(tmp_path / "one", 2), called="FILL").unanswered == set()
        until(lambda: any("interrupted" in job.reason for job in all_jobs(root)), 40, "it is written down")
        [job] = all_jobs(root)
        box.ask("hold", job.id)
        until(lambda: [job.state for job in all_jobs(root)] == [JobState.HELD], 40, "the job is held")
    assert _room(small_disk) > 30 * MB, "what it wrote is gone"


@pytest.mark.parametrize("small_disk", [160], indirect=True)
def test_the_ledger_can_still_write_on_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """The ballast is given up, so that what is already there is delivered although nothing else fits."""
    root = small_disk / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root) as box:
            assert box.port is not None
            ballast = DataFolder(root).ballast
            assert ballast.exists()
            sent = send(box.port, study(tmp_path / "one", 2))
            until(lambda: bool(all_jobs(root)) and is_quiet(root), what="first job")
            [job] = all_jobs(root)
            fill(small_disk)
            for _ in range(200):
                box.ask("reroute", job.id)
                until(lambda: is_quiet(root), what="reroute")
                if not ballast.exists():
                    break
            assert not ballast.exists()
            box.ask("reroute", job.id)
            until(lambda: is_quiet(root), what="reroute without ballast")
        ledger = Ledger(DataFolder(root).ledger, readonly=True)
        with ledger.reading() as tx:
            assert jobs.get(tx, job.id).state is JobState.DONE
        ledger.close()
        check_kept(root, sent.acknowledged)
