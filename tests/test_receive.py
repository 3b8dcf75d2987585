"""The first stage as a whole: from what a peer sends to jobs, with the real intake and the real birth."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from boxes import Image, Peer, TestBox, new_box

from magickbox.access import Access
from magickbox.association import Association, End
from magickbox.births.birth import Birth
from magickbox.births.newjob import Policy
from magickbox.capacity import Capacity
from magickbox.clock import now
from magickbox.gathering import Waits
from magickbox.incoming.folder import AssociationFolder
from magickbox.incoming.quarantine import Quarantine
from magickbox.incoming.record import read_association
from magickbox.intake import Request
from magickbox.job import Job
from magickbox.owncalls import OwnCalls
from magickbox.receive import Receive
from magickbox.steps import Step
from magickbox.verification.ownership import where_is
from magickbox.verification.verify import verify

A, B = Image("1.2.1"), Image("1.2.2")


@dataclass
class Stage:
    """A box's first stage, running."""

    box: TestBox
    receive: Receive
    born: list[Job]
    events: list[str]
    troubles: list[Exception]

    def opened(self) -> tuple[Association, Peer]:
        """A peer opens an association."""
        association = self.receive.admit(Request("CT", "Proc", ("10.0.0.7", 5)))
        assert isinstance(association, Association)
        folder = AssociationFolder(self.box.data.incoming, association, Quarantine(self.box.data.quarantine))
        return association, Peer(folder)

    def store(self, peer: Peer, image: Image) -> None:
        """The peer sends one instance; it is answered and reported."""
        stored = peer.store(image)
        assert stored.instance is not None
        self.receive.stored(peer.association, stored.instance)

    def end(self, peer: Peer, how: End = End.RELEASED) -> None:
        """The association ends."""
        peer.folder.end(how, now())
        self.receive.ended(peer.association, how)

    def wait_for(self, births: int) -> None:
        """Until that many jobs are born."""
        until = time.monotonic() + 10
        while len(self.born) < births and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.born) == births


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    box = new_box(tmp_path)
    born, events, troubles = list[Job](), list[str](), list[Exception]()

    def policy(_title: str) -> Policy:
        if troubles:
            raise troubles.pop()
        return Policy(Waits(settle=0.05, settle_open=0.05, settle_after_abort=0.2))

    def note(_level: str, event: str, facts: Mapping[str, object]) -> None:
        events.append(event)

    receive = Receive(
        box.data,
        box.ledger,
        Birth(box.data, box.ledger, lambda step: box.reached(step)),
        policy,
        Access(200, None, None),
        Capacity(lambda: True),
        OwnCalls(),
        born.append,
        note,
    )
    receive.start()
    yield Stage(box, receive, born, events, troubles)
    receive.stop()
    box.ledger.close()


