"""identity hands on every byte, says how many files, and fails audibly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

HERE = Path(__file__).resolve().parent


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job folder with two real instances, one of them deeper, junk, an empty file and a hidden one."""
    deep = tmp_path / "INPUT" / "a folder" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "OUTPUT").mkdir()
    for name, target in (("CT_small.dcm", tmp_path / "INPUT" / "1.2.3.dcm"), ("MR_small.dcm", deep / "no suffix")):
        shutil.copyfile(str(get_testdata_file(name, download=False)), target)
        target.chmod(0o444)
    (deep / "notes 'n' \"quotes\".txt").write_text("not DICOM")
    (deep / "empty").touch()
    (tmp_path / "INPUT" / ".hidden").write_bytes(b"\0\1")
    deep.chmod(0o555)
    return tmp_path


def run(job: Path, *, proc: bool = True) -> subprocess.CompletedProcess[str]:
    """Call the script as the box does."""
    command = json.loads((HERE / "processor.json").read_text())["command"]
    environment = {"PATH": os.environ["PATH"]}
    if proc:
        environment["MAGICKBOX_PROC"] = str(job / "proc.json")
    script = str(HERE / command[0])
    return subprocess.run(
        [script, str(job / "INPUT"), str(job / "OUTPUT")], cwd=job, env=environment, capture_output=True, text=True
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_byte_arrives(job: Path) -> None:
    before = contents(job / "INPUT")
    done = run(job)
    assert done.returncode == 0, done.stderr
    assert contents(job / "OUTPUT") == before == contents(job / "INPUT")
    assert json.loads((job / "proc.json").read_text()) == [
        {"success": "success", "message": "copied 5 files unchanged"}
    ]


def test_results_can_be_tidied_up(job: Path) -> None:
    run(job)
    assert all(p.stat().st_mode & 0o200 for p in (job / "OUTPUT").rglob("*"))


def test_by_hand_without_the_box(job: Path) -> None:
    assert run(job, proc=False).returncode == 0
    assert json.loads((job / "OUTPUT" / "proc.json").read_text())[0]["success"] == "success"


def test_an_empty_input_is_said(job: Path) -> None:
    shutil.rmtree(job / "INPUT")
    (job / "INPUT").mkdir()
    assert run(job).returncode == 0
    assert "copied 0 files" in (job / "proc.json").read_text()


def test_trouble_is_an_exit_code_and_a_last_line(job: Path) -> None:
    shutil.rmtree(job / "INPUT")
    done = run(job)
    assert done.returncode != 0
    assert done.stderr.strip()
    assert not (job / "proc.json").exists()
