"""Folders without rows are adopted as HELD, a broken ledger is rebuilt, and nothing is sent by that."""

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from boxes import Image, TestBox, new_box

from magickbox.association import End
from magickbox.births.newjob import Policy
from magickbox.clock import now
from magickbox.errors import LedgerError, NotFound
from magickbox.job import Job, JobState, Move
from magickbox.jobfolder import remove_tree
from magickbox.ledger import Ledger, jobs
from magickbox.mending.adopt import adopt
from magickbox.mending.repair import repair
from magickbox.processor import Late, Outcome
from magickbox.removal import Removal
from magickbox.runs import attempt as attempts
from magickbox.steps import Step
from magickbox.verification.ownership import where_is
from magickbox.verification.verify import verify

A, B, C = Image("1.2.1"), Image("1.2.2"), Image("1.2.3")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def forget(box: TestBox) -> TestBox:
    """The same data folder with an empty ledger."""
    box.ledger.close()
    box.data.ledger.unlink()
    box.ledger = Ledger(box.data.ledger)
    return box


def held(box: TestBox, job: Job) -> dict[tuple[str, str], str]:
    """What a job's row has: SOP Instance UID by (place, file)."""
    with box.ledger.reading() as tx:
        return {(h.place, h.instance.file): h.instance.sop_instance for h in jobs.held_by(tx, job.id)}


def test_a_row_is_rebuilt_as_it_was_but_held(box: TestBox) -> None:
    job = box.bear(box.peer().send(A, B), box.peer().send(replace(A, content=1), C))
    with box.ledger.reading() as tx:
        before, shares = jobs.held_by(tx, job.id), jobs.shares_of(tx, job.id)
    adopted = adopt(forget(box).data, box.ledger, job.id)
    assert (adopted.state, adopted.resume) == (JobState.HELD, JobState.READY)
    assert "without a row" in adopted.reason
    names = ("id", "calling_ae", "called_ae", "peer", "study", "received", "instances", "bytes", "outcome", "attempt")
    assert [getattr(adopted, n) for n in names] == [getattr(job, n) for n in names]
    with box.ledger.reading() as tx:
        assert jobs.held_by(tx, job.id) == before
        assert [s.association.id for s in jobs.shares_of(tx, job.id)] == [s.association.id for s in shares]
    assert box.move(adopted, Move.RELEASE).state is JobState.READY


def test_how_an_association_ended_comes_back_from_info(box: TestBox) -> None:
    peer = box.peer().send(A, how=End.ABORTED)
    peer.folder.association = replace(peer.association, ended=now(), how=End.ABORTED)
    job = box.bear(peer)
    adopt(forget(box).data, box.ledger, job.id)
    with box.ledger.reading() as tx:
        (share,) = jobs.shares_of(tx, job.id)
    assert share.association.how is End.ABORTED
    assert share.association.how.is_abort
    assert share.association == peer.association


def test_an_outcome_is_not_made_twice(box: TestBox) -> None:
    job = box.run(box.job(A), "partial")
    adopted = adopt(forget(box).data, box.ledger, job.id)
    assert (adopted.resume, adopted.outcome, adopted.attempt) == (JobState.PROCESSED, "partial", 1)
    assert os.listdir(box.folder(job).output) == ["result.txt"]


def test_a_job_that_has_a_row_keeps_it(box: TestBox) -> None:
    job = box.job(A)
    assert adopt(box.data, box.ledger, job.id) == box.row(job) == job


def test_the_folder_of_a_lost_job_is_found_again(box: TestBox) -> None:
    job = box.run(box.job(A))
    box.move(job, Move.LOSE)
    found = adopt(box.data, box.ledger, job.id)
    assert (found.state, found.resume) == (JobState.HELD, JobState.PROCESSED)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"null", b'"x"', b"[" * 100_000, b"\xff"])
def test_without_info_the_instances_still_have_an_owner(box: TestBox, content: bytes | None) -> None:
    job = box.job(A, B)
    info = box.folder(job).info
    info.unlink() if content is None else info.write_bytes(content)
    adopted = adopt(forget(box).data, box.ledger, job.id)
    assert (adopted.calling_ae, adopted.called_ae, adopted.study) == ("?", "?", job.study)
    assert "info.json cannot be read" in adopted.reason
    assert held(box, job) == {("INPUT", "1.2.1.dcm"): "1.2.1", ("INPUT", "1.2.2.dcm"): "1.2.2"}
    assert json.loads(info.read_bytes())["instances"] == 2
    assert content is None or (info.parent / "info.json.invalid").read_bytes() == content


