"""A new drop-in to begin with: a folder with processor.json, a script that works, a README and a test."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from magickbox.dropins import container_template
from magickbox.dropins.declaration import FILE
from magickbox.dropins.folder import read_dropins
from magickbox.errors import ConfigError

SCRIPT = '''#!/usr/bin/env python3
"""Called as: run.py INPUT OUTPUT. Reads the images in INPUT, writes results into OUTPUT."""

import json
import os
import sys
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid


def main(source: Path, target: Path) -> None:
    series = {}  # a result is a new series of new instances: never use a UID again
    written = 0
    for path in sorted(source.iterdir()):
        image = pydicom.dcmread(path)
        image.SeriesInstanceUID = series.setdefault(image.SeriesInstanceUID, generate_uid())
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.SeriesDescription = "NAME " + str(image.get("SeriesDescription", ""))[:40]

        # ... your work on the image goes here ...

        image.save_as(target / f"{image.SOPInstanceUID}.dcm")
        written += 1
    print(f"{written} images in {len(series)} series written")  # seen at once in the job's processing.log
    say("success", f"{written} images")


def say(outcome: str, message: str) -> None:
    """Tell the box the outcome that its rules look at; without this, exit code 0 is success, any other is failed."""
    path = os.environ.get("MAGICKBOX_PROC", "proc.json")
    Path(path).write_text(json.dumps([{"success": outcome, "message": message}]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
'''

TEST = '''"""Runs the processor as the box does: pytest PATH-OF-THIS-FOLDER"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

HERE = Path(__file__).parent


def test_writes_a_new_series(tmp_path: Path) -> None:
    (tmp_path / "INPUT").mkdir()
    (tmp_path / "OUTPUT").mkdir()
    shutil.copy(str(get_testdata_file("CT_small.dcm")), tmp_path / "INPUT" / "1.dcm")
    command = [sys.executable, str(HERE / "run.py"), str(tmp_path / "INPUT"), str(tmp_path / "OUTPUT")]
    environment = {**os.environ, "MAGICKBOX_PROC": str(tmp_path / "proc.json")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)

    (result,) = (tmp_path / "OUTPUT").iterdir()
    before, after = pydicom.dcmread(tmp_path / "INPUT" / "1.dcm"), pydicom.dcmread(result)
    assert after.StudyInstanceUID == before.StudyInstanceUID
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    assert json.loads((tmp_path / "proc.json").read_text())[0]["success"] == "success"
'''

README = """# NAME

What it does, for whom, with which images it was tried.

- Called AE title: `NAME` (send a study to the box under this title)
- Input: any images. Output: the same images as a new series.
- Outcomes: `success`; `failed` if an image cannot be read.

Try it without a box: `pytest .` here. Every key of `processor.json` is explained in the processors chapter.
"""


def new(folder: Path, name: str, container: bool = False) -> Path:
    """Make the drop-in ``folder``/``name``, ready to run (``container``: ready to be built), and return its path.

    It appears in one move, so that a box that looks sees all of it. Raises ConfigError if the name cannot be an AE
    title and a folder, or is taken.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}", name):
        raise ConfigError(f"'{name}' cannot name a processor: letters, digits, - and _, at most 16 of them")
    dropins = read_dropins(folder)
    taken = {one.name.casefold() for one in dropins.good} | {one.name.casefold() for one in dropins.bad}
    if name.casefold() in taken or (folder / name).exists():
        raise ConfigError(f"there is a processor '{name}' in {folder} already")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _make(folder, name, _container_files(name) if container else _script_files(name))
    except OSError as exc:
        raise ConfigError(f"processor {name} cannot be made: {exc.filename}: {exc.strerror}") from exc


def _script_files(name: str) -> Mapping[str, str]:
    declared = {"description": "", "version": "0.1", "command": ["python3", "./run.py"], "timeout": 600}
    texts = {"run.py": SCRIPT.replace("NAME", name), "README.md": README.replace("NAME", name)}
    return {FILE: _as_json(declared), **texts, _test_file(name): TEST}


def _container_files(name: str) -> Mapping[str, str]:
    declared = container_template.declared(name)
    return {
        FILE: _as_json(declared),
        **container_template.files(name),
        _test_file(name): container_template.test_of(name),
    }


def _as_json(declared: Mapping[str, object]) -> str:
    return json.dumps(declared, indent=2) + "\n"


def _test_file(name: str) -> str:
    return f"test_{name.lower().replace('-', '_')}.py"


def _make(folder: Path, name: str, files: Mapping[str, str]) -> Path:
    beside = folder / f".new-{name}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for file, text in files.items():
        (beside / file).write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            (beside / file).chmod(0o755)
    return beside.rename(folder / name)
