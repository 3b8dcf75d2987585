"""The alarms of a box: what it tells of, when it is over, and that a hook that fails harms nothing."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import hookserver
import peers
import pytest
from boxprocess import running, send, set_up, until
from planned import PACS, entry, job, routed
from studies import study

from magickbox.alarms import Alarms, AlarmTimes
from magickbox.cli.main import main
from magickbox.clock import now
from magickbox.job import JobState, Move
from magickbox.ledger import Ledger, deliveries, endings, jobs, queues
from magickbox.queueing import Mode, QueueState, lane_of

QUICK = AlarmTimes(after=60.0, pause=600.0, look=0.01, failed=0.01)


@dataclass
class Taker:
    """A hook that keeps what it is told; it does not take it while ``problem`` says why."""

    name: str = "taker"
    problem: str | None = None
    told: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, facts: bytes) -> str | None:
        if self.problem is None:
            self.told.append(json.loads(facts))
        return self.problem

    def end(self) -> None:
        pass

    def said(self) -> list[tuple[str, str, str]]:
        return [(each["kind"], each["says"], each["subject"]) for each in self.told]


@dataclass
class Watched:
    """A ledger that is watched."""

    ledger: Ledger
    taker: Taker
    has_room: bool = True
    notes: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        alarms = Alarms(
            "BOX", self.ledger, [self.taker], lambda: self.has_room, QUICK,
            lambda level, event, facts: self.notes.append((level, event, dict(facts))),
        )  # fmt: skip
        alarms.start()
        try:
            yield
        finally:
            alarms.stop()

    def in_trouble(self, minutes: float) -> None:
        state = QueueState(troubled=now() - timedelta(minutes=minutes), trouble="connection refused")
        with self.ledger.transaction() as tx:
            queues.change(tx, lane_of(PACS), lambda _was: state)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Watched]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield Watched(ledger, Taker())


def test_a_job_in_attention_is_told_and_that_it_is_over(box: Watched) -> None:
    (number,) = routed(box.ledger, entry(PACS))
    with box.watching():
        with box.ledger.transaction() as tx:
            endings.fail(tx, number, "given up after 7.0 days: connection refused")
        peers.wait_for(lambda: box.taker.said() == [("attention", "alarm", "job")])
        assert box.taker.told[0]["reason"] == (
            f"delivery {number} to PACS@127.0.0.1:104 is dead: given up after 7.0 days: connection refused"
        )
        with box.ledger.transaction() as tx:
            endings.retry(tx, number, "anna")
        peers.wait_for(lambda: box.taker.said()[1:] == [("attention", "clear", "job")])


def test_what_a_processor_said_is_not_told(box: Watched) -> None:
    job(box.ledger)
    with box.ledger.transaction() as tx:
        jobs.move(tx, "job", Move.ALARM, "no rule took it: cannot read Doe^Jane", outcome="failed", message="Doe^Jane")
    with box.watching():
        peers.wait_for(lambda: box.taker.told)
    assert "Doe" not in str(box.taker.told) + str(box.notes)


def test_a_destination_is_told_after_a_while_and_not_if_it_is_paused_or_nothing_waits(box: Watched) -> None:
    (number,) = routed(box.ledger, entry(PACS))
    box.in_trouble(minutes=0.5)
    with box.watching():
        box.has_room = False  # told in the same look as the destination would be
        peers.wait_for(lambda: box.taker.said() == [("disk", "alarm", "disk")])
        box.in_trouble(minutes=2)
        peers.wait_for(lambda: box.taker.said()[1:] == [("unreachable", "alarm", "PACS@127.0.0.1:104")])
        with box.ledger.transaction() as tx:
            queues.set_mode(tx, lane_of(PACS), Mode.PAUSED, "anna")
        peers.wait_for(lambda: box.taker.said()[2:] == [("unreachable", "clear", "PACS@127.0.0.1:104")])
        box.has_room = True
        peers.wait_for(lambda: box.taker.said()[3:] == [("disk", "clear", "disk")])
    assert "1 deliveries wait: connection refused" in str(box.taker.told)
    with box.ledger.transaction() as tx:
        assert deliveries.get(tx, number).tries == 0


def test_a_restart_neither_repeats_nor_forgets(box: Watched) -> None:
    (number,) = routed(box.ledger, entry(PACS))
    with box.ledger.transaction() as tx:
        endings.fail(tx, number, "no")
    with box.watching():
        peers.wait_for(lambda: box.taker.told)
    box.has_room = False
    with box.watching():
        peers.wait_for(lambda: len(box.taker.told) == 2)
    assert box.taker.said()[1] == ("disk", "alarm", "disk")
    with box.ledger.transaction() as tx:
        endings.retry(tx, number, "anna")
    with box.watching():
        peers.wait_for(lambda: len(box.taker.told) == 3)
    assert box.taker.said()[2] == ("attention", "clear", "job")


def test_a_hook_that_does_not_take_it_is_noted_and_told_again(box: Watched) -> None:
    job(box.ledger, state=JobState.ATTENTION)
    box.taker.problem = "it answered HTTP 500"
    with box.watching():
        peers.wait_for(lambda: box.notes)
        box.taker.problem = None
        peers.wait_for(lambda: box.taker.told)
    failed = [(level, event, facts["reason"]) for level, event, facts in box.notes if event == "alarm-failed"]
    assert failed == [("error", "alarm-failed", "it answered HTTP 500")]


def test_without_a_hook_nothing_is_started(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        alarms = Alarms("BOX", ledger, [], lambda: True, QUICK, lambda *_: None)
        alarms.start()
        alarms.stop()


# The command


def test_the_test_command_tells_the_hook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with hookserver.listening() as server:
        words = ["alarms", "test", "--data", str(tmp_path), "--alarm-webhook", server.url]
        assert main(words) == 0
        assert server.told[0]["says"] == "test"
        server.status = 500
        assert main(words) == 1
    said = capsys.readouterr()
    assert "told" in said.out
    assert "HTTP 500" in said.err
    assert "secret" not in said.out + said.err


def test_the_test_command_without_a_hook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alarms", "test", "--data", str(tmp_path)]) == 1
    assert "neither alarm_webhook nor alarm_command is set" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["ftp://host/geheim", "geheim", "http://:80/geheim", "http://h:port/geheim"])
def test_a_wrong_url_is_refused_and_not_repeated(
    wrong: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["alarms", "test", "--data", str(tmp_path), "--alarm-webhook", wrong]) == 1
    said = capsys.readouterr().err
    assert "must be an http or https URL" in said
    assert "geheim" not in said


def test_a_command_needs_its_whole_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "magickbox.toml").write_text('alarm_command = ["mail", "-s", "box"]\n')
    assert main(["alarms", "test", "--data", str(tmp_path)]) == 1
    assert "must be a program by its whole path" in capsys.readouterr().err


def test_check_shows_whom_but_not_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "--data", str(tmp_path), "--alarm-webhook", "https://hooks.example.org/T0/geheim"])
    said = capsys.readouterr().out
    assert "alarm_webhook = https://hooks.example.org/***" in said
    assert "geheim" not in said


def test_a_whole_box_tells_of_a_job_that_nobody_took(tmp_path: Path) -> None:
    root = tmp_path / "data"
    set_up(root, 1)
    (root / "routing.json").write_text('{"routing": []}')
    failing = root / "processors" / "FAIL"
    failing.write_text("#!/bin/sh\nexit 3\n")
    failing.chmod(0o755)
    with hookserver.listening() as server, running(root, settings={"alarm_webhook": server.url}) as box:
        assert box.port is not None
        send(box.port, study(tmp_path / "one", 1), "FAIL")
        until(lambda: bool(server.told), what="the alarm")
        log = (root / "logs" / "routing.log").read_text()
    assert (server.told[0]["kind"], server.told[0]["says"]) == ("attention", "alarm")
    assert "secret" not in log
