"""A developer's loop: new, its test, check, run; the run is the box's own, and leaves nothing behind."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import sample
from sandboxes import sandbox

from magickbox.cli.main import main

SHIPPED = Path(__file__).parent.parent / "processors"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place with a folder of images, and a temporary folder that is empty again afterwards."""
    (tmp_path / "images" / "deep").mkdir(parents=True)
    shutil.copy(sample("CT_small.dcm"), tmp_path / "images" / "a")
    shutil.copy(sample("CT_small.dcm"), tmp_path / "images" / "deep" / "the same again.dcm")
    shutil.copy(sample("MR_small.dcm"), tmp_path / "images" / "deep" / "b.dcm")
    (tmp_path / "images" / "notes.txt").write_text("no DICOM")
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert os.listdir(tmp_path / "temp") == [], "the run left its folder"


def script(place: Path, text: str, name: str = "ProcX") -> None:
    path = place / "processors" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_from_nothing_to_a_running_processor(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "processors").mkdir()
    assert main(["processors", "new", "ProcNew"]) == 0
    made = place / "processors" / "ProcNew"
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(made)], capture_output=True, text=True
    )
    assert "1 passed" in tested.stdout, tested.stdout
    assert main(["processors", "check", "ProcNew"]) == 0
    assert main(["processors", "run", "ProcNew", "images"]) == 0
    told = capsys.readouterr().out
    assert "input      2 instances, " in told
    assert "of 2 studies (the box would make a job of each); 1 file that is no DICOM was left out" in told
    assert "2 images in 2 series written" in told
    assert "outcome    success (exit code 0)" in told
    assert "output     2 DICOM files, 0 others" in told
    assert "CT Image Storage, Explicit VR Little Endian" in told
    assert "note:" not in told


def test_the_report_says_what_the_box_would_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script(place, 'ls "$1"; cp "$1"/* "$2"; mkfifo "$2/pipe"; echo x > "$2/x.txt"; cat info.json > "$2/info"\n'
                  'i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; '
                  'echo \'[{"success": "partial", "message": "half"}]\' > proc.json')  # fmt: skip
    assert main(["processors", "run", "ProcX", "images", "--output", "out"]) == 1
    told = capsys.readouterr().out
    assert "outcome    partial (exit code 0)" in told
    assert "message    half. left out of OUTPUT: 1 pipe, socket or device node" in told
    assert "the last 20 of 52 lines of its log" in told
    assert "line 49" in told
    assert "line 29" not in told
    assert "output     2 DICOM files, 2 others" in told
    assert "note: 2 have the SOP Instance UID of an input" in told
    names = {path.name for path in (place / "out").iterdir()}
    assert "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322.dcm" in names, "named as the box names them"
    info = json.loads((place / "out" / "info").read_text())
    assert (info["AETitleCalled"], info["instances"], len(info["studies"])) == ("ProcX", 2, 2)
    assert main(["processors", "run", "ProcX", "images", "--output", "out"]) == 1
    assert "out is there already" in capsys.readouterr().err