@pytest.mark.parametrize("value", [7, [], {}, None, "", "\ud800", [7], [{}], [{"id": "x", "began": "y"}]])
def test_odd_values_in_info_are_unknown(box: TestBox, value: object) -> None:
    job = box.job(A)
    box.folder(job).info.write_text(json.dumps(dict.fromkeys(json.loads(box.folder(job).info.read_bytes()), value)))
    adopted = adopt(forget(box).data, box.ledger, job.id)
    assert adopted.state is JobState.HELD
    with box.ledger.reading() as tx:
        assert len(jobs.shares_of(tx, job.id)) == 1


def test_an_id_whose_time_is_none_is_adopted(box: TestBox) -> None:
    job = box.job(A)
    odd = f"20269912T996161Z-{job.id[17:]}"
    box.folder(job).path.rename(box.data.jobs / odd)
    adopted = adopt(forget(box).data, box.ledger, odd)
    assert "names another job" in adopted.reason


def test_a_file_that_cannot_be_read_is_kept_and_told_of(box: TestBox) -> None:
    job = box.job(A, B)
    broken = box.folder(job).input / "1.2.2.dcm"
    broken.chmod(0o600)
    broken.write_bytes(b"nothing")
    adopted = adopt(forget(box).data, box.ledger, job.id)
    assert "1 of its files cannot be read" in adopted.reason
    assert adopted.instances == 1
    assert broken.read_bytes() == b"nothing"


def test_adoption_with_a_plan_drops_copies_and_keeps_shares(box: TestBox) -> None:
    class Killed(BaseException):
        pass

    def kill(step: str) -> None:
        if step.startswith("8 in jobs/"):
            raise Killed

    peers = box.peer().send(A), box.peer().send(A)
    path = box.plan(*peers)
    box.reached = kill
    with pytest.raises(Killed):
        box.birth.carry_on(path)
    name = path.name.removeprefix(".new-")
    adopted = adopt(box.data, box.ledger, name)
    assert adopted.state is JobState.HELD
    assert os.listdir(box.data.incoming) == []
    assert not box.folder(adopted).plan.exists()
    with box.ledger.reading() as tx:
        assert [s.association.id for s in jobs.shares_of(tx, name)] == ["a0001", "a0002"]


def test_a_plan_that_cannot_be_read_is_put_aside(box: TestBox) -> None:
    job = box.job(A)
    box.folder(job).plan.write_bytes(b'{"job":')
    assert adopt(forget(box).data, box.ledger, job.id).instances == 1
    assert (box.folder(job).path / "plan.json.invalid").exists()


def test_links_of_what_an_earlier_job_owns_are_views(box: TestBox) -> None:
    first = box.job(A, B)
    later = box.job(C, policy=Policy(late=Late.RERUN))
    for job in (first, later):
        assert adopt(forget(box).data if job is first else box.data, box.ledger, job.id).state is JobState.HELD
    assert set(held(box, first)) == {("INPUT", "1.2.1.dcm"), ("INPUT", "1.2.2.dcm")}
    assert set(held(box, later)) == {("INPUT", "1.2.3.dcm"), ("view", "1.2.1.dcm"), ("view", "1.2.2.dcm")}


def test_a_run_that_was_over_is_published(box: TestBox) -> None:
    job = box.job(A)
    box.start(job)
    attempt = attempts.prepare(box.folder(job), 1, ("1.2.1.dcm",))
    (attempt.output / "x").touch()
    attempts.write_result(attempt, attempts.RunResult(0, Outcome("success")))
    adopted = adopt(forget(box).data, box.ledger, job.id)
    assert (adopted.outcome, adopted.resume) == ("success", JobState.PROCESSED)
    assert (box.folder(job).output / "x").exists()


def test_output_without_an_outcome_is_put_aside(box: TestBox) -> None:
    """A new run publishes its own; the old one's must not be taken for it."""
    job = box.run(box.job(A))
    box.folder(job).proc.write_text("no")
    box.folder(job).attempt(1).result.unlink()
    adopted = adopt(forget(box).data, box.ledger, job.id)
    assert adopted.resume is JobState.READY
    assert not box.folder(job).output.exists()
    assert (box.folder(job).path / "OUTPUT.unfinished" / "result.txt").exists()


@pytest.mark.parametrize("name", ["..", "notes", "20260312T171200Z-ProcRSI-7f3a", ""])
def test_what_is_no_job_folder_is_refused(box: TestBox, name: str) -> None:
    (box.data.jobs / "notes").mkdir()
    with pytest.raises(NotFound):
        adopt(box.data, box.ledger, name)


def test_a_folder_without_instances_is_adopted(box: TestBox) -> None:
    job = box.job(A)
    remove_tree(box.folder(job).input)
    assert adopt(forget(box).data, box.ledger, job.id).instances == 0


