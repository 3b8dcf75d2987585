"""Whole boxes whose destination has to commit: with reports to their port, killed meanwhile; and Orthanc."""

import json
from collections.abc import Callable
from pathlib import Path

import boxprocess
import peers
import pytest
import webpeers
from boxprocess import BoxProcess, running, send, until
from commitpeer import Archive, Asked, call, report_of
from pki import authority
from studies import study

from magickbox.cli.main import main
from magickbox.datafolder import DataFolder
from magickbox.delivery import Delivery
from magickbox.job import JobState
from magickbox.ledger import Ledger, deliveries, proofs
from magickbox.proof import Proof, ProofState
from magickbox.sender import Item


def set_up(root: Path, port: int, **more: object) -> None:
    """A data folder whose results go to a PACS that has to commit to them."""
    boxprocess.set_up(root, port)
    to = {"IP": "127.0.0.1", "PORT": port, "AETitleSender": "BOX", "AETitleTo": "PACS", "verify": "commitment"}
    routing = [{"name": "all", "send": [{"success": {"to": "pacs"}}]}]
    rules = {"destinations": {"pacs": {**to, **more}}, "routing": routing}
    (root / "routing.json").write_text(json.dumps(rules))


def images(folder: Path) -> list[Item]:
    """Instances to send."""
    return study(folder / "study", 3, pixels=32)


def look(root: Path) -> tuple[Delivery, list[Proof]]:
    """The only delivery and what was asked about it."""
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    try:
        with ledger.reading() as tx:
            (delivery,) = deliveries.listing(tx)
            return delivery, proofs.of_delivery(tx, delivery.id)
    finally:
        ledger.close()


def job_is(root: Path, state: JobState) -> Callable[[], bool]:
    """True when the only job is in that state."""
    return lambda: [job.state for job in boxprocess.all_jobs(root)] == [state]


def port_of(box: BoxProcess) -> int:
    """Its port."""
    assert box.port is not None
    return box.port


