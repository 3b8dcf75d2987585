"""What a new job is: whom it follows, what it is shown, and in which state its life begins."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from boxes import STUDY, Image, TestBox, new_box

from magickbox.association import End
from magickbox.births.lineage import MAX_CHAIN, already_there, loop
from magickbox.births.newjob import Policy, unused_id
from magickbox.clock import to_text
from magickbox.job import Job, JobState, Move
from magickbox.ledger import jobs
from magickbox.processor import Late
from magickbox.removal import Removal

A, B, C = Image("1.2.1"), Image("1.2.2"), Image("1.2.3")
RERUN = Policy(late=Late.RERUN)
HOLD = Policy(hold_aborted=True)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def seen(box: TestBox, job: Job) -> set[str]:
    """What the processor sees of a job."""
    return {path.name.removesuffix(".dcm") for path in box.folder(job).input.iterdir()}


def places(box: TestBox, job: Job) -> dict[str, str]:
    with box.ledger.reading() as tx:
        return {f"{h.place}/{h.instance.file}": h.instance.sop_instance for h in jobs.held_by(tx, job.id)}


def test_a_first_job_is_ready_and_follows_nobody(box: TestBox) -> None:
    job = box.job(A, B)
    assert (job.state, job.follows, job.parent, job.aborted) == (JobState.READY, None, None, False)
    assert (job.calling_ae, job.called_ae, job.peer, job.study) == ("MODALITY", "Proc", "10.0.0.7", STUDY)
    files = box.folder(job).input.iterdir()
    assert (job.instances, job.bytes) == (2, sum(path.stat().st_size for path in files))
    assert box.row(job) == job


def test_a_late_instance_makes_a_job_that_follows_with_what_is_new(box: TestBox) -> None:
    first = box.job(A, B)
    late = box.job(C)
    assert (late.state, late.follows, late.instances) == (JobState.READY, first.id, 1)
    assert seen(box, late) == {"1.2.3"}


def test_late_rerun_shows_the_whole_study(box: TestBox) -> None:
    first = box.job(A, B)
    late = box.job(C, policy=RERUN)
    assert (late.follows, late.instances) == (first.id, 3)
    assert seen(box, late) == {"1.2.1", "1.2.2", "1.2.3"}
    assert set(places(box, late)) == {"view/1.2.1.dcm", "view/1.2.2.dcm", "INPUT/1.2.3.dcm"}
    third = box.job(Image("1.2.4"), policy=RERUN)
    assert len(seen(box, third)) == 4, "also of what the one before only saw"


def test_late_rerun_shows_the_newest_content(box: TestBox) -> None:
    box.job(A, B)
    changed = box.job(replace(A, content=1), policy=RERUN)
    last = box.job(C, policy=RERUN)
    path, newest = (box.folder(job).input / "1.2.1.dcm" for job in (last, changed))
    assert path.samefile(newest)


def test_links_outlive_the_job_that_they_came_from(box: TestBox) -> None:
    first = box.job(A)
    late = box.job(C, policy=RERUN)
    Removal(box.data, box.ledger).delete(first.id, "a test")
    assert seen(box, late) == {"1.2.1", "1.2.3"}


@pytest.mark.parametrize("policy", [Policy(), RERUN])
def test_byte_identical_copies_of_a_part_are_done(box: TestBox, policy: Policy) -> None:
    first = box.job(A, B, C)
    again = box.job(A, C, policy=policy)
    assert (again.state, again.follows) == (JobState.DONE, first.id)
    assert again.reason.startswith("duplicate")
    assert seen(box, again) == {"1.2.1", "1.2.3"}, "what was acknowledged is kept"


def test_a_part_of_what_several_jobs_brought_is_a_duplicate(box: TestBox) -> None:
    box.job(A)
    box.job(B)
    assert box.job(A).state is JobState.DONE
    assert box.job(A, B).state is JobState.READY, "the whole is sent again: somebody wants it again"


@pytest.mark.parametrize(
    "images",
    [(A, B), (A, B, C), (A, C), (replace(A, content=1),), (A, replace(B, content=1)), (A, replace(A, content=1))],
)
def test_everything_else_is_a_new_job(box: TestBox, images: tuple[Image, ...]) -> None:
    """All of it again, something new, or other bytes."""
    first = box.job(A, B)
    again = box.job(*images)
    assert (again.state, again.follows) == (JobState.READY, first.id)


def test_another_title_or_sender_does_not_follow(box: TestBox) -> None:
    box.job(A)
    assert box.job(B, called="Other").follows is None
    assert box.bear(box.peer(calling="CT2").send(B)).follows is None
    assert box.job(replace(B, study="1.9")).follows is None


def test_an_association_that_stands_alone_follows_nobody(box: TestBox) -> None:
    box.job(A, B)
    alone = box.bear(box.peer().send(A), by_association=True)
    assert (alone.state, alone.follows) == (JobState.READY, None)


def test_a_deleted_or_lost_job_is_not_followed(box: TestBox) -> None:
    deleted, lost = box.job(A), box.job(A, called="Other")
    Removal(box.data, box.ledger).delete(deleted.id, "a test")
    box.move(lost, Move.LOSE)
    assert box.job(A).follows is None
    assert box.job(A, called="Other").state is JobState.READY


def test_an_aborted_job_is_processed_or_held_as_is_said(box: TestBox) -> None:
    def aborted(image: Image, policy: Policy) -> Job:
        return box.bear(box.peer(f"P{image.uid}").send(image, how=End.ABORTED), policy=policy, aborted=True)

    processed, held = aborted(A, Policy()), aborted(B, HOLD)
    assert (processed.state, processed.aborted) == (JobState.READY, True)
    assert (held.state, held.resume, held.aborted) == (JobState.HELD, JobState.READY, True)
    assert "on_abort" in held.reason
    assert box.move(held, Move.RELEASE).state is JobState.READY
    assert box.job(C, policy=HOLD, called="Q").state is JobState.READY


def test_a_loop_through_the_box_itself_is_held(box: TestBox) -> None:
    """A: for One, its result for Two, whose result is for One again."""
    first = box.job(A, called="One")
    second = box.bear(box.peer("Two", parent=first.id).send(B))
    assert (second.state, second.parent) == (JobState.READY, first.id)
    third = box.bear(box.peer(" one ", parent=second.id).send(C))
    assert (third.state, third.resume, third.parent) == (JobState.HELD, JobState.READY, second.id)
    assert first.id in third.reason
    assert third.reason.startswith("loop")


def test_a_parent_that_is_not_known_is_no_loop(box: TestBox) -> None:
    assert box.bear(box.peer("One", parent="20260312T171200Z-One-7f3a").send(A)).state is JobState.READY


def test_a_chain_of_parents_that_never_ends_is_left(box: TestBox) -> None:
    job = box.job(A, called="One")
    with box.ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET parent = id, called_ae = 'Two' WHERE id = ?", (job.id,))
        assert loop(tx, replace(job, parent=job.id), [], job.born) is None
        tx.execute("UPDATE jobs SET follows = id WHERE id = ?", (job.id,))
        assert set(already_there(tx, jobs.get(tx, job.id))) == {A.uid}
    assert MAX_CHAIN == 100


def test_one_instance_more_than_ten_times_in_a_day_is_held(box: TestBox) -> None:
    for _ in range(10):
        assert box.job(A).state is JobState.READY
    held = box.job(A, B)
    assert (held.state, held.resume) == (JobState.HELD, JobState.READY)
    assert "more than 10 times in 24 h" in held.reason
    assert box.job(A, called="Other").state is JobState.READY
    assert box.job(B).state is not JobState.HELD


def test_ten_times_a_day_ago_do_not_count(box: TestBox) -> None:
    for _ in range(10):
        box.job(A)
    with box.ledger.transaction() as tx:
        (first,) = jobs.newest(tx, 100)[-1:]
        tx.execute("UPDATE jobs SET born = ? WHERE id = ?", (to_text(first.born - timedelta(hours=25)), first.id))
    assert box.job(A).state is JobState.READY
    assert box.job(A).state is JobState.HELD


def test_an_id_is_never_given_twice(box: TestBox) -> None:
    """Within one second and for one title there are only 65536; all but those that begin with f are taken here."""
    job = box.job(A)
    stem = job.id[:-4]
    taken = [(f"{stem}{n:04x}",) for n in range(0xF000) if f"{stem}{n:04x}" != job.id]
    columns = "state, since, calling_ae, called_ae, peer, study, received, born, instances, bytes"
    with box.ledger.transaction() as tx:
        tx.executemany(f"INSERT INTO jobs (id, {columns}) SELECT ?, {columns} FROM jobs WHERE id = '{job.id}'", taken)
    with box.ledger.reading() as tx:
        drawn = {unused_id(tx, "Proc", job.born)[-4] for _ in range(20)}
    assert drawn == {"f"}
