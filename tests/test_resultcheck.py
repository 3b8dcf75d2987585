"""Result checks: what does not pass is not sent, the job asks for ATTENTION, and a person may send it all the same."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import peers
import pytest
from boxes import Image, TestBox, new_box
from pydicom import dcmread
from test_route import routing

import magickbox.resultcheck as rc
from magickbox.cli.main import main
from magickbox.delivery import DeliveryState, ItemState
from magickbox.destination import DicomDestination
from magickbox.job import Job, JobState, Move
from magickbox.ledger import deliveries, endings
from magickbox.resultcheck import CHECKS, SERIES, STUDY, Came, examine
from magickbox.routing import Endpoint, Rule, Rules, pattern
from magickbox.tagpath import TagPath

PACS = DicomDestination("127.0.0.1", 104, "BOX", "PACS")
CAME = Came(frozenset({"1.2"}), frozenset({"1.2.1"}), frozenset({"1.2.1.1"}))


@dataclass(frozen=True)
class File:
    """A file that may be sent; good as it is."""

    study: str = "1.2"
    series: str = "1.2.9"
    sop_instance: str = "1.2.9.1"
    sop_class: str = "1.2.840.10008.5.1.4.1.1.4"
    path: str = "OUTPUT/a.dcm"
    tags: dict[TagPath, tuple[str, ...]] = field(default_factory=dict)

    def values(self, tag: TagPath) -> tuple[str, ...]:
        return ({STUDY: self.study, SERIES: self.series}[tag],)


@pytest.mark.parametrize(
    ("file", "fails"),
    [
        (File(), []),
        (File(study="1.9"), ["same_study"]),
        (File(study=""), ["uids", "same_study"]),
        (File(series="1.2.1"), ["new_series"]),
        (File(series=""), ["uids"]),
        (File(sop_instance="1.2.1.1"), ["new_instances"]),
        (File(sop_instance="1.2..3"), ["uids"]),
        (File(sop_instance="1." + "2" * 70), ["uids"]),
        (File(sop_class="CT"), ["uids"]),
    ],
)
def test_what_each_check_finds(file: File, fails: list[str]) -> None:
    assert [found.key for found in examine(CHECKS, [file], 0, [], CAME, lambda _path: "")] == fails


def test_damage_repeats_and_unreadable_files_count() -> None:
    found = examine(
        CHECKS, [File(), File(path="b")], 2, ["OUTPUT/c"], CAME, lambda path: "cut off" if path == "b" else ""
    )
    assert list(map(str, found)) == [
        "loads: 2 of 3 files cannot be read to the end",
        "unique: 2 of 4 files have the SOP Instance UID of another file",
    ]
    assert found[0].paths == ("OUTPUT/c", "b")


def test_only_what_is_asked_for_is_looked_at() -> None:
    assert examine((), [File(study="")], 3, ["x"], CAME, lambda _path: "damaged") == ()
    assert rc.tags_for(["loads", "unique", "new_instances"]) == frozenset()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def has_run(box: TestBox, *results: Image) -> Job:
    """A job with one image that came, whose processor wrote these."""
    job = box.run(box.job(Image("1.2.1")), results=())
    source = next(box.folder(job).input.iterdir())
    for number, image in enumerate(results):
        ds = dcmread(source)
        ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = (
            image.uid,
            image.study,
            f"{image.study}.{image.content}",
        )
        ds.save_as(box.folder(job).output / f"{number}.dcm")
    return job


def rules(*checks: str, second: bool = True) -> Rules:
    """One rule with checks, and one without."""
    strict = Rule(
        "strict", (Endpoint(pattern("success"), PACS, True), Endpoint(pattern("success"), PACS)), checks=checks
    )
    return Rules((strict, *((Rule("free", (Endpoint(pattern("success"), PACS),)),) if second else ())), "digest")


def routed(box: TestBox, job: Job, given: Rules) -> tuple[Job, list[tuple[DeliveryState, str]]]:
    """The job after its routing, and its deliveries."""
    notes: list[str] = []
    with routing(box, lambda: given, lambda _level, event, facts: notes.append(f"{event} {dict(facts)}")):
        peers.wait_for(lambda: box.row(job).state is not JobState.PROCESSED, "the job to be routed")
        peers.wait_for(lambda: any(note.startswith("routed") for note in notes), "that to be told")
    assert not any(".dcm" in note for note in notes), "no names of files in logs"
    with box.ledger.reading() as tx:
        return box.row(job), [(d.state, d.reason) for d in deliveries.listing(tx, job.id)]


GOOD = Image("1.2.9.1", content=2)
D = DeliveryState


def test_good_results_are_sent(box: TestBox) -> None:
    job, told = routed(box, has_run(box, GOOD), rules(*CHECKS))
    assert job.state is JobState.DELIVERING
    assert told == [(D.OPEN, ""), (D.WAITING, ""), (D.OPEN, "")]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (Image("1.2.9.2", study="1.9.9", content=2), "same_study: 1 of 2 files are of another study than the input"),
        (Image("1.2.9.2", content=1), "new_series: 1 of 2 files have a Series Instance UID of the input"),
        (Image("1.2.1", content=2), "new_instances: 1 of 2 files have a SOP Instance UID of the input"),
        (GOOD, "unique: 1 of 2 files have the SOP Instance UID of another file"),
    ],
)
def test_one_bad_file_keeps_the_rule_from_sending_and_no_other_rule(box: TestBox, bad: Image, said: str) -> None:
    job, told = routed(box, has_run(box, GOOD, bad), rules(*CHECKS))
    assert job.state is JobState.DELIVERING
    assert told == [(D.DEAD, f"not sent, check {said}")] * 2 + [(D.OPEN, "")]


def test_a_job_with_nothing_else_to_send_asks_for_attention_and_a_person_may_send_it(box: TestBox) -> None:
    job, told = routed(box, has_run(box, Image("1.2.1", content=2)), rules("new_instances", second=False))
    assert job.state is JobState.ATTENTION
    assert "is dead (and 1 more): not sent, check new_instances: 1 of 1 files have" in job.reason
    assert [state for state, _ in told] == [D.DEAD, D.DEAD]
    with box.ledger.transaction() as tx:
        first, second = deliveries.listing(tx, job.id)
        endings.retry(tx, first.id, "anna")
        assert [item.state for item in deliveries.instances_of(tx, first.id)] == [ItemState.PENDING]
        assert endings.deliver(tx, first.id).state is D.DELIVERED
        assert deliveries.get(tx, second.id).state is D.SKIPPED
    assert box.row(job).state is JobState.DONE


@pytest.mark.parametrize("length", [-10, 400])
def test_a_file_that_ends_too_soon_is_found(box: TestBox, length: int) -> None:
    """Cut off in its pixels, where routing alone would not look, or in its header."""
    job = has_run(box, GOOD)
    (path,) = box.folder(job).output.glob("*.dcm")
    os.truncate(path, path.stat().st_size + length if length < 0 else length)
    job, told = routed(box, job, rules("loads", second=False))
    assert job.state is JobState.ATTENTION
    assert "loads: 1 of 1 files cannot be read to the end" in job.reason
    assert all(state is D.DEAD for state, _ in told)


def test_without_checks_the_same_files_are_sent(box: TestBox) -> None:
    _, told = routed(box, has_run(box, GOOD, Image("1.2.1", study="1.9.9", content=1)), rules())
    assert {state for state, _ in told} == {D.OPEN, D.WAITING}


def test_after_a_repair_a_reroute_sends(box: TestBox) -> None:
    job = has_run(box, Image("1.2.1", content=2))
    routed(box, job, rules("new_instances", second=False))
    box.move(job, Move.REROUTE)
    _, told = routed(box, job, rules("same_study", second=False))
    assert told[-2:] == [(D.OPEN, ""), (D.WAITING, "")]


def test_explain_names_the_files_that_do_not_pass(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    job = has_run(box, GOOD, Image("1.2.1", content=2))
    send = [{"success": {"IP": "127.0.0.1", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS"}}]
    text = json.dumps({"routing": [{"name": "strict", "check": {"new_instances": 1, "loads": 0}, "send": send}]})
    (box.data.root / "routing.json").write_text(text)
    assert main(["explain", job.id, "--data", str(box.data.root)]) == 0
    said = capsys.readouterr().out
    assert (
        "nothing of this rule is sent, check new_instances: 1 of 2 files have a SOP Instance UID of the input" in said
    )
    assert "'OUTPUT/1.dcm'" in said
    assert "held back: 2 instances to PACS@127.0.0.1:104" in said
    assert main(["explain", job.id, "--json", "--data", str(box.data.root)]) == 0
    (rule,) = json.loads(capsys.readouterr().out)["rules"]
    assert (rule["check"], rule["failed"][0]["files"]) == (["new_instances"], ["OUTPUT/1.dcm"])
