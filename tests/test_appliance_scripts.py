"""The scripts of the appliance say what they need, and refuse what they do not know."""

import os
import subprocess
from pathlib import Path

import pytest

VM = Path(__file__).parent.parent / "vm"
SCRIPTS = [
    VM / "build",
    VM / "boot",
    VM / "nspawn",
    VM / "prove",
    *sorted((VM / "files" / "usr" / "local" / "sbin").iterdir()),
]


def said(*command: str, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **({} if path is None else {"PATH": str(path)})}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_read_by_its_shell(script: Path) -> None:
    shell = script.read_text().partition("\n")[0].removeprefix("#!").split()
    done = said(*shell, "-n", str(script))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("script", "packages"),
    [
        ("build", "mmdebstrap mtools qemu-utils"),
        ("boot", "qemu-system-x86 qemu-utils"),
        ("nspawn", "systemd-container"),
        ("prove", "mmdebstrap mtools qemu-system-x86 systemd-container dcmtk podman podman-compose"),
    ],
)
def test_a_machine_without_the_packages_is_told_which(tmp_path: Path, script: str, packages: str) -> None:
    for program in ("bash", "dirname", "sort", "tr"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    done = said("/usr/bin/bash", str(VM / script), path=tmp_path)
    assert done.returncode == 1
    line = done.stderr.splitlines()[1]
    assert line.startswith("  sudo apt install --no-install-recommends ")
    assert set(packages.split()) <= set(line.split())


@pytest.mark.parametrize(
    "words", [["build", "--unknown"], ["boot", "--unknown", "x"], ["boot", "--image"], ["nspawn", "--network"]]
)
def test_an_option_that_is_not_known_is_refused(words: list[str]) -> None:
    done = said(str(VM / words[0]), *words[1:])
    assert done.returncode == 2
    assert f"vm/{words[0]} [" in done.stderr


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("qemu-system-x86_64", "qemu-img"):
        (tmp_path / "bin" / program).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin" / program).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    command = [str(VM / "boot"), "--image", str(tmp_path / "none.qcow2")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "none.qcow2 is not there; make it with vm/build" in done.stderr or "ovmf" in done.stderr
