"""outcomes says each outcome as the contract has it: proc.json, exit code, and what is in OUTPUT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

HERE = Path(__file__).resolve().parent


def job_with(folder: Path, *descriptions: str) -> Path:
    """A job folder with one real instance for each description, and a file that is not DICOM."""
    (folder / "INPUT" / "deep").mkdir(parents=True)
    (folder / "OUTPUT").mkdir()
    (folder / "INPUT" / "notes.txt").write_text("partial failed crash")
    for number, text in enumerate(descriptions):
        ds = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        ds.SeriesDescription = text
        ds.save_as(folder / "INPUT" / "deep" / f"{number}.dcm")
    return folder


def run(job: Path, **environment: str) -> tuple[int, dict[str, str] | None, list[str]]:
    """Exit code, what proc.json says, names in OUTPUT."""
    command = json.loads((HERE / "processor.json").read_text())["command"]
    assert command[0] == "python3"
    done = subprocess.run(
        [sys.executable, str(HERE / command[1]), str(job / "INPUT"), str(job / "OUTPUT")],
        cwd=job,
        env={"PATH": os.environ["PATH"], "MAGICKBOX_PROC": str(job / "proc.json"), **environment},
        capture_output=True,
        text=True,
    )
    proc = job / "proc.json"
    said = json.loads(proc.read_text())[0] if proc.exists() else None
    return done.returncode, said, sorted(p.name for p in (job / "OUTPUT").rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("descriptions", "code", "outcome", "files"),
    [
        (["T1 axial", "T2"], 0, "success", ["0.dcm", "1.dcm"]),
        (["T1 Partial"], 0, "partial", ["0.dcm"]),
        (["PARTIAL", "x", "y", "z", "z"], 0, "partial", ["0.dcm", "1.dcm", "2.dcm"]),
        (["partial", "please_failed"], 1, "failed", []),
        (["partially"], 0, "success", ["0.dcm"]),
        ([""], 0, "success", ["0.dcm"]),
        ([], 1, "failed", []),
    ],
)
def test_the_word_decides(tmp_path: Path, descriptions: list[str], code: int, outcome: str, files: list[str]) -> None:
    got, said, names = run(job_with(tmp_path, *descriptions))
    assert said is not None
    assert (got, said["success"], names) == (code, outcome, files)
    assert said["message"]


def test_crash_leaves_the_words_to_the_box(tmp_path: Path) -> None:
    assert run(job_with(tmp_path, "crash", "success")) == (3, None, [])


@pytest.mark.parametrize(("word", "code"), [("needs-review", 0), ("failed", 1)])
def test_the_environment_wins(tmp_path: Path, word: str, code: int) -> None:
    got, said, _ = run(job_with(tmp_path, "partial"), OUTCOME=word)
    assert said is not None
    assert (got, said["success"]) == (code, word)


def test_copies_are_the_same_bytes(tmp_path: Path) -> None:
    run(job_with(tmp_path, "T1"))
    assert (tmp_path / "OUTPUT/deep/0.dcm").read_bytes() == (tmp_path / "INPUT/deep/0.dcm").read_bytes()
