"""delivery.json: written when a job's deliveries are over, again when they are over once more, and after a kill."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import peers
import pytest
from deliverbox import Box, answers, fake, unreachable
from planned import PACS, QC, entry, new_items

from magickbox.cli.main import main
from magickbox.datafolder import DataFolder
from magickbox.destination import Delivered
from magickbox.job import JobState
from magickbox.ledger import Ledger, deliveries, endings, receipts
from magickbox.pace import Pace
from magickbox.proof import How, Report, Verify
from magickbox.prover import Answer, Ear, FakeProver, Provers, Question
from magickbox.sender import FakeSender

CONTRACTS = Path(__file__).parent.parent / "docs" / "contracts.md"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    data = DataFolder(tmp_path)
    data.prepare()
    with closing(Ledger(data.ledger)) as ledger:
        yield Box(ledger, data.jobs, FakeSender())


def receipt(box: Box, name: str = "job") -> dict[str, Any]:
    path = box.folder / name / "delivery.json"
    peers.wait_for(path.exists, "delivery.json")
    told: dict[str, Any] = json.loads(path.read_text())
    return told


def commits(question: Question, ear: Ear) -> Answer:
    """The destination has everything."""
    ear.report(Report(question.uid, tuple(each.sop_instance for each in question.instances)))
    return None


def shape(value: Any) -> Any:
    """The keys of a JSON value, without what is in them."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


def test_what_went_where_and_what_was_answered(box: Box) -> None:
    fake(box).answer = answers({"1.2.3.2": [Delivered(0xB000, "0xB000 Doe^Jane was renamed")]})
    box.provers = Provers({How.COMMITMENT: FakeProver(commits)}, lambda destination: destination)
    box.routed(entry(replace(PACS, verify=Verify(How.COMMITMENT)), new_items(2)), entry(QC, new_items(1)))
    with box.running():
        box.ends()
        told = receipt(box)
    assert [(proof["state"], proof["reason"]) for proof in told["deliveries"][0]["proofs"]] == [
        ("COMMITTED", "committed by storage commitment")
    ]
    assert (told["job"], told["state"]) == ("job", "DONE")
    first, second = told["deliveries"]
    assert (first["destination"], first["state"], first["entry"]) == ("PACS@127.0.0.1:104", "DELIVERED", 1)
    assert [(i["sop_instance"], i["state"], i["status"]) for i in first["instances"]] == [
        ("1.2.3.1", "SENT", "0x0000"), ("1.2.3.2", "SENT", "0xB000"),
    ]  # fmt: skip
    assert [attempt["sent"] for attempt in second["attempts"]] == [1]
    assert "Jane" not in json.dumps(told)
    text = (box.folder / "job" / "delivery.json").read_bytes()
    with box.ledger.reading() as tx:
        row = tx.execute("SELECT checksum FROM receipts WHERE written IS NOT NULL").fetchone()
    assert row[0] == hashlib.sha256(text).hexdigest()
    (example,) = re.findall(r"^```json delivery\.json\n(.*?)^```$", CONTRACTS.read_text(), re.MULTILINE | re.DOTALL)
    assert shape(json.loads(example)) == shape(told)


def test_it_is_written_anew_when_a_dead_delivery_arrives_after_all(box: Box) -> None:
    fake(box).refusal = unreachable("PACS")
    box.pace = Pace(patience=0.0).scaled(0.01)
    (number,) = box.routed(entry(PACS))
    with box.running() as stage:
        box.ends(JobState.ATTENTION)
        assert receipt(box)["state"] == "ATTENTION"
        fake(box).refusal = unreachable()
        stage.retry(number, "anna")
        box.ends()
        peers.wait_for(lambda: receipt(box)["state"] == "DONE")


def test_what_a_kill_kept_from_being_written_is_written_at_the_next_start(box: Box) -> None:
    (number,) = box.routed(entry(PACS))
    with box.ledger.transaction() as tx:
        endings.deliver(tx, number)
    assert not (box.folder / "job" / "delivery.json").exists()
    with box.running():
        assert receipt(box)["state"] == "DONE"
        peers.wait_for(lambda: wanted(box) == [])


def wanted(box: Box) -> list[str]:
    with box.ledger.reading() as tx:
        return receipts.wanted(tx)


def test_a_job_whose_folder_is_gone_or_in_the_way_stops_nobody(box: Box) -> None:
    numbers = [box.routed(entry(PACS), name=name)[0] for name in ("gone", "odd", "good")]
    for item in (box.folder / "gone" / "OUTPUT").iterdir():
        item.unlink()
    (box.folder / "gone" / "OUTPUT").rmdir()
    (box.folder / "gone").rmdir()
    (box.folder / "odd" / "delivery.json").mkdir()
    with box.ledger.transaction() as tx:
        for number in numbers:
            endings.deliver(tx, number)
    with box.running():
        receipt(box, "good")
        peers.wait_for(lambda: wanted(box) == ["odd"])
        peers.wait_for(lambda: any(event == "receipt-waits" for _, event, _ in box.notes))


# Dead letters


def dead(box: Box) -> list[int]:
    numbers = [box.routed(entry(to), name=name)[0] for name, to in (("one", PACS), ("two", PACS), ("three", QC))]
    with box.ledger.transaction() as tx:
        for number in numbers:
            endings.fail(tx, number, "given up")
        tx.execute("UPDATE deliveries SET ended = '2020-01-01T00:00:00.000000+00:00' WHERE id = ?", (numbers[0],))
    return numbers


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["--dead"], [0, 1, 2]),
        (["--dead", "--to", "PACS"], [0, 1]),
        (["--dead", "--to", "QC@127.0.0.1:106"], [2]),
        (["--dead", "--job", "two"], [1]),
        (["--dead", "--died-within", "2 days"], [1, 2]),
        (["--dead", "--to", "PACS", "--died-within", "2 days"], [1]),
    ],
)
def test_all_that_is_dead_is_sent_again_with_one_command(
    box: Box, tmp_path: Path, words: list[str], again: list[int]
) -> None:
    numbers = dead(box)
    assert main(["deliveries", "retry", *words, "--data", str(tmp_path)]) == 0
    with box.ledger.reading() as tx:
        states = [deliveries.get(tx, number).state for number in numbers]
    assert [n for n, state in enumerate(states) if state == "OPEN"] == again


def test_one_that_cannot_be_tried_again_stops_no_other(
    box: Box, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, two, three = dead(box)
    assert main(["deliveries", "retry", str(two), "999", str(three), "--data", str(tmp_path)]) == 1
    assert "there is no delivery 999" in capsys.readouterr().err
    with box.ledger.reading() as tx:
        assert [deliveries.get(tx, number).state for number in (two, three)] == ["OPEN", "OPEN"]


def test_neither_ids_nor_dead_is_a_mistake(box: Box, tmp_path: Path) -> None:
    assert main(["deliveries", "retry", "--data", str(tmp_path)]) == 1
    assert main(["deliveries", "retry", "--dead", "--data", str(tmp_path)]) == 0
