"""A birth that is cut short anywhere is carried on by the next box, and each instance has one owner afterwards."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from boxes import Image, Peer, TestBox, new_box

from magickbox.association import End
from magickbox.births.newjob import Policy
from magickbox.births.plan import plan_from_bytes
from magickbox.clock import now
from magickbox.errors import DiskFull
from magickbox.job import JobState
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Ledger, jobs
from magickbox.processor import Late
from magickbox.removal import Removal
from magickbox.steps import Step, unwatched
from magickbox.verification.ownership import where_is
from magickbox.verification.verify import verify

A, B, C = Image("1.2.1"), Image("1.2.2"), Image("1.2.3")
A2 = replace(A, content=1)
RERUN = Policy(late=Late.RERUN)


class Killed(BaseException):
    """The process is gone; nothing catches it."""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def at(step: Step, what: BaseException, nth: int = 1) -> Callable[[Step], None]:
    """A hook that raises when a step is reached for the n-th time."""
    left = [nth]

    def reached(now_at: Step) -> None:
        if now_at is step:
            left[0] -= 1
            if left[0] == 0:
                raise what

    return reached


def content(box: TestBox, path: Path) -> bytes:
    return path.read_bytes()[-32:]


def two_tries(box: TestBox) -> tuple[Peer, Peer]:
    """The first try was aborted; the second sends all again, one with other bytes: moves, a drop, a superseded."""
    return box.peer().send(A, B, how=End.ABORTED), box.peer().send(A2, B, C)


def check_two_tries(box: TestBox, job: str) -> None:
    """What is there after a birth of ``two_tries``, however often it was cut short."""
    folder = JobFolder(box.data.jobs / job)
    assert sorted(os.listdir(folder.input)) == ["1.2.1.dcm", "1.2.2.dcm", "1.2.3.dcm"]
    assert os.listdir(folder.superseded) == ["1.2.1.1.dcm"]
    assert content(box, folder.input / "1.2.1.dcm") == b"\1" * 32
    assert content(box, folder.superseded / "1.2.1.1.dcm") == b"\0" * 32
    assert os.listdir(box.data.incoming) == []
    assert verify(box.data, box.ledger, quick=False, running=False) == []
    assert [len(where_is(box.data, box.ledger, image.uid)) for image in (A, B, C)] == [2, 1, 1]
    with box.ledger.reading() as tx:
        assert len(jobs.history(tx, job)) == 1
        assert {s.association.id: s.instances for s in jobs.shares_of(tx, job)} == {"a0001": 2, "a0002": 3}


def reopened(box: TestBox) -> TestBox:
    """The next box on this data folder."""
    box.ledger.close()
    box.ledger, box.reached = Ledger(box.data.ledger), unwatched
    return box


def test_a_birth_leaves_nothing_behind(box: TestBox) -> None:
    check_two_tries(box, box.bear(*two_tries(box)).id)


@pytest.mark.parametrize("nth", [1, 2, 4])
def test_killed_in_the_middle_of_moving(box: TestBox, nth: int) -> None:
    path = box.plan(*two_tries(box))
    box.reached = at(Step.JOB_MOVING, Killed(), nth)
    with pytest.raises(Killed):
        box.birth.carry_on(path)
    every = [where_is(box.data, box.ledger, image.uid) for image in (A, B, C)]
    assert all(every), "acknowledged instances are visible at any moment"
    reopened(box).birth.carry_on(path)
    check_two_tries(box, path.name.removeprefix(".new-"))


@pytest.mark.parametrize(
    "step", [Step.JOB_MOVED, Step.JOB_SYNCED, Step.JOB_BORN, Step.JOB_RECORDED, Step.JOB_SWEPT], ids=lambda s: s.name
)
def test_killed_after_the_plan(box: TestBox, step: Step) -> None:
    path = box.plan(*two_tries(box))
    job = path.name.removeprefix(".new-")
    box.reached = at(step, Killed())
    with pytest.raises(Killed):
        box.birth.carry_on(path)
    assert all(where_is(box.data, box.ledger, image.uid) for image in (A, B, C))
    there = reopened(box).birth.find(job)
    if JobFolder(there).plan.exists():
        assert box.birth.carry_on(there).id == job
    check_two_tries(box, job)


def test_killed_at_every_window_in_turn(box: TestBox) -> None:
    """One birth that is cut short at each step, one restart after the other."""
    path = box.plan(*two_tries(box))
    job = path.name.removeprefix(".new-")
    for step in (Step.JOB_MOVING, Step.JOB_MOVED, Step.JOB_SYNCED, Step.JOB_BORN, Step.JOB_RECORDED):
        reopened(box).reached = at(step, Killed())
        with pytest.raises(Killed):
            box.birth.carry_on(box.birth.find(job))
    birth = reopened(box).birth
    birth.carry_on(birth.find(job))
    check_two_tries(box, job)


@pytest.mark.parametrize("step", [Step.JOB_FOLDER_MADE, Step.JOB_PLANNED], ids=lambda s: s.name)
def test_killed_while_it_is_planned_nothing_has_moved(box: TestBox, step: Step) -> None:
    peers = two_tries(box)
    box.reached = at(step, Killed())
    with pytest.raises(Killed):
        box.plan(*peers)
    assert sorted(os.listdir(box.data.incoming / "a0002")) == [
        "1.2.1.dcm",
        "1.2.2.dcm",
        "1.2.3.dcm",
        "association.json",
    ]
    (left,) = box.data.incoming.glob(".new-*")
    assert JobFolder(left).plan.exists() is (step is Step.JOB_PLANNED)


def test_a_disk_that_refuses_the_plan_leaves_nothing(box: TestBox) -> None:
    peers = two_tries(box)
    box.reached = at(Step.JOB_FOLDER_MADE, OSError(errno.ENOSPC, "full"))
    with pytest.raises(OSError, match="full"):
        box.plan(*peers)
    assert sorted(os.listdir(box.data.incoming)) == ["a0001", "a0002"]
    box.reached = unwatched
    check_two_tries(box, box.bear(*peers).id)


@pytest.mark.parametrize(
    ("step", "what"),
    [
        (Step.JOB_MOVING, OSError(errno.EIO, "input/output error")),
        (Step.JOB_SYNCED, OSError(errno.ENOSPC, "full")),
        (Step.JOB_BORN, DiskFull("the ledger cannot write")),
    ],
    ids=["moving", "synced", "born"],
)
def test_what_the_disk_refuses_is_carried_on_by_the_same_box(box: TestBox, step: Step, what: Exception) -> None:
    path = box.plan(*two_tries(box))
    job = path.name.removeprefix(".new-")
    box.reached = at(step, what)
    birth = box.birth
    with pytest.raises(type(what)):
        birth.carry_on(path)
    birth.carry_on(birth.find(job))
    check_two_tries(box, job)


def test_the_plan_survives_its_json(box: TestBox) -> None:
    """All of it: the row, who sent it, each file."""
    box.job(Image("1.2.9"))
    path = box.plan(*two_tries(box), policy=RERUN)
    raw = JobFolder(path).plan.read_bytes()
    plan = plan_from_bytes(raw)
    assert plan.to_bytes() == raw
    assert (plan.job.state, plan.job.received.tzinfo) == (JobState.READY, now().tzinfo)
    assert plan.drops == ("a0003/1.2.2.dcm",)
    assert len(plan.links) == 1


def test_info_tells_who_sent_what(box: TestBox) -> None:
    first = box.job(C)
    job = box.bear(*two_tries(box), aborted=True, policy=RERUN)
    info = json.loads(box.folder(job).info.read_bytes())
    assert (info["CallerIP"], info["AETitleCalled"], info["AETitleCaller"]) == ("10.0.0.7", "Proc", "MODALITY")
    assert (info["job"], info["follows"], info["parent"], info["aborted"]) == (job.id, first.id, None, True)
    assert [(a["id"], a["instances"]) for a in info["associations"]] == [("a0002", 2), ("a0003", 3)]
    assert (info["instances"], info["bytes"]) == (3, job.bytes)
    assert info["series"] == [{"uid": f"{job.study}.1", "modality": "MR", "instances": 3}]
    assert info["files"] == {}


def test_the_last_acknowledged_content_is_the_current_one(box: TestBox) -> None:
    """A, B, A: the first content came again last; it is kept once, and the other one is the earlier one."""
    job = box.bear(box.peer().send(A, A2, A))
    assert (content(box, box.folder(job).input / "1.2.1.dcm"), job.instances) == (b"\0" * 32, 1)
    assert content(box, box.folder(job).superseded / "1.2.1.1.dcm") == b"\1" * 32
    assert verify(box.data, box.ledger, quick=False, running=False) == []


def test_the_order_of_acknowledgements_counts_across_associations(box: TestBox) -> None:
    first, second = box.peer(), box.peer()
    first.store(A)
    second.store(A2)
    first.store(A)
    for peer in (first, second):
        peer.send()
    job = box.bear(second, first)
    assert content(box, box.folder(job).input / "1.2.1.dcm") == b"\0" * 32


def test_many_contents_of_one_instance_are_all_kept(box: TestBox) -> None:
    job = box.bear(*(box.peer().send(replace(A, content=n)) for n in (1, 2, 3, 2, 1)))
    folder = box.folder(job)
    assert content(box, folder.input / "1.2.1.dcm") == b"\1" * 32
    kept = [content(box, folder.superseded / name)[0] for name in sorted(os.listdir(folder.superseded))]
    assert kept == [3, 2]
    assert os.listdir(box.data.incoming) == []


def test_a_uid_and_its_longer_neighbour_do_not_collide(box: TestBox) -> None:
    """superseded/1.2.1.1.dcm is the first content of 1.2.1; the instance 1.2.1.1 is another one."""
    longer = Image("1.2.1.1")
    job = box.bear(box.peer().send(A, longer, A2, replace(longer, content=5)))
    assert sorted(os.listdir(box.folder(job).superseded)) == ["1.2.1.1.1.dcm", "1.2.1.1.dcm"]
    assert verify(box.data, box.ledger, quick=False, running=False) == []


def test_odd_uids_are_named_by_a_hash_and_mapped(box: TestBox) -> None:
    odd = Image("../../etc/passwd")
    job = box.job(odd, A)
    (name,) = (n for n in os.listdir(box.folder(job).input) if n.startswith("uid-"))
    assert json.loads(box.folder(job).info.read_bytes())["files"] == {name: odd.uid}
    assert where_is(box.data, box.ledger, odd.uid) == [f"jobs/{job.id}/INPUT/{name}"]


def test_an_association_that_is_open_keeps_its_folder(box: TestBox) -> None:
    """Its record stays for what it still sends; the folder goes when it ends."""
    peer = box.peer().send(A, how=None)
    box.bear(peer)
    assert os.listdir(box.data.incoming / "a0001") == ["association.json"]
    peer.arrivals.clear()
    peer.send(C)
    late = box.bear(peer)
    assert box.folder(late).input.joinpath("1.2.3.dcm").exists()
    assert os.listdir(box.data.incoming) == []


def test_what_of_an_association_belongs_to_another_study_stays(box: TestBox) -> None:
    peer = box.peer().send(A)
    peer.arrivals, other = peer.arrivals[:], replace(B, study="1.9")
    peer.store(other)
    box.bear(replace_arrivals(peer, 0))
    assert sorted(os.listdir(box.data.incoming / "a0001")) == ["1.2.2.dcm", "association.json"]
    box.bear(replace_arrivals(peer, 1))
    assert os.listdir(box.data.incoming) == []


def replace_arrivals(peer: Peer, n: int) -> Peer:
    return Peer(peer.folder, [peer.arrivals[n]])


def test_a_link_whose_owner_was_deleted_meanwhile_is_left_out(box: TestBox) -> None:
    """Between plan and birth a person deleted the earlier job: the new one has what is its own."""
    first = box.job(A)
    path = box.plan(box.peer().send(C), policy=RERUN)
    Removal(box.data, box.ledger).delete(first.id, "a test")
    job = box.birth.carry_on(path)
    assert (job.instances, box.row(job).instances) == (1, 1)
    assert json.loads(box.folder(job).info.read_bytes())["instances"] == 1
    assert os.listdir(box.folder(job).input) == ["1.2.3.dcm"]
    assert verify(box.data, box.ledger, quick=False, running=False) == []


def test_an_id_that_is_taken_harms_nobody(box: TestBox) -> None:
    """A folder of that name is there, in jobs/ or on its way: the birth is refused before anything is touched."""
    waiting = box.plan(*two_tries(box))
    before = JobFolder(waiting).plan.read_bytes()
    plan = plan_from_bytes(before)
    with pytest.raises(FileExistsError, match="another id"):
        box.birth.plan(plan)
    assert JobFolder(waiting).plan.read_bytes() == before
    box.birth.carry_on(waiting)
    with pytest.raises(FileExistsError, match="another id"):
        box.birth.plan(plan)
    check_two_tries(box, plan.job.id)
