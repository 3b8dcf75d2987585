"""Switching drop-ins on and off lasts, and leaves everything else as it was written; new ones run as they are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from magickbox.dropins.folder import read_dropins
from magickbox.dropins.switch import disable, enable
from magickbox.dropins.template import new
from magickbox.engine import Ended, Run
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.errors import ConfigError, NotFound

TEXTS = {
    "there": (
        '{\n\t"enabled" : true,\n\t"command": ["true"]\n}\n',
        '{\n\t"enabled" : false,\n\t"command": ["true"]\n}\n',
    ),
    "not there": ('{\n    "command": ["true"]\n}\n', '{\n    "enabled": false,\n    "command": ["true"]\n}\n'),
    "in one line": ('{"command": ["true"]}', '{"enabled": false, "command": ["true"]}'),
    "windows": ('{\r\n  "command": ["true"]\r\n}\r\n', '{\r\n  "enabled": false,\r\n  "command": ["true"]\r\n}\r\n'),
    "with comments": (
        '// "enabled": true {\n{\n  "command": ["true"],  // "enabled": true\n}\n',
        '// "enabled": true {\n{\n  "enabled": false,\n  "command": ["true"],  // "enabled": true\n}\n',
    ),
    "named elsewhere": (
        '{"description": "say \\"enabled\\": true", "command": ["true"], "enabled": true}',
        '{"description": "say \\"enabled\\": true", "command": ["true"], "enabled": false}',
    ),
    "a variable of that name": (
        '{"environment": {"enabled": "true"}, "command": ["true"]}',
        '{"enabled": false, "environment": {"enabled": "true"}, "command": ["true"]}',
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_folder_keeps_its_text(tmp_path: Path, case: str) -> None:
    before, after = TEXTS[case]
    path = tmp_path / "ProcRSI" / "processor.json"
    path.parent.mkdir()
    path.write_text(before, newline="")
    path.chmod(0o640)
    disable(tmp_path, "procrsi")
    assert path.read_bytes().decode() == after
    assert path.stat().st_mode & 0o777 == 0o640
    assert not read_dropins(tmp_path).good[0].enabled
    enable(tmp_path, "ProcRSI")
    assert read_dropins(tmp_path).good[0].enabled


def test_a_linked_processor_json_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text('{"command": ["true"]}')
    place = tmp_path / "processors"
    (place / "ProcRSI").mkdir(parents=True)
    (place / "ProcRSI/processor.json").symlink_to(tmp_path / "real.json")
    disable(place, "ProcRSI")
    assert (place / "ProcRSI/processor.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["enabled"] is False


def test_a_lone_file_stays_off_when_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ProcRSI.py"
    for version in ("#!/bin/sh\n", "#!/bin/sh\n# 2\n"):
        path.write_text(version)
        path.chmod(0o755)
        disable(tmp_path, "ProcRSI")
        assert not read_dropins(tmp_path).good[0].enabled
    enable(tmp_path, "PROCRSI")
    enable(tmp_path, "PROCRSI")
    assert read_dropins(tmp_path).good[0].enabled
    assert [path.name for path in tmp_path.iterdir()] == ["ProcRSI.py"]


def test_what_cannot_be_switched_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no processor 'ProcRSI' in "):
        enable(tmp_path, "ProcRSI")
    (tmp_path / "ProcRSI").mkdir()
    (tmp_path / "ProcRSI/processor.json").write_text("{")
    with pytest.raises(ConfigError, match=r"processor ProcRSI is not usable: processor.json, line 1, column 2"):
        disable(tmp_path, "ProcRSI")


def test_a_new_drop_in_runs_as_it_is(tmp_path: Path) -> None:
    made = new(tmp_path / "processors", "Proc-RSI_2")
    dropins = read_dropins(tmp_path / "processors")
    assert (dropins.bad, dropins.good[0].name) == ((), "Proc-RSI_2")
    assert sorted(path.name for path in made.iterdir()) == [
        "README.md",
        "processor.json",
        "run.py",
        "test_proc_rsi_2.py",
    ]
    from pydicom.data import get_testdata_file

    work = tmp_path / "work"
    for folder in ("INPUT", "OUTPUT"):
        (work / folder).mkdir(parents=True)
    (work / "INPUT" / "1.dcm").write_bytes(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())
    engine = LocalEngine(clean_environment({}, Path(sys.executable)), tmp_path)
    run = Run("mb-new-1", "new", 1, dropins.good[0], work, work / "processing.log", 60.0)
    assert engine.run(run, lambda _: None) == Ended(0, "1 images in 1 series written")
    assert json.loads((work / "proc.json").read_text()) == [{"success": "success", "message": "1 images"}]


def test_a_new_drop_in_passes_its_own_test_and_our_lint(tmp_path: Path) -> None:
    made = new(tmp_path, "ProcRSI")
    subprocess.run([sys.executable, "-m", "pytest", "-q", f"--rootdir={made}", str(made)], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120", str(made)], check=True)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "A" * 17, "Ärzte", "two words", "x\n"])
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a processor"):
        new(tmp_path / "processors", name)
    assert not (tmp_path / "processors").exists()


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ProcRSI.sh").write_text("#!/bin/sh\n")
    with pytest.raises(ConfigError, match="there is a processor 'procrsi'"):
        new(tmp_path, "procrsi")
