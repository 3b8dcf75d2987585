"""``magickbox check`` and the start of ``serve``: what people mistype is named, with what they may have meant."""

import json
import sys
from pathlib import Path

import pytest

from magickbox.cli.main import main
from magickbox.config import load, stray_variables
from magickbox.disk import read_mark
from magickbox.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "meant"), [("0.05", "5%"), ("0.99", "99%"), ("5", "5%"), ("500", "500 MB"), ("1023", "1023 MB")]
)
def test_a_mark_of_a_few_bytes_is_refused(text: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        load(None, {"MAGICKBOX_MIN_FREE": text}, {})


@pytest.mark.parametrize("text", ["-5", "inf", "nan", "1e400", "-1G"])
def test_a_mark_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="neither a percentage"):
        read_mark(text)


def test_marks_that_mean_something_are_read() -> None:
    assert [read_mark(text).amount for text in ("0", "1024", "0.5G", "500 MB")] == [0, 1024, 1 << 29, 500 << 20]
    assert read_mark("5%").share == 0.05


def test_stray_variables_are_named_with_the_nearest() -> None:
    strays = stray_variables({"MAGICKBOX_SETLE": "1", "MAGICKBOX_PROCESSOR": "x", "MAGICKBOX_DATA": "d", "HOME": "/"})
    assert [line.rpartition(" ")[2] for line in strays] == ["'MAGICKBOX_PROCESSORS'?", "'MAGICKBOX_SETTLE'?"]
    assert stray_variables({"MAGICKBOX_RUN": "r", "MAGICKBOX_JOB": "j"}) == []


def checked(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, str]:
    code = main(["check", "--data", str(root), *words])
    return code, capsys.readouterr().out


def test_values_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = checked(capsys, tmp_path, "--settle", "20", "--processors", str(tmp_path))
    assert code == 0
    assert "settings: settle = 20 from --settle" in said


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--min-free", "9000T"], "nothing would be taken"),
        (["--processors", "/nowhere"], "/nowhere: there is no such folder (--processors)"),
        (["--routing", "/nowhere/r.json"], "there is no folder /nowhere (--routing)"),
    ],
)
def test_problems_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str) -> None:
    code, said = checked(capsys, tmp_path, *words)
    assert code == 1
    assert problem in said


def test_rules_that_are_gone_are_a_problem_after_the_first_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is gone" not in checked(capsys, tmp_path)[1]
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "rules.json").write_text('{"routing": []}')
    code, said = checked(capsys, tmp_path)
    assert code == 1
    assert "is gone; the last good rules stay in force" in said


def test_a_variable_that_is_mistyped_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGICKBOX_SETLE", "3")
    assert "did you mean 'MAGICKBOX_SETTLE'?" in checked(capsys, tmp_path)[1]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--processors", "/nowhere"], "there is no such folder"),
        (["--routing", "/nowhere/r.json"], "there is no folder"),
    ],
)
def test_serve_refuses_places_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    assert main(["serve", "--data", str(tmp_path / "data"), "--port", "0", *words]) == 1
    assert problem in capsys.readouterr().err


def test_a_codec_that_a_destination_needs_and_nobody_has_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = {"IP": "10.0.0.5", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS",
          "transfer_syntaxes": {"preferred": ["JPEG2000Lossless", "RLELossless", "JPEGBaseline8Bit"]}}  # fmt: skip
    rules = {"destinations": {"pacs": to}, "routing": [{"name": "all", "send": [{"success": {"to": "pacs"}}]}]}
    (tmp_path / "routing.json").write_text(json.dumps(rules))
    monkeypatch.setitem(sys.modules, "openjpeg", None)  # as if it were not installed
    _, said = checked(capsys, tmp_path)
    assert "the encoder for 1.2.840.10008.1.2.4.90 is not installed: install magickbox[codecs]" in said
    monkeypatch.undo()
    _, said = checked(capsys, tmp_path)
    assert "encoder" not in said
