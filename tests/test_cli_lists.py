"""What the listing commands and ``send`` tell, where it was once wrong."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from boxes import MR, Image, TestBox, new_box
from planned import PACS, entry, routed

from magickbox.cli.main import main
from magickbox.cli.peers import items_of
from magickbox.dicom.part10 import file_header
from magickbox.ledger import Ledger, deliveries, endings
from magickbox.removal import Removal

A = Image("1.2.1")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    (made.data.root / "routing.json").write_text('{"routing": []}')
    yield made
    made.ledger.close()


def told(capsys: pytest.CaptureFixture[str], box: TestBox, *words: str) -> str:
    assert main([*words, "--data", str(box.data.root)]) == 0
    return capsys.readouterr().out


def test_tries_are_all_attempts_and_entries_count_from_one(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    ledger: Ledger = box.ledger
    (number,) = routed(ledger, entry(PACS))
    with ledger.transaction() as tx:
        deliveries.begin_attempt(tx, number)
        endings.fail(tx, number, "no")
        endings.retry(tx, number, "anna")
        deliveries.begin_attempt(tx, number)
    [one] = json.loads(told(capsys, box, "deliveries", "list", "--json"))
    assert (one["tries"], one["entry"]) == (2, 1)


def test_deliveries_of_a_job_that_is_none(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deliveries", "list", "--job", "xyz", "--data", str(box.data.root)]) == 1
    assert "xyz" in capsys.readouterr().err


def test_a_list_that_is_cut_says_so(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    box.job(A)
    box.job(replace(A, uid="1.2.2"))
    assert "there are more; these are the newest 1" in told(capsys, box, "jobs", "list", "--limit", "1")
    assert "there are more" not in told(capsys, box, "jobs", "list", "--limit", "2")
    assert len(told(capsys, box, "jobs", "list", "--limit", "-1").splitlines()) == 3


def test_a_deleted_job_has_no_folder(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    job = box.job(A)
    assert "\nfolder " in told(capsys, box, "jobs", "show", job.id)
    Removal(box.data, box.ledger).delete(job.id, "a test")
    assert "\nfolder " not in told(capsys, box, "jobs", "show", job.id)


def test_a_duplicate_is_explained_as_one(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    box.job(A, replace(A, uid="1.2.2"))
    said = told(capsys, box, "explain", box.job(A).id)
    assert "is a duplicate: a byte-identical part" in said
    assert "no outcome yet" not in said


def test_an_instance_is_sent_under_the_name_that_its_dataset_has(box: TestBox) -> None:
    path = box.data.root / "x.dcm"
    path.write_bytes(file_header("1.2.840.10008.5.1.4.1.1.2", "1.2.9", "1.2.840.10008.1.2.1") + A.dataset())
    [item], _ = items_of([path])
    assert (item.sop_class, item.sop_instance) == (MR, A.uid)
