"""The container template as a developer uses it: new, its test, build, its test again, check, run, save, run elsewhere.

No registry can be reached, so what its image begins with is made here: from scratch, with a static busybox.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import Podman, podman, program
from peers import sample

from magickbox.cli.main import main

BASE = "localhost/base:1"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    one = podman(tmp_path_factory.mktemp("podman"))
    yield one
    one.close()


def buildah(one: Podman, *words: str) -> str:
    """Run buildah on the images of ``one``."""
    store = ["--root", f"{one.place}/root", "--runroot", f"{one.place}/run", "--storage-driver", "overlay"]
    environment = {**one.environment, "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(
        [program("buildah"), *store, *words], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_base(one: Podman) -> None:
    working = buildah(one, "from", "scratch")
    mounted = Path(buildah(one, "mount", working))
    for folder in ("bin", "tmp"):
        (mounted / folder).mkdir()
    shutil.copy(program("busybox"), mounted / "bin" / "busybox")
    for applet in ("sh", "cp"):
        (mounted / "bin" / applet).symlink_to("busybox")
    buildah(one, "umount", working)
    buildah(one, "config", "--env", "PATH=/bin", working)
    buildah(one, "commit", "--rm", "--quiet", working, BASE)


def outcome_of_its_test(made: Path, one: Podman) -> str:
    """What the template's own test comes to."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(made)]
    environment = {**os.environ, **one.environment, "MAGICKBOX_CONTAINER_ENGINE": one.words}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=made.parent).stdout


def test_from_nothing_to_a_running_container(
    one: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONTAINERS_CONF", str(one.place / "containers.conf"))
    monkeypatch.setenv("MAGICKBOX_CONTAINER_ENGINE", one.words)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "processors").mkdir()
    (tmp_path / "images").mkdir()
    shutil.copy(sample("CT_small.dcm"), tmp_path / "images")
    assert main(["processors", "new", "Proc-ADC_2", "--container"]) == 0
    image, made = "localhost/proc-adc-2:0.1", tmp_path / "processors" / "Proc-ADC_2"
    told = capsys.readouterr().out
    assert f"podman build --tag {image} " in told
    assert "1 passed, 1 skipped" in outcome_of_its_test(made, one)

    make_base(one)
    buildah(one, "build", "--build-arg", f"BASE={BASE}", "--tag", image, str(made))
    assert "2 passed" in outcome_of_its_test(made, one)
    assert main(["processors", "check", "Proc-ADC_2"]) == 0
    assert main(["processors", "run", "Proc-ADC_2", "images"]) == 0
    told = capsys.readouterr().out
    assert "outcome    success (exit code 0)\nmessage    1 images" in told
    assert "output     1 DICOM file, 0 others" in told

    one.ask("save", "--quiet", "--output", str(made / "image.tar"), image)
    one.ask("rmi", image)
    declared = json.loads((made / "processor.json").read_text())
    (made / "processor.json").write_text(json.dumps({**declared, "image_archive": "./image.tar"}))
    assert main(["processors", "run", "Proc-ADC_2", "images"]) == 0
    assert "outcome    success" in capsys.readouterr().out