def is_swept(stage: Stage) -> bool:
    """True soon: no association folder is left."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not list(stage.box.data.incoming.iterdir()):
            return True
        time.sleep(0.01)
    return False


def test_several_studies_of_one_association_become_a_job_each(stage: Stage) -> None:
    _, peer = stage.opened()
    for n in range(5):
        stage.store(peer, Image(f"1.2.{n}", study=f"1.5.{n}"))
    stage.end(peer)
    stage.wait_for(5)
    assert {job.study for job in stage.born} == {f"1.5.{n}" for n in range(5)}
    assert is_swept(stage)


def test_what_an_earlier_run_of_the_box_left_is_resumed_and_not_counted_again(stage: Stage) -> None:
    peer = stage.box.peer()
    peer.store(A)
    peer.folder.end(End.RELEASED, now())
    stage.receive.recover(read_association(peer.folder.path))
    assert stage.events == ["resumed"]
    assert stage.receive.traffic.numbers()["instances"] == 0


def test_what_was_acknowledged_and_not_reported_counts_as_received(stage: Stage) -> None:
    _, peer = stage.opened()
    assert peer.store(A).instance is not None
    stage.end(peer, End.ABORTED)
    stage.wait_for(1)
    assert stage.receive.traffic.numbers()["instances"] == 1


def test_a_copy_that_comes_while_the_first_one_is_born_stops_nothing(stage: Stage) -> None:
    """The copy is kept once, as the file that is just being moved into the job: it is there already."""
    _, peer = stage.opened()

    def again(step: Step) -> None:
        if step is Step.JOB_PLANNED and not stage.born:
            stage.store(peer, A)

    stage.box.reached = again
    stage.store(peer, A)
    stage.wait_for(1)
    stage.store(peer, B)
    stage.end(peer)
    stage.wait_for(2)
    assert [job.instances for job in stage.born] == [1, 1]
    assert "birth-waits" not in stage.events
    assert is_swept(stage)
    assert len(where_is(stage.box.data, stage.box.ledger, A.uid)) == 1
    assert verify(stage.box.data, stage.box.ledger, quick=False, running=True) == []


def test_nothing_but_such_a_copy_makes_no_job(stage: Stage) -> None:
    _, peer = stage.opened()

    def again(step: Step) -> None:
        if step is Step.JOB_PLANNED:
            stage.store(peer, A)

    stage.box.reached = again
    stage.store(peer, A)
    stage.wait_for(1)
    stage.end(peer)
    assert is_swept(stage)
    stage.wait_for(1)


def test_an_end_between_plan_and_move_gathers_nothing_twice(stage: Stage) -> None:
    """The disk refuses the move for a while, and the association ends meanwhile: its folder is looked through."""
    _, peer = stage.opened()
    refused = list[Step]()

    def refuse(step: Step) -> None:
        if step is Step.JOB_MOVING and not refused:
            refused.append(step)
            raise OSError("input/output error")

    stage.box.reached = refuse
    stage.store(peer, A)
    stage.store(peer, B)
    until = time.monotonic() + 10
    while not refused and time.monotonic() < until:
        time.sleep(0.01)
    stage.end(peer)
    stage.wait_for(1)
    time.sleep(0.3)
    assert [job.instances for job in stage.born] == [2]
    assert is_swept(stage)


def test_what_was_acknowledged_and_not_reported_is_found_at_the_end(stage: Stage) -> None:
    _, peer = stage.opened()
    stage.store(peer, A)
    assert peer.store(B).status == 0
    stage.end(peer, End.ABORTED)
    stage.wait_for(1)
    assert (stage.born[0].instances, stage.born[0].aborted) == (2, True)
    assert is_swept(stage)


def test_an_event_that_meets_trouble_is_taken_again(stage: Stage) -> None:
    """Out of file handles for a moment: what was acknowledged must still become a job."""
    _, peer = stage.opened()
    stage.troubles += [OSError(24, "Too many open files"), ValueError("planted")]
    stage.store(peer, A)
    stage.store(peer, B)
    stage.end(peer)
    until = time.monotonic() + 10
    while sum(job.instances for job in stage.born) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert sum(job.instances for job in stage.born) == 2
    assert stage.events.count("intake-waits") == 1  # told once a minute
    assert len(where_is(stage.box.data, stage.box.ledger, A.uid)) == 1
    assert len(where_is(stage.box.data, stage.box.ledger, B.uid)) == 1


def test_a_study_of_which_some_was_refused_for_now_waits_as_after_an_abort(stage: Stage) -> None:
    """A full disk in the middle of a study: the sender will come again, and the job says that it may be a part."""
    association, peer = stage.opened()
    stage.store(peer, A)
    stage.receive.refused(association, B.uid, 0xA700, "the disk is below its free-space mark")
    stage.end(peer)
    _, again = stage.opened()
    stage.store(again, B)
    stage.end(again)
    stage.wait_for(1)
    assert [(job.instances, job.aborted) for job in stage.born] == [(2, False)]
    third, peer = stage.opened()
    stage.store(peer, Image("1.2.9", study="1.9"))
    stage.receive.refused(third, B.uid, 0xA700, "the disk is below its free-space mark")
    stage.end(peer)
    stage.wait_for(2)
    assert stage.born[1].aborted
