"""QIDO-RS: does a DICOMweb service have what was sent; services that name little at once, or misbehave; Orthanc."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import boxprocess
import pytest
import webpeers
from boxprocess import all_jobs, running, send, until
from peers import ScriptedPeer, Talk
from studies import study
from webpeers import at, read_head, reply

from magickbox.datafolder import DataFolder
from magickbox.destination import Rejected, Retry, Secret, StowDestination
from magickbox.dicomweb.connection import Limits
from magickbox.dicomweb.query import QidoProver
from magickbox.job import JobState
from magickbox.ledger import Ledger, deliveries, proofs
from magickbox.proof import How, ProofState, Reference, Report, Verify
from magickbox.prover import Abortable, Answer, Question

QUICK = Limits(connect=2.0, write=2.0, response=0.5)


@dataclass
class Heard:
    """An ear that keeps what it is told."""

    reports: list[Report] = field(default_factory=list)
    is_over = False

    def accepted(self) -> None:
        raise AssertionError("a query is answered at once")

    def report(self, report: Report) -> int:
        self.reports.append(report)
        return 0


@pytest.fixture
def instances(tmp_path: Path) -> tuple[Reference, ...]:
    return tuple(Reference(each.sop_class, each.sop_instance, each.path) for each in study(tmp_path / "study", 5))


def ask(
    instances: tuple[Reference, ...],
    script: Callable[[Talk], None],
    age: float = 0.0,
    limits: Limits = QUICK,
    **more: object,
) -> tuple[Answer, list[Report]]:
    """What came of a question to a scripted service."""
    ear, watched = Heard(), list[Abortable | None]()
    with ScriptedPeer([script]) as peer:
        there = replace(at(peer), verify=Verify(How.QIDO, within=60.0), **more)  # type: ignore[arg-type]
        question = Question("2.25.1", instances, there.verify, "job", age)
        said = QidoProver(limits).ask(there, question, ear, watched.append)
    assert not watched or watched[-1] is None
    return said, ear.reports


def page(uids: Sequence[str]) -> bytes:
    return json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()


def serving(uids: Sequence[str], most: int, lines: list[str], *, knows_offset: bool = True) -> Callable[[Talk], None]:
    """A service that names at most so many at once."""

    def script(talk: Talk) -> None:
        while True:
            line, headers = read_head(talk)
            lines.append(line)
            assert headers["accept"] == "application/dicom+json"
            offset = int(re.findall(r"offset=(\d+)", line)[0]) if knows_offset else 0
            named = uids[offset : offset + most]
            reply(talk, 200, page(named)) if named else reply(talk, 204)

    return script


@pytest.mark.parametrize(("most", "requests"), [(500, 2), (2, 4)])
def test_all_pages_of_a_series_are_read(instances: tuple[Reference, ...], most: int, requests: int) -> None:
    uids, lines = [each.sop_instance for each in instances], list[str]()
    said, reports = ask(instances, serving(uids, most, lines))
    assert said is None
    assert reports == [Report("2.25.1", tuple(uids))]
    assert len(lines) == requests
    of_series = r"GET /dicom-web/studies/[\d.]+/series/[\d.]+/instances\?includefield=00080018&limit=500&offset=0 "
    assert re.match(of_series, lines[0])


def test_a_service_that_knows_no_offset_is_not_asked_for_ever(instances: tuple[Reference, ...]) -> None:
    lines = list[str]()
    said, reports = ask(instances, serving(["1.2", instances[0].sop_instance], 2, lines, knows_offset=False), age=61)
    assert said is None
    assert [report.committed for report in reports] == [(instances[0].sop_instance,)]
    assert len(lines) == 2


def test_what_is_lacking_is_looked_for_again_until_its_time_is_up(instances: tuple[Reference, ...]) -> None:
    script = serving([instances[0].sop_instance], 500, [])
    assert ask(instances, script) == (Retry("4 of 5 instances not yet found by QIDO-RS", answered=True), [])
    said, (report,) = ask(instances, script, age=61.0)
    assert said is None
    assert len(report.missing(each.sop_instance for each in instances)) == 4


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[[Talk], None]:
    def script(talk: Talk) -> None:
        read_head(talk)
        reply(talk, status, body, **headers)

    return script


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (answering(404), Retry, "no such series there, or no QIDO-RS"),
        (answering(501), Rejected, "HTTP 501"),
        (answering(400), Rejected, "HTTP 400"),
        (answering(401), Retry, "credentials"),
        (answering(503, Retry_After="7"), Retry, "it asks to wait 7 s"),
        (answering(302, Location="https://other.example/x"), Retry, "redirects to other.example, which is not"),
        (answering(200, b"<html>log in</html>"), Retry, "is there a DICOMweb service at this URL?"),
        (answering(200, b'{"a": 1}'), Retry, "no list of instances"),
        (answering(200, b"[" * 100_000), Retry, "no list of instances"),
        (lambda talk: read_head(talk) and None, Retry, "no answer within 0.5 s"),
        (lambda talk: talk.sock.close(), Retry, "connection"),
    ],
)  # fmt: skip
def test_services_that_do_not_say(
    instances: tuple[Reference, ...], script: Callable[[Talk], None], kind: type, words: str
) -> None:
    said, reports = ask(instances, script)
    assert isinstance(said, kind)
    assert words in str(said)
    assert reports == []


def test_a_service_without_qido_is_not_asked_for_ever(instances: tuple[Reference, ...]) -> None:
    said, reports = ask(instances, answering(404), age=61.0)
    assert isinstance(said, Rejected)
    assert reports == []


@pytest.mark.parametrize("matches", [[1, None, "x"], [{}], [{"00080018": 1}], [{"00080018": {"Value": [7]}}]])
def test_matches_that_are_none_are_passed_over(instances: tuple[Reference, ...], matches: list[object]) -> None:
    said, _ = ask(instances, answering(200, json.dumps(matches).encode(), Connection="close"))
    assert isinstance(said, Retry)


def test_an_answer_of_any_length_is_read_in_part_only(instances: tuple[Reference, ...]) -> None:
    said, _ = ask(instances, answering(200, page(["1.2.3"] * 1000)), limits=replace(QUICK, largest=1000))
    assert said == Retry("QIDO-RS: an answer that is far too long", answered=True)


def test_the_service_is_told_who_asks(instances: tuple[Reference, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t0ken")
    told = list[str]()

    def script(talk: Talk) -> None:
        told.append(read_head(talk)[1].get("authorization", ""))
        reply(talk, 204)

    ask(instances, script, bearer=Secret("env:TOKEN"))
    assert told == ["Bearer t0ken"]
    said, _ = ask(instances, script, bearer=Secret("env:NOWHERE"))
    assert isinstance(said, Retry)
    assert len(told) == 1


def test_nobody_there_is_no_answer(instances: tuple[Reference, ...]) -> None:
    there = StowDestination("http://127.0.0.1:9/dicom-web")
    question = Question("2.25.1", instances, Verify(How.QIDO), "job")
    said = QidoProver(QUICK).ask(there, question, Heard(), lambda _: None)
    assert isinstance(said, Retry)
    assert not said.answered


@pytest.mark.peer
def test_a_delivery_to_orthanc_is_done_when_a_query_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, sent = tmp_path / "box", study(tmp_path / "study", 3, pixels=32)
    (tmp_path / "password").write_text("s3cret\n")
    with webpeers.orthanc(tmp_path / "orthanc") as server:
        boxprocess.set_up(root, 104)
        to = {"kind": "stow", "URL": server.url, "user": "box", "password": f"file:{tmp_path / 'password'}",
              "verify": "qido"}  # fmt: skip
        rules = {"destinations": {"web": to}, "routing": [{"name": "all", "send": [{"success": {"to": "web"}}]}]}
        (root / "routing.json").write_text(json.dumps(rules))
        with running(root) as box:
            assert box.port is not None
            send(box.port, sent)
            until(lambda: [job.state for job in all_jobs(root)] == [JobState.DONE], what="the job to be DONE")
        assert len(server.stored()) == 3
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    with ledger.reading() as tx:
        (delivery,) = deliveries.listing(tx)
        states = [each.state for each in proofs.of_delivery(tx, delivery.id)]
    ledger.close()
    assert delivery.reason == "found by QIDO-RS"
    assert states[-1] is ProofState.COMMITTED
