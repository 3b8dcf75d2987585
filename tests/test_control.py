"""Whatever is said on the control socket is answered, and what a person is called can be kept."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import Image, TestBox, new_box

from magickbox.cli.doing import do, who
from magickbox.control import ControlServer, ask, clean
from magickbox.errors import ForbiddenMove, MagickboxError, NotFound
from magickbox.job import JobState
from magickbox.ledger import jobs
from magickbox.operations import Operations
from magickbox.removal import Removal


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def control(box: TestBox) -> Iterator[Path]:
    operations = Operations(box.ledger, box.birth, Removal(box.data, box.ledger), lambda: None)
    server = ControlServer(box.data.control, operations, lambda: {"up": True})
    server.start()
    yield box.data.control
    server.stop()


def say(control: Path, line: bytes) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(control))
        raw.sendall(line + b"\n")
        with raw.makefile("rb") as lines:
            answer: dict[str, str] = json.loads(lines.readline())
    return answer


@pytest.mark.parametrize(
    "line",
    [
        b"null", b"[]", b"7", b'"text"', b"{", b"\xff", b"", b"[" * 60_000, b"{}", b'{"do": null}', b'{"do": []}',
        b'{"do": "explode"}', b'{"do": "rerun"}', b'{"do": "rerun", "subject": "\\ud800", "who": "\\ud800"}',
        b'{"do": "delete", "subject": {"a": 1}, "who": 1}', b'{"do": "retry", "subject": "' + b"9" * 5000 + b'"}',
        b"x" * 100_000,
    ],
)  # fmt: skip
def test_nonsense_is_answered_with_a_sentence(control: Path, line: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    answer = say(control, line)
    assert answer.pop("error")
    assert set(answer) <= {"kind"}
    assert ask(control, "status") == {"said": "running", "status": {"up": True}}
    assert capfd.readouterr().err == ""


def test_what_the_box_refuses_is_raised_as_what_it_is(box: TestBox, control: Path) -> None:
    job = box.job(Image("1.2.1"))
    with pytest.raises(NotFound, match="there is no job nobody"):
        ask(control, "delete", "nobody")
    with pytest.raises(ForbiddenMove, match="cannot take the step 'release'"):
        ask(control, "release", job.id)
    with pytest.raises(NotFound, match="does not know the command"):
        ask(control, "explode")
    assert box.row(job).state is JobState.READY


def test_a_name_that_is_no_text_can_ask_for_a_rerun(box: TestBox, control: Path) -> None:
    job = box.job(Image("1.2.1"))
    answer = ask(control, "rerun", job.id, "m\udcfcller" + "\n" * 100)
    assert answer is not None
    with box.ledger.reading() as tx:
        [new] = [each for each in jobs.newest(tx) if each.rerun_of == job.id]
    assert new.state is JobState.READY
    assert new.reason == f"rerun of {job.id}, asked by m?ller{'?' * 58}"


def test_a_person_is_named_with_what_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "m\udcfcller")
    assert who() == "m?ller"
    monkeypatch.setattr("getpass.getuser", lambda: "")
    assert who() == "somebody"
    assert clean("Jörg") == "Jörg"


def test_a_job_that_is_no_text_is_not_there(box: TestBox) -> None:
    with pytest.raises(MagickboxError, match="there is no job"):
        do(box.data, "rerun", "\udcff")
