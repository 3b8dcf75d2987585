"""Steps 17 to 20 with something bad in the data folder: the box starts, the others go on, no instance is lost."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import Image, TestBox, new_box
from boxprocess import QUICK_SETTINGS

from magickbox.config import load
from magickbox.errors import DiskFull, LedgerError
from magickbox.job import Job, JobState
from magickbox.ledger import Ledger, jobs
from magickbox.mending.boundary import Boundary
from magickbox.processor import Outcome
from magickbox.runs import attempt as attempts
from magickbox.service import Box, Places, build
from magickbox.verification.ownership import where_is

A, B, C = Image("1.2.1"), Image("1.2.2"), Image("1.2.3")
ODD = "20260312T171200Z-X-7f3a"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def started(box: TestBox) -> dict[str, Job]:
    """Start a whole box on the data folder, stop it, and return its jobs."""
    box.ledger.close()
    settings = load(None, {}, {**QUICK_SETTINGS, "settle_after_abort": 3600}).settings
    places = Places(box.data, box.data.root / "routing.json", box.data.root / "processors")
    (box.data.root / "processors").mkdir(exist_ok=True)
    whole: Box = build(settings, places, os.environ)
    try:
        whole.start()
        whole.stop()
    except BaseException:
        whole.close()
        raise
    box.ledger = Ledger(box.data.ledger)
    with box.ledger.reading() as tx:
        return {job.id: job for job in jobs.newest(tx, -1)}


def log(box: TestBox, name: str = "receive") -> str:
    return (box.data.logs / f"{name}.log").read_text("utf-8")


def owners(box: TestBox, *images: Image) -> list[int]:
    return [len(where_is(box.data, box.ledger, image.uid)) for image in images]


@pytest.mark.parametrize("kind", ["file", "dangling link", "link to elsewhere"])
def test_what_is_no_folder_in_jobs_is_told_of_and_left(box: TestBox, tmp_path: Path, kind: str) -> None:
    good, stray = box.job(A), box.data.jobs / ODD
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "file":
        stray.write_text("x")
    else:
        stray.symlink_to("nothing" if kind == "dangling link" else elsewhere)
    assert set(started(box)) == {good.id}
    assert f"left name=jobs/{ODD}" in log(box)
    assert os.path.lexists(stray)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("plan", [b"", b"[1]", b'{"job": 1', b'{"job": {"id": "x"}}', b"[" * 100_000])
def test_a_damaged_plan_before_anything_moved_is_undone(box: TestBox, plan: bytes) -> None:
    new = box.plan(box.peer().send(A, B))
    (new / ".plan.json").write_bytes(plan)
    assert started(box) == {}
    assert not new.exists()
    assert owners(box, A, B) == [1, 1]


@pytest.mark.parametrize("plan", [b"", b"[1]", None])
def test_a_damaged_plan_after_something_moved_makes_a_held_job(box: TestBox, plan: bytes | None) -> None:
    peer = box.peer().send(A, B)
    new = box.plan(peer)
    os.rename(peer.folder.path / f"{A.uid}.dcm", new / "INPUT" / f"{A.uid}.dcm")
    (new / ".plan.json").unlink()
    if plan is not None:
        (new / ".plan.json").write_bytes(plan)
    [job] = started(box).values()
    assert job.state is JobState.HELD
    assert "tells of 2 instances, but INPUT has 1" in job.reason
    assert owners(box, A, B) == [1, 1]


def test_a_planned_source_that_is_gone_makes_a_held_job_of_the_rest(box: TestBox) -> None:
    peer, other = box.peer().send(A, B), box.peer().send(C)
    box.plan(peer)
    box.plan(other)
    (peer.folder.path / f"{B.uid}.dcm").unlink()
    found = started(box)
    assert len(found) == 2
    assert owners(box, A, C) == [1, 1]


def test_a_plan_without_its_association_folder_does_not_stop_the_start(box: TestBox) -> None:
    peer = box.peer().send(A)
    box.plan(peer)
    shutil.rmtree(peer.folder.path)
    [job] = started(box).values()
    assert job.state is JobState.HELD


def test_a_birth_that_cannot_go_on_keeps_its_sources_for_the_next_start(box: TestBox) -> None:
    peer = box.peer().send(A)
    new = box.plan(peer)
    blocked = box.data.jobs / new.name.removeprefix(".new-")
    blocked.write_text("in the way")
    assert started(box) == {}
    assert (peer.folder.path / f"{A.uid}.dcm").exists() or (new / "INPUT" / f"{A.uid}.dcm").exists()
    blocked.unlink()
    assert list(started(box)) == [blocked.name]
    assert owners(box, A) == [1]


def test_a_run_that_cannot_be_mended_is_held(box: TestBox) -> None:
    job = box.job(A)
    box.start(job)
    attempt = attempts.prepare(box.folder(job), 1, tuple(path.name for path in box.folder(job).input.iterdir()))
    attempts.write_result(attempt, attempts.RunResult(0, Outcome("success")))
    box.folder(job).proc.mkdir()
    after = started(box)[job.id]
    assert after.state is JobState.HELD
    assert "its run cannot be ended in order" in after.reason


def test_a_folder_name_that_is_no_utf8_is_no_trouble(box: TestBox) -> None:
    odd = os.fsencode(box.data.incoming) + b"/\xff"
    os.mkdir(odd)
    with open(odd + b"/a.dcm", "w"):
        pass
    os.mkdir(os.fsencode(box.data.jobs) + b"/\xff")
    assert started(box) == {}
    assert len(list(box.data.quarantine.glob("*.dcm"))) == 1


def boundary(said: list[str], made_room: list[int]) -> Boundary:
    return Boundary(lambda _l, _e, facts: said.append(str(facts["reason"])), lambda: made_room.append(1))


@pytest.mark.parametrize("full", [OSError(errno.ENOSPC, "full"), DiskFull("full")])
def test_a_full_disk_gets_room_and_one_more_try(full: Exception) -> None:
    said: list[str] = []
    made_room: list[int] = []

    def work() -> None:
        if not made_room:
            raise full

    assert boundary(said, made_room).alone("x", work)
    assert (said, made_room) == ([], [1])


def test_a_disk_that_stays_full_leaves_the_thing_for_later() -> None:
    said: list[str] = []
    held: list[str] = []

    def work() -> None:
        raise DiskFull("still\nfull")

    assert not boundary(said, []).alone("x", work, held.append)
    assert (said, held) == (["still full"], [])


def test_a_ledger_that_cannot_be_used_still_refuses_the_start() -> None:
    damaged = sqlite3.DatabaseError("malformed")
    damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    for exc in (damaged, LedgerError("locked")):

        def work(exc: Exception = exc) -> None:
            raise exc

        with pytest.raises(LedgerError):
            boundary([], []).alone("x", work)


def test_a_run_that_met_a_full_disk_goes_on_when_there_is_room(box: TestBox, monkeypatch: pytest.MonkeyPatch) -> None:
    job = box.job(A)
    box.start(job)
    settings = load(None, {}, QUICK_SETTINGS).settings
    box.ledger.close()
    whole = build(settings, Places(box.data, box.data.root / "routing.json", box.data.root), os.environ)
    recovery, full = whole._recovery, [True]

    def clear(_attempt: object) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(attempts, "clear", clear)
    try:
        recovery.run()
        recovery.carry_on_runs()
        with whole.ledger.reading() as tx:
            assert jobs.get(tx, job.id).state is JobState.RUNNING
        full[0] = False
        recovery.carry_on_runs()
        with whole.ledger.reading() as tx:
            assert jobs.get(tx, job.id).state is JobState.READY
    finally:
        whole.close()
    box.ledger = Ledger(box.data.ledger)
