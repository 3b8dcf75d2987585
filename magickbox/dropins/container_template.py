"""The files of a new drop-in that runs in a container: Containerfile, work script, README and a test. Text only."""

import re
from collections.abc import Mapping

CONTAINERFILE = """# Makes the image IMAGE: podman build --tag IMAGE PATH-OF-THIS-FOLDER
# Any image with a shell is a good beginning. For a program in Python:
#   ARG BASE=python:3.12-slim
ARG BASE=debian:stable-slim
FROM ${BASE}
#   RUN pip install --no-cache-dir pydicom numpy
COPY work.sh /work.sh
CMD ["/work.sh", "/input", "/output"]
"""

WORK = """#!/bin/sh
# Called in the container as: /work.sh /input /output
# Reads the images in /input (read-only), writes results into /output. No network, no other place to write but /tmp.
set -eu
input=$1 output=$2
written=0
for file in "$input"/*; do
    # ... your program goes here in place of cp. A result is a new image: give it a SOP Instance UID and a Series
    # Instance UID of its own, or an archive that has the original drops it ...
    cp "$file" "$output/"
    written=$((written + 1))
done
echo "$written images written" # seen at once in the job's processing.log
# The outcome that the box's rules look at; without this, exit code 0 is success, any other is failed.
echo "[{\\"success\\": \\"success\\", \\"message\\": \\"$written images\\"}]" > "${MAGICKBOX_PROC:-$output/proc.json}"
"""

TEST = '''"""Runs the work script here, and in its image if that was built: pytest PATH-OF-THIS-FOLDER"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

HERE = Path(__file__).parent
IMAGE = "IMAGE"
ENGINE = os.environ.get("MAGICKBOX_CONTAINER_ENGINE", "podman").split()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "INPUT").mkdir()
    (tmp_path / "OUTPUT").mkdir()
    shutil.copy(str(get_testdata_file("CT_small.dcm")), tmp_path / "INPUT" / "1.dcm")
    return tmp_path


def check(output: Path) -> None:
    assert json.loads((output / "proc.json").read_text())[0]["success"] == "success"
    assert len(list(output.glob("*.dcm"))) == 1


def test_the_script(study: Path) -> None:
    command = [str(HERE / "work.sh"), str(study / "INPUT"), str(study / "OUTPUT")]
    subprocess.run(command, env={**os.environ, "MAGICKBOX_PROC": str(study / "OUTPUT" / "proc.json")}, check=True)
    check(study / "OUTPUT")


def test_the_image(study: Path) -> None:
    if shutil.which(ENGINE[0]) is None:
        pytest.skip(f"{ENGINE[0]} is not installed")
    if subprocess.run([*ENGINE, "image", "inspect", IMAGE], capture_output=True).returncode != 0:
        pytest.skip(f"{IMAGE} was not built yet: {ENGINE[0]} build --tag {IMAGE} {HERE}")
    shown = ["--volume", f"{study}/INPUT:/input:ro", "--volume", f"{study}/OUTPUT:/output"]
    subprocess.run([*ENGINE, "run", "--rm", "--network", "none", "--read-only", *shown, IMAGE], check=True)
    check(study / "OUTPUT")
'''

README = """# NAME

What it does, for whom, with which images it was tried.

- Called AE title: `NAME` (send a study to the box under this title)
- Input: any images. Output: the same images, until `work.sh` does more.
- Outcomes: `success`; `failed` if a file cannot be read.

    podman build --tag IMAGE .                      make the image, as the user who runs the box
    pytest .                                        try script and image without a box
    magickbox processors run NAME FOLDER            try it as the box will run it

For a box that cannot build it: `podman save --output image.tar IMAGE`, and
`"image_archive": "./image.tar"` in `processor.json`. Every key of that is explained in the processors chapter.
"""


def image_of(name: str) -> str:
    """What the image of a drop-in with this name is called: names of images are in small letters."""
    return f"localhost/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}:0.1"


def declared(name: str) -> dict[str, object]:
    """What its processor.json says."""
    return {"description": "", "version": "0.1", "image": image_of(name), "timeout": 600}


def files(name: str) -> Mapping[str, str]:
    """Its files by their names, without the test and processor.json."""
    texts = {"Containerfile": CONTAINERFILE, "work.sh": WORK, "README.md": README}
    return {file: text.replace("IMAGE", image_of(name)).replace("NAME", name) for file, text in texts.items()}


def test_of(name: str) -> str:
    """Its test."""
    return TEST.replace('IMAGE = "IMAGE"', f'IMAGE = "{image_of(name)}"')
