"""What the third stage makes of odd things in OUTPUT, and of folders that are gone."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from boxes import Image, TestBox, new_box
from peers import wait_for

from magickbox.births.rerun import rerun
from magickbox.destination import DicomDestination
from magickbox.errors import ForbiddenMove
from magickbox.group import Group, Policy
from magickbox.job import Job, JobState
from magickbox.ledger import deliveries, groups, queues
from magickbox.queueing import Mode, lane_of
from magickbox.route import Route
from magickbox.routing import Endpoint, Rule, Rules, pattern
from magickbox.selection import look_below
from magickbox.steps import Reached, Step, unwatched

Note = Callable[[str, str, Mapping[str, object]], None]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def has_run(box: TestBox) -> Job:
    """A job whose OUTPUT has one good instance."""
    job = box.run(box.job(Image("1.2.1")), results=())
    shutil.copy(box.folder(job).input / "1.2.1.dcm", box.folder(job).output / "good.dcm")
    return job


@contextmanager
def routing(
    box: TestBox, rules: Callable[[], Rules], note: Note = lambda *_: None, reached: Reached = unwatched
) -> Iterator[None]:
    stage = Route(box.ledger, lambda job: box.data.jobs / job, rules, lambda: None, note, reached)
    stage.wake()
    stage.start()
    yield
    stage.stop()


def no_rules() -> Rules:
    return Rules((), "digest")


def all_to_a_station() -> Rules:
    station = DicomDestination("10.0.0.5", 104, "ME", "PACS")
    return Rules((Rule("all", (Endpoint(pattern("success"), station),)),), "digest")


def test_a_name_that_is_no_text_leaves_one_file_aside(box: TestBox) -> None:
    job = has_run(box)
    folder = box.folder(job)
    shutil.copy(folder.output / "good.dcm", os.fsdecode(os.fsencode(folder.output) + b"/\xff.dcm"))
    (folder.output / "odd").mkdir()
    Path(os.fsdecode(os.fsencode(folder.output) + b"/odd/\xfe.txt")).write_text("no DICOM")
    listing = look_below(folder.path)("OUTPUT", frozenset())
    assert [file.path for file in listing.files] == ["OUTPUT/good.dcm"]
    assert listing.unreadable == (("OUTPUT/\\xff.dcm", "its name is not UTF-8"),)
    assert listing.other == 1


def test_links_in_a_circle_leave_themselves_aside(box: TestBox) -> None:
    job = has_run(box)
    folder = box.folder(job)
    for link, goal in (("loop", "loop"), ("a", "b"), ("b", "a")):
        (folder.output / link).symlink_to(goal)
    listing = look_below(folder.path)("OUTPUT", frozenset())
    assert [file.path for file in listing.files] == ["OUTPUT/good.dcm"]
    assert sorted(name for name, _ in listing.unreadable) == ["OUTPUT/a", "OUTPUT/b", "OUTPUT/loop"]


def test_what_was_left_aside_is_told(box: TestBox) -> None:
    aside = "1 DICOM file was left aside as unreadable, see 'magickbox explain'"
    some, none = has_run(box), has_run(box)
    (box.folder(none).output / "good.dcm").unlink()
    for job in (some, none):
        (box.folder(job).output / "loop").symlink_to("loop")
    with routing(box, all_to_a_station):
        until_reason(box, some, f"1 delivery decided by 'all'; {aside}")
        until_reason(box, none, f"no rule asks for a delivery; {aside}")
    assert (box.row(some).state, box.row(none).state) == (JobState.DELIVERING, JobState.DONE)


def test_without_file_handles_nothing_is_decided(box: TestBox, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = box.folder(has_run(box))

    def no_handle(*_args: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("magickbox.selection.os.open", no_handle)
    with pytest.raises(OSError, match="Too many"):
        look_below(folder.path)("OUTPUT", frozenset())


def test_why_a_job_waits_for_its_routing_is_shown_with_the_job(box: TestBox) -> None:
    job = has_run(box)

    def trouble() -> Rules:
        raise RuntimeError("odd \udcff")

    with routing(box, trouble):
        until_reason(box, job, "routing waits: odd \\udcff")
    assert box.row(job).state is JobState.PROCESSED


def until_reason(box: TestBox, job: Job, reason: str) -> None:
    for _ in range(500):
        if box.row(job).reason == reason:
            return
        time.sleep(0.02)
    assert box.row(job).reason == reason


@pytest.mark.parametrize(
    ("gone", "state", "reason"),
    [
        ("", JobState.LOST, "its folder is gone"),
        ("OUTPUT", JobState.HELD, "its OUTPUT folder is gone"),
    ],
)
def test_a_job_without_its_folder_is_not_done(box: TestBox, gone: str, state: JobState, reason: str) -> None:
    job = has_run(box)
    shutil.rmtree(box.folder(job).path / gone)
    with routing(box, no_rules):
        until_reason(box, job, reason)
    assert box.row(job).state is state


def test_a_jobs_folder_that_is_not_there_loses_no_job(box: TestBox) -> None:
    job = has_run(box)
    box.data.jobs.rename(box.data.jobs.with_name("away"))
    with routing(box, no_rules):
        until_reason(box, job, f"routing waits: the folder of the jobs is not there: {box.data.jobs}")
    assert box.row(job).state is JobState.PROCESSED


def test_what_is_gone_is_not_run_again(box: TestBox) -> None:
    job = box.job(Image("1.2.1"), Image("1.2.2"))
    (box.folder(job).input / "1.2.2.dcm").unlink()
    with pytest.raises(ForbiddenMove, match=r"1 of 2 files of .* are gone, the first is INPUT/1\.2\.2\.dcm"):
        rerun(box.ledger, box.birth, job.id, "test")
    shutil.rmtree(box.folder(job).path)
    with pytest.raises(ForbiddenMove, match=r"folder of .* is gone"):
        rerun(box.ledger, box.birth, job.id, "test")


def test_a_study_that_moves_while_more_of_it_is_decided_takes_that_along(box: TestBox) -> None:
    """Its first job waits at one member; between the decision about the second and its record, it moves to another."""
    one, two = (DicomDestination("10.0.0.5", port, "ME", "PACS", f"PACS{port}") for port in (104, 105))
    made = Group("PACS", (one, two), Policy.FAILOVER)
    rules = Rules((Rule("all", (Endpoint(pattern("success"), made),)),), "digest", groups={"PACS": made})
    first, decided = has_run(box), list[Step]()
    with routing(box, lambda: rules):
        wait_for(lambda: box.row(first).state is JobState.DELIVERING)
    second = has_run(box)

    def moves(step: Step) -> None:
        decided.append(step)
        if decided == [Step.DECIDED]:
            with box.ledger.transaction() as tx:
                (delivery,) = deliveries.listing(tx, first.id)
                groups.move(tx, delivery, two, 0, "PACS104 is unreachable")
                queues.set_mode(tx, "PACS104", Mode.PAUSED, "anna")

    with routing(box, lambda: rules, reached=moves):
        wait_for(lambda: box.row(second).state is JobState.DELIVERING)
    with box.ledger.reading() as tx:
        went = [lane_of(each.destination) for each in deliveries.listing(tx)]
        assert went == ["PACS105", "PACS105"]
        assert tx.execute("SELECT count(*) FROM decisions WHERE job = ?", (second.id,)).fetchone()[0] == 1
    assert decided == [Step.DECIDED, Step.DECIDED, Step.ROUTED]
