"""What docs/processors.md says is true: its examples run, its tables have every key, variable and outcome."""

import json
import re
import shutil
import sys
from importlib import resources
from pathlib import Path

import pydicom
import pytest
from jsonschema import Draft202012Validator
from pydicom.data import get_testdata_file

from magickbox.config import load
from magickbox.dropins.folder import read_dropins
from magickbox.engine import Ended, Run
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.processor import judge_run, read_proc_json

SCHEMA = json.loads(resources.files("magickbox").joinpath("processor.schema.json").read_text(encoding="utf-8"))
CHAPTER = (Path(__file__).parent.parent / "docs" / "processors.md").read_text()


def examples(name: str) -> list[str]:
    """The fenced blocks whose opening line ends in ``name``."""
    return re.findall(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", CHAPTER, re.MULTILINE | re.DOTALL)


def table(after: str) -> list[list[str]]:
    """The rows of the first table after a text, as cells."""
    rows = CHAPTER[CHAPTER.index(after) :].partition("|---|")[2].partition("\n\n")[0].splitlines()[1:]
    return [row.strip("|").split("|") for row in rows]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def run(tmp_path: Path, place: Path) -> tuple[Ended, Run]:
    dropins = read_dropins(place)
    assert dropins.bad == ()
    work = tmp_path / "work"
    for folder in ("INPUT", "OUTPUT"):
        (work / folder).mkdir(parents=True)
    shutil.copy(str(get_testdata_file("CT_small.dcm")), work / "INPUT" / "1.2.3.dcm")
    engine = LocalEngine(clean_environment({"TZ": "UTC"}, Path(sys.executable)), tmp_path)
    one = Run("mb-docs-1", "docs", 1, dropins.good[0], work, work / "processing.log", 60.0)
    return engine.run(one, lambda _: None), one


@pytest.mark.parametrize("text", examples("processor.json"))
def test_every_processor_json_is_good(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "ProcRSI"
    folder.mkdir()
    (folder / "processor.json").write_text(text)
    for name in re.findall(r'"\./([^"]+)"', text):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    dropins = read_dropins(tmp_path)
    assert dropins.bad == ()
    assert dropins.good[0].serves("ProcRSI")


@pytest.mark.parametrize("text", examples("proc.json"))
def test_every_proc_json_is_valid(text: str) -> None:
    assert isinstance(read_proc_json(text.encode()), tuple)


def test_the_script_of_the_first_steps_runs(tmp_path: Path) -> None:
    place = tmp_path / "processors"
    place.mkdir()
    (place / "ProcRSI.sh").write_text(examples("ProcRSI.sh")[0])
    assert "chmod +x" in read_dropins(place).bad[0].problems[0]
    (place / "ProcRSI.sh").chmod(0o755)
    ended, one = run(tmp_path, place)
    assert ended == Ended(0, "1 files came in")
    assert [path.name for path in one.output.iterdir()] == ["1.2.3.dcm"]


def test_the_python_processor_makes_a_new_valid_image(tmp_path: Path) -> None:
    place = tmp_path / "processors"
    place.mkdir()
    (place / "ProcInvert.py").write_text(examples("ProcInvert.py")[0])
    (place / "ProcInvert.py").chmod(0o755)
    ended, one = run(tmp_path, place)
    assert ended == Ended(0, "1.2.3.dcm done")
    (path,) = one.output.iterdir()
    before, after = pydicom.dcmread(one.input / "1.2.3.dcm"), pydicom.dcmread(path)
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID != before.SOPInstanceUID
    assert (after.StudyInstanceUID, after.PatientID) == (before.StudyInstanceUID, before.PatientID)
    assert (after.pixel_array.astype(int) + before.pixel_array).std() == 0


def test_every_key_is_explained_and_no_other() -> None:
    explained = [quoted(row[0])[0] for row in table("### Every key of processor.json")]
    assert sorted(explained) == sorted(SCHEMA["properties"])


def test_every_key_of_the_schema_has_a_title_and_a_description() -> None:
    for key, said in SCHEMA["properties"].items():
        assert said["title"], key
        assert said["description"], key
    Draft202012Validator.check_schema(SCHEMA)


def test_every_variable_is_explained_and_no_other(tmp_path: Path) -> None:
    place = tmp_path / "processors"
    place.mkdir()
    (place / "Show.py").write_text(
        "#!/usr/bin/env python3\nimport json, os\njson.dump(dict(os.environ), open('e', 'w'))\n"
    )
    (place / "Show.py").chmod(0o755)
    _, one = run(tmp_path, place)
    seen = set(json.loads((one.workdir / "e").read_text())) - {"TZ", "LC_CTYPE"}
    assert {name for row in table("The environment is small") for name in quoted(row[0])} == seen


OUTCOMES = [
    judge_run(0, None),
    judge_run(0, b'[{"success": "partial"}]'),
    judge_run(3, None, "no license"),
    judge_run(3, b'[{"success": "success"}]'),
    judge_run(0, b'{"success": "success"}'),
    judge_run(None, None, trouble="out of time after 5 s"),
]


def test_the_table_of_outcomes_is_what_the_box_decides() -> None:
    said = [row[1] for row in table("## How it says what came out")]
    assert [outcome.success for outcome in OUTCOMES] == ["success", "partial", "failed", "failed", "failed", "failed"]
    assert [quoted(cell)[:1] for cell in said] == [["success"], [], ["failed"], ["failed"], ["failed"], ["failed"]]
    assert OUTCOMES[2].message == "exit code 3: no license"


def test_the_settings_are_a_file_that_the_box_takes(tmp_path: Path) -> None:
    (tmp_path / "magickbox.toml").write_text(examples("magickbox.toml")[0])
    settings = load(tmp_path / "magickbox.toml", {}, {}).settings
    assert settings.sandbox_shows == (Path("/srv/models"), Path("/opt-local"))
    assert (settings.timeout, settings.container_engine) == (7200, "podman --runtime runc")