def rebuilt(box: TestBox) -> list[str]:
    """Repair, and open the ledger that is there then."""
    box.ledger.close()
    done = repair(box.data)
    box.ledger = Ledger(box.data.ledger)
    return done


def states(box: TestBox) -> dict[str, JobState]:
    with box.ledger.reading() as tx:
        return {job.id: job.state for job in jobs.newest(tx, -1)}


def garble(path: Path, content: bytes = b"this is no database" * 500) -> None:
    path.write_bytes(content)


def test_a_ledger_that_is_well_is_left_alone(box: TestBox) -> None:
    job = box.run(box.job(A))
    assert rebuilt(box) == []
    assert states(box) == {job.id: JobState.PROCESSED}


def test_an_unreadable_ledger_is_kept_and_rebuilt(box: TestBox) -> None:
    """All jobs are HELD, in the order of their birth, with one owner for each instance; the old file is kept."""
    ran, ready = box.run(box.job(A, B), "failed"), box.job(C, policy=Policy(late=Late.RERUN))
    box.ledger.close()
    garble(box.data.ledger)
    done = rebuilt(box)
    assert states(box) == {ran.id: JobState.HELD, ready.id: JobState.HELD}
    assert [box.row(job).resume for job in (ran, ready)] == [JobState.PROCESSED, JobState.READY]
    assert len(done) == 3
    (aside,) = box.data.state.glob("ledger.sqlite.broken-*")
    assert aside.name in done[0]
    assert aside.read_bytes().startswith(b"this is no database")
    assert verify(box.data, box.ledger, quick=False, running=False) == []
    assert [len(where_is(box.data, box.ledger, image.uid)) for image in (A, B, C)] == [1, 1, 1]


def test_damage_inside_the_ledger_is_found(box: TestBox) -> None:
    job = box.job(*(Image(f"1.2.{n}") for n in range(300)))
    box.ledger.close()
    with box.data.ledger.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (box.data.ledger.stat().st_size - 4096))
    assert len(rebuilt(box)) == 2
    assert states(box) == {job.id: JobState.HELD}


def test_an_empty_ledger_is_filled(box: TestBox) -> None:
    job = box.job(A)
    box.ledger.close()
    garble(box.data.ledger, b"")
    assert len(rebuilt(box)) == 1
    assert states(box) == {job.id: JobState.HELD}


def test_a_ledger_of_a_newer_version_is_never_moved_away(box: TestBox) -> None:
    box.ledger.close()
    connection = sqlite3.connect(box.data.ledger)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    with pytest.raises(LedgerError, match="newer"):
        repair(box.data)
    assert list(box.data.state.glob("*broken*")) == []


def test_repair_adopts_and_finds_beside_a_good_ledger(box: TestBox) -> None:
    lost, kept = box.job(A), box.job(B)
    box.move(lost, Move.LOSE)
    (box.data.jobs / "notes").mkdir()
    (box.data.jobs / "readme.txt").touch()
    done = rebuilt(box)
    assert states(box) == {lost.id: JobState.HELD, kept.id: JobState.READY}
    assert [line.split(":")[0] for line in done] == [f"jobs/{lost.id}", "jobs/notes", "jobs/readme.txt"]


def test_a_job_that_was_being_removed_keeps_a_row(box: TestBox) -> None:
    """The next start removes the rest; what it had is owned by its DELETED row then."""

    class Killed(BaseException):
        pass

    def kill(step: Step) -> None:
        if step is Step.DELETE_RENAMED:
            raise Killed

    job = box.job(A)
    with pytest.raises(Killed):
        Removal(box.data, box.ledger, kill).delete(job.id, "test")
    box.ledger.close()
    garble(box.data.ledger)
    rebuilt(box)
    assert states(box) == {job.id: JobState.DELETING}
    assert Removal(box.data, box.ledger).carry_on(job.id).state is JobState.DELETED
    assert where_is(box.data, box.ledger, A.uid) == [f"deleted: {job.id}"]
    assert os.listdir(box.data.incoming) == []


def test_repair_twice_is_the_same_as_once(box: TestBox) -> None:
    job = box.job(A)
    box.ledger.close()
    garble(box.data.ledger)
    rebuilt(box)
    assert rebuilt(box) == []
    assert states(box) == {job.id: JobState.HELD}


def test_one_bad_folder_does_not_stop_the_others(box: TestBox) -> None:
    bad, good = box.job(A), box.job(B)
    info = box.folder(bad).info
    info.unlink()
    info.mkdir()
    (box.folder(bad).path / "info.json.invalid").write_text("in the way")
    forget(box)
    done = rebuilt(box)
    assert states(box)[good.id] is JobState.HELD
    assert any("could not be adopted" in line for line in done)
