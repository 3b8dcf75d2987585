"""A whole box that sends to a group of two real stations, of which one dies and comes back."""

import json
from pathlib import Path

import peers
import pytest
from boxprocess import all_jobs, is_quiet, running, until
from peers import StoreScp
from pydicom import dcmread
from studies import study
from test_box import cli
from test_destinations import DICOM, sent, with_rules

from magickbox.datafolder import DataFolder
from magickbox.job import JobState
from magickbox.ledger import Ledger, queues
from magickbox.sender import Item


def is_unreachable(root: Path, name: str) -> bool:
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    try:
        with ledger.reading() as tx:
            return queues.state_of(tx, name).circuit.is_open
    finally:
        ledger.close()


def all_done(root: Path, count: int) -> None:
    until(lambda: len(all_jobs(root)) == count and is_quiet(root), what=f"{count} jobs at rest")
    assert {job.state for job in all_jobs(root)} == {JobState.DONE}


def job_of(root: Path, items: list[Item]) -> str:
    uid = str(dcmread(items[0].path).StudyInstanceUID)
    (found,) = [job.id for job in all_jobs(root) if job.study == uid]
    return found


def has(scp: StoreScp, items: list[Item]) -> int:
    return len({item.sop_instance for item in items} & set(scp.stored()))


@pytest.mark.peer
def test_one_of_two_stations_dies_and_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "data"
    studies = [study(tmp_path / f"study-{n}", 3) for n in range(6)]
    with peers.storescp(tmp_path / "two") as two, peers.storescp(tmp_path / "one") as one:
        with_rules(
            root,
            "PACS",
            PACS1={**DICOM, "PORT": one.port},
            PACS2={**DICOM, "PORT": two.port},
            PACS={"members": ["PACS1", "PACS2"], "policy": "round_robin"},
        )
        with running(root) as box:
            for n in range(2):
                sent(box.port, studies[n])
                all_done(root, n + 1)
            assert [has(one, each) for each in studies[:2]] == [3, 0]
            assert [has(two, each) for each in studies[:2]] == [0, 3]
            one.process.kill()
            one.process.wait()
            for n in range(2, 5):
                sent(box.port, studies[n])
                all_done(root, n + 1)
            assert [has(one, each) for each in studies[2:5]] == [0, 0, 0]
            assert [has(two, each) for each in studies[2:5]] == [3, 3, 3]
            log = (root / "logs" / "routing.log").read_text()
            assert "member=PACS1 because=round_robin" in log
            assert 'reason="moved from PACS1 to PACS2: round_robin; PACS1 did not take it"' in log
            group, *members = json.loads(cli("destinations", "list", "--json", "--data", root))
            assert (group["name"], group["policy"]) == ("PACS", "round_robin")
            assert [each["name"] for each in group["members"]] == ["PACS1", "PACS2"]
            assert [each["name"] for each in members] == ["PACS1", "PACS2"]
            told = cli("explain", job_of(root, studies[4]), "--data", root)
            assert "to PACS (round_robin of PACS1, PACS2): yes, 3 of 3 files" in told
            assert "for PACS: its study went there" in told
            with peers.storescp(tmp_path / "one", port=one.port) as back:
                until(lambda: not is_unreachable(root, "PACS1"), what="the first to be asked again")
                sent(box.port, studies[5])
                all_done(root, 6)
                assert sorted((has(back, studies[5]), has(two, studies[5]))) == [0, 3]
    assert "PACS   GROUP " in cli("destinations", "list", "--data", root)
