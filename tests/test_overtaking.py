"""Contents that overtake each other: nothing that was acknowledged is ever replaced, whatever is carried on."""

from dataclasses import replace
from pathlib import Path

import pytest
from boxes import Image, TestBox, new_box

from magickbox.births.birth import Birth
from magickbox.gathering import Arrival
from magickbox.jobfolder import JobFolder
from magickbox.steps import Step
from magickbox.verification.verify import verify

FIRST, SECOND, THIRD = Image("1.2.1", content=1), Image("1.2.1", content=2), Image("1.2.1", content=3)


@pytest.fixture
def box(tmp_path: Path) -> TestBox:
    return new_box(tmp_path)


def pixels(path: Path) -> int:
    """Which content a file has."""
    return path.read_bytes()[-1]


def test_a_name_is_never_given_twice_by_one_association(box: TestBox) -> None:
    """Not even when the first file has become part of a job."""
    peer = box.peer().send(FIRST, how=None)
    job = box.bear(peer)
    again = peer.store(SECOND)
    assert again.instance is not None
    assert again.instance.file == "1.2.1.1.dcm"
    assert pixels(box.folder(job).input / "1.2.1.dcm") == 1
    assert pixels(peer.folder.path / "1.2.1.1.dcm") == 2


def test_a_birth_that_is_carried_on_does_not_replace_what_it_has(box: TestBox) -> None:
    """Killed between moving and birth, while the same association sends the same UID with other bytes."""

    class Killed(Exception):
        pass

    def kill(step: Step) -> None:
        if step is Step.JOB_MOVED:
            raise Killed

    peer = box.peer().send(FIRST, how=None)
    path = box.plan(peer)
    with pytest.raises(Killed):
        Birth(box.data, box.ledger, kill).carry_on(path)
    assert peer.store(SECOND).instance is not None
    # Even a file under the very name of the plan's source stays where it is.
    (peer.folder.path / "1.2.1.dcm").write_bytes(b"not of this plan")
    job = box.birth.carry_on(path)
    assert pixels(JobFolder(box.data.jobs / job.id).input / "1.2.1.dcm") == 1
    assert (peer.folder.path / "1.2.1.dcm").read_bytes() == b"not of this plan"
    assert pixels(peer.folder.path / "1.2.1.1.dcm") == 2


def test_the_last_acknowledged_is_current_whatever_the_clock_did(box: TestBox) -> None:
    """Two associations, and between them the clock was set back."""
    one, other = box.peer().send(FIRST), box.peer().send(SECOND)
    arrivals = [*one.arrivals, *other.arrivals]
    late, early = arrivals[0].instance.arrived, arrivals[0].instance.arrived - 60_000_000_000
    one.arrivals[0] = _ordered(one.arrivals[0], 1, late)
    other.arrivals[0] = _ordered(other.arrivals[0], 2, early)
    job = box.bear(one, other)
    folder = box.folder(job)
    assert pixels(folder.input / "1.2.1.dcm") == 2
    assert pixels(folder.superseded / "1.2.1.1.dcm") == 1
    assert [f for f in verify(box.data, box.ledger, quick=False, running=False) if f.severity == "error"] == []


def _ordered(arrival: Arrival, order: int, arrived: int) -> Arrival:
    return replace(arrival, instance=replace(arrival.instance, arrived=arrived), order=order)