def test_it_is_the_boxs_own_sandbox_and_limits(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sandbox(place / "data")
    script(place, f"cat {place}/images/notes.txt || echo hidden; head -c 3000000 /dev/zero > $2/big || exit 1")
    assert main(["processors", "run", "ProcX", "images"]) == 0
    assert "\nhidden\n" in capsys.readouterr().out
    (place / "set.toml").write_text('max_file_size = "2M"\n')
    assert main(["processors", "run", "ProcX", "images", "--config", "set.toml", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["message"]) == ("failed", "a file became too large (limit 2 MB)")
    assert f"sandbox: {found.describe()}" in told["held_by"]
    (place / "set.toml").write_text('sandbox = "off"\n')
    assert main(["processors", "run", "ProcX", "images", "--config", "set.toml"]) == 0
    told_off = capsys.readouterr().out
    assert "; network (no sandbox that keeps it away)\n" in told_off
    assert "no network" not in told_off
    assert "the sandbox is switched off" in told_off
    assert "\nno DICOM" in told_off


def test_what_it_keeps_it_says(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script(place, 'touch "$2/made"')
    assert main(["processors", "run", "ProcX", "images", "--keep"]) == 0
    folder = Path(capsys.readouterr().out.rpartition("kept in    ")[2].strip())
    assert {path.name for path in (folder / "run").iterdir()} >= {"INPUT", "OUTPUT", "info.json", "run.json"}
    assert (folder / "run" / "OUTPUT" / "made").exists()
    shutil.rmtree(folder)


def test_a_changed_input_and_a_missing_sandbox_are_told(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script(place, 'for f in "$1"/*; do chmod u+w "$f"; echo x >> "$f"; done')
    (place / "set.toml").write_text('sandbox = "off"\n')
    assert main(["processors", "run", "ProcX", "images", "--config", "set.toml"]) == 1
    assert "the box    the job is HELD: the processor changed INPUT/1.3.6" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(place))
    (place / "set.toml").write_text('sandbox = "required"\n')
    assert main(["processors", "run", "ProcX", "images", "--config", "set.toml"]) == 1
    told = capsys.readouterr().out
    assert "the box    its jobs wait: the sandbox is required, and bubblewrap is not in" in told
    assert "held by    " in told
    assert "; 3600 s; " in told


def test_a_convention_may_name_input_anew(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script(place, 'ls "$MERCURE_IN_DIR" | grep -c "#"; cp "$MERCURE_IN_DIR"/*.dcm "$MERCURE_OUT_DIR"')
    (place / "processors" / "Module").mkdir()
    (place / "processors" / "ProcX").rename(place / "processors" / "Module" / "module.sh")
    declared = {"command": ["./module.sh"], "convention": "mercure"}
    (place / "processors" / "Module" / "processor.json").write_text(json.dumps(declared))
    assert main(["processors", "run", "Module", "images"]) == 0
    told = capsys.readouterr().out
    assert "output     2 DICOM files" in told
    assert "the box  " not in told


def test_what_would_hold_a_run_that_has_to_wait_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "processors" / "Away").mkdir(parents=True)
    (place / "processors" / "Away" / "processor.json").write_text(json.dumps({"image": "nowhere/none:1"}))
    (place / "set.toml").write_text(f'container_engine = "{place}/no-engine"\n')
    assert main(["processors", "run", "Away", "images", "--config", "set.toml"]) == 1
    told = capsys.readouterr().out
    assert "outcome    -\n" in told
    assert "held by    container; " in told
    assert "the box    its jobs wait: " in told


def test_nothing_to_run_on_or_with_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script(place, "exit 0")
    (place / "empty").mkdir()
    assert main(["processors", "run", "ProcX", "empty"]) == 1
    assert "no DICOM files below empty" in capsys.readouterr().err
    assert main(["processors", "run", "ProcX", "nowhere"]) == 1
    assert "nowhere is not a folder" in capsys.readouterr().err
    assert main(["processors", "run", "ProcY", "images"]) == 1
    assert "there is no processor ProcY" in capsys.readouterr().err


def test_check_says_what_would_keep_it_from_running(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script(place, "exit 0")
    for name, declared in {
        "Much": {"command": ["true"], "resources": {"memory": "900T", "cpus": 9000}},
        "Missing": {"command": ["no-such-program"]},
        "Odd": {"command": ["true"], "timeout": -1},
    }.items():
        (place / "processors" / name).mkdir()
        (place / "processors" / name / "processor.json").write_text(json.dumps(declared))
    assert main(["processors", "check"]) == 1
    told = capsys.readouterr().out
    assert "ok       ProcX" in told
    assert "PROBLEM  Much: asks for 900 TB of memory (resources.memory), and this box has " in told
    assert "PROBLEM  Much: asks for 9000 processor cores (resources.cpus), and this box has " in told
    assert "PROBLEM  Missing: no program 'no-such-program' is installed where the box looks (its PATH)" in told
    assert "PROBLEM  Odd: processor.json, line 1" in told
    assert main(["processors", "check", "ProcX"]) == 0
    assert capsys.readouterr().out == "ok       ProcX\n"
    assert main(["processors", "check", "ProcZ"]) == 1
    assert "there is no processor ProcZ" in capsys.readouterr().err


def test_check_looks_from_inside_the_sandbox(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox(place)
    (place / "tool").write_text("#!/bin/sh\n")
    (place / "tool").chmod(0o755)
    script(place, "exit 0", "Good")
    for name, first in {"Hidden": f"#!{place}/tool", "Missing": "#!/usr/bin/env python9"}.items():
        path = place / "processors" / name
        path.write_text(f"{first}\necho\n")
        path.chmod(0o755)
    assert main(["processors", "check"]) == 1
    told = capsys.readouterr().out
    assert "ok       Good\n" in told
    assert f"PROBLEM  Hidden: the interpreter '{place}/tool' named in the first line of " in told
    assert "is not visible here (in the sandbox; setting sandbox_shows)" in told
    assert "PROBLEM  Missing: no program 'python9', named in the first line of " in told
    (place / "set.toml").write_text(f'sandbox_shows = ["{place}/tool"]\n')
    assert main(["processors", "check", "Hidden", "--config", "set.toml"]) == 0
    assert capsys.readouterr().out == "ok       Hidden\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_check_finds_a_folder_that_is_closed_to_the_box(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox(place)
    folder = place / "processors" / "Closed"
    folder.mkdir(parents=True)
    (folder / "processor.json").write_text(json.dumps({"command": ["./run.sh"]}))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    assert main(["processors", "check"]) == 0
    capsys.readouterr()
    os.chown(folder, 65534, 65534)
    folder.chmod(0o700)
    assert main(["processors", "check"]) == 1, "in the sandbox root has no more rights than anybody"
    assert f"PROBLEM  Closed: {folder} may not be entered (chmod +rx)" in capsys.readouterr().out


def test_check_tells_of_each_as_soon_as_it_is_known_and_of_many_quickly(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        script(place, "exit 0", f"Proc{number:02}")
    told = subprocess.Popen(
        [sys.executable, "-m", "magickbox.cli.main", "processors", "check"], stdout=subprocess.PIPE, cwd=place,
        env={**os.environ, "TMPDIR": str(place / "temp")},
    )  # fmt: skip
    assert told.stdout is not None
    lines = [told.stdout.readline() for _ in range(30)]
    assert lines == [f"ok       Proc{number:02}\n".encode() for number in range(30)]
    assert told.stdout.read() == b""
    told.stdout.close()
    assert told.wait() == 0


@pytest.mark.parametrize("name", ["identity", "mip", "outcomes", "report"])
def test_the_shipped_processors_run_in_the_sandbox(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox(place)
    assert main(["processors", "check", name, "--processors", str(SHIPPED)]) == 0
    code = main(["processors", "run", name, "images", "--processors", str(SHIPPED), "--json"])
    told = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert "sandbox: bubblewrap" in told["held_by"]
    assert told["trouble"] is None
    if name == "mip":
        assert (code, told["message"][:27]) == (1, "nothing could be projected;"), "one slice is none"
    else:
        assert (code, told["outcome"], len(told["output"])) == (0, "success", 2)