@pytest.mark.parametrize("receivers", [0, 1], ids=["one process", "a receiver process"])
def test_a_job_is_done_when_the_pacs_has_committed(
    tmp_path: Path, receivers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    root, where, sent = tmp_path / "box", list[int](), images(tmp_path)

    def found(archive: Archive, asked: Asked) -> None:
        archive.commit(asked, where[0])
        archive.loses.clear()  # the second time it has everything

    archive = Archive(on_asked=found, loses={sent[1].sop_instance})
    with archive.running():
        set_up(root, archive.port)
        settings = {"receivers": receivers, "unknown_called_ae": "reject"}
        with running(root, settings=settings) as box:
            where.append(port_of(box))
            send(where[0], sent)
            until(job_is(root, JobState.DONE), what="the job to be DONE")
            until(lambda: bool(list(root.glob("jobs/*/delivery.json"))), what="the receipt")
    assert archive.answers == [0, 0]
    assert len(archive.stored) == 4
    delivery, questions = look(root)
    assert delivery.reason == "committed by storage commitment"
    assert [each.state for each in questions] == [ProofState.FAILED, ProofState.COMMITTED]
    (receipt,) = root.glob("jobs/*/delivery.json")
    (told,) = json.loads(receipt.read_text())["deliveries"]
    assert [each["state"] for each in told["proofs"]] == ["FAILED", "COMMITTED"]
    assert told["proofs"][1]["transaction"] == archive.questions[1].transaction
    assert main(["jobs", "show", delivery.job, "--data", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "storage commitment FAILED" in shown
    assert "storage commitment COMMITTED" in shown
    assert main(["explain", delivery.job, "--data", str(root)]) == 0
    assert "verified by storage commitment" in capsys.readouterr().out
    log = (root / "logs" / "routing.log").read_text()
    assert "1 of 3 instances not committed by storage commitment: 0x0112 no such object instance" in log
    assert "committed by storage commitment" in log.splitlines()[-1]


def test_a_report_finds_its_delivery_after_a_kill_and_while_the_box_is_down_nobody_takes_it(tmp_path: Path) -> None:
    root, archive = tmp_path / "box", Archive()
    with archive.running():
        set_up(root, archive.port)
        with running(root) as box:
            send(port_of(box), images(tmp_path))
            until(lambda: bool(archive.questions) and look(root)[1][0].state is ProofState.ASKED, what="the question")
            box.kill()
            gone = port_of(box)
        (asked,) = archive.questions
        assert call(gone, report_of(asked.transaction, asked.instances)) is None  # and the PACS tries again later
        with running(root) as box:
            until(lambda: box.status()["open_associations"] == 0)
            assert look(root)[0].state == "OPEN"
            archive.commit(asked, port_of(box), calling="STRANGER")
            archive.commit(asked, port_of(box))
            archive.commit(asked, port_of(box))  # its answer was lost on the way
            until(job_is(root, JobState.DONE), what="the job to be DONE")
        assert archive.answers == [0x0124, 0, 0]
        with running(root):
            assert job_is(root, JobState.DONE)()
    assert len(archive.questions) == 1
    assert sorted(archive.stored) == sorted(asked.instances)


def test_a_pacs_that_never_answers_makes_the_job_one_for_a_person(tmp_path: Path) -> None:
    root, archive = tmp_path / "box", Archive()
    with archive.running():
        set_up(root, archive.port, verify_within=0.3, verify_wait="0 s")
        with running(root) as box:
            send(port_of(box), images(tmp_path))
            until(job_is(root, JobState.ATTENTION), what="the job to be ATTENTION")
    assert len(archive.questions) == 3
    assert len(archive.stored) == 3
    assert "sent, but not verified: no answer by storage commitment" in boxprocess.all_jobs(root)[0].reason


def test_a_query_finds_what_was_sent_once_the_pacs_has_filed_it(tmp_path: Path) -> None:
    root, archive = tmp_path / "box", Archive(indexed=lambda n: n > 2)
    with archive.running():
        set_up(root, archive.port, verify="find")
        with running(root) as box:
            send(port_of(box), images(tmp_path))
            until(job_is(root, JobState.DONE), what="the job to be DONE")
    delivery, questions = look(root)
    assert delivery.reason == "found by C-FIND"
    assert [each.state for each in questions] == [ProofState.BROKEN, ProofState.BROKEN, ProofState.COMMITTED]
    assert questions[0].reason == "3 of 3 instances not yet found by C-FIND"
    assert (len(archive.finds), len(archive.stored)) == (3, 3)


def test_what_no_query_finds_in_time_is_sent_again_and_then_told_of(tmp_path: Path) -> None:
    root, sent = tmp_path / "box", images(tmp_path)
    archive = Archive(loses={sent[0].sop_instance})
    with archive.running():
        set_up(root, archive.port, verify="find", verify_within="0.3 s")
        with running(root) as box:
            send(port_of(box), sent)
            until(job_is(root, JobState.ATTENTION), what="the job to be ATTENTION")
    assert "1 of 3 instances not found by C-FIND" in look(root)[0].reason
    assert sorted(archive.stored.count(item.sop_instance) for item in sent) == [1, 1, 3]


@pytest.mark.parametrize("status", [0xA900, 0xC001])
def test_a_pacs_that_answers_no_query_is_told_of(tmp_path: Path, status: int) -> None:
    root, archive = tmp_path / "box", Archive(find_status=status)
    with archive.running():
        set_up(root, archive.port, verify="find")
        with running(root) as box:
            send(port_of(box), images(tmp_path))
            until(job_is(root, JobState.ATTENTION), what="the job to be ATTENTION")
    assert f"sent, but not verified: C-FIND refused: 0x{status:04X}" in boxprocess.all_jobs(root)[0].reason


def test_orthanc_finds_what_it_has(tmp_path: Path) -> None:
    root = tmp_path / "box"
    with webpeers.orthanc(tmp_path / "orthanc", reports_to={"BOX": peers.free_port()}) as server:
        set_up(root, server.dicom_port, AETitleTo="ORTHANC", verify="find")
        with running(root) as box:
            send(port_of(box), images(tmp_path))
            until(job_is(root, JobState.DONE), what="the job to be DONE")
    assert look(root)[0].reason == "found by C-FIND"


def test_orthanc_commits_to_what_it_has(tmp_path: Path) -> None:
    root = tmp_path / "box"
    own = peers.free_port()
    with webpeers.orthanc(tmp_path / "orthanc", reports_to={"BOX": own}) as server:
        set_up(root, server.dicom_port, AETitleTo="ORTHANC")
        with running(root, settings={"port": own}) as box:
            send(port_of(box), images(tmp_path))
            until(job_is(root, JobState.DONE), what="the job to be DONE")
        assert len(server.stored()) == 3
    delivery, questions = look(root)
    assert delivery.reason == "committed by storage commitment"
    assert [each.state for each in questions] == [ProofState.COMMITTED]


def test_orthanc_commits_over_tls_and_reports_over_tls(tmp_path: Path) -> None:
    """The question goes out over TLS, and the report comes to the box's TLS port: a certificate on both sides."""
    root, ca, own = tmp_path / "box", authority(tmp_path / "ca"), peers.free_port()
    mine, theirs = ca.issue("box"), ca.issue("orthanc")
    tls = {"ca": str(ca.pem), "certificate": str(mine.pem), "key": str(mine.key)}
    settings = {
        "tls_port": own, "tls_certificate": str(mine.pem), "tls_key": str(mine.key), "tls_ca": str(ca.pem),
        "client_certificates": "required",
    }  # fmt: skip
    with webpeers.orthanc(tmp_path / "orthanc", reports_to={"BOX": own}, tls=(theirs, ca.pem)) as server:
        set_up(root, server.dicom_port, AETitleTo="ORTHANC", tls=tls)
        with running(root, settings=settings) as box:
            send(port_of(box), images(tmp_path))
            until(job_is(root, JobState.DONE), what="the job to be DONE")
        assert len(server.stored()) == 3
    delivery, questions = look(root)
    assert delivery.reason == "committed by storage commitment"
    assert [each.state for each in questions] == [ProofState.COMMITTED]
    log = (root / "logs" / "receive.log").read_text()
    assert [line for line in log.splitlines() if "calling=ORTHANC" in line and "certificate=orthanc" in line], log
