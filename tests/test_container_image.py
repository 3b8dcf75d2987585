"""The image of the Containerfile: built without a registry, unprivileged, its root read-only, and it takes a study.

Its base is a Debian made by mmdebstrap; CONTAINER_BASE names a tar archive of one that is there already.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from containers import Podman, podman, program
from peers import dcmtk, free_port, item_of, sample, storescp, wait_for
from pydicom import dcmread
from pydicom.uid import generate_uid

from magickbox.cli.main import main

ROOT = Path(__file__).parent.parent
UNPRIVILEGED = 10001
WALLS = ("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp", "--cap-drop", "ALL",
         "--security-opt", "no-new-privileges")  # fmt: skip
pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    made = podman(tmp_path_factory.mktemp("podman"))
    with (made.place / "containers.conf").open("a") as conf:
        conf.write(f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{made.place}/networks"\n')
    yield made
    made.close()


@pytest.fixture(scope="module")
def image(engine: Podman, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, as the documentation builds it, but for where Debian and the packages come from."""
    folder = tmp_path_factory.mktemp("image")
    engine.ask("import", "--quiet", str(debian(folder)), "debian-base")
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    shutil.copytree(ROOT, folder / "source", ignore=lambda *_: {".venv", ".git", "vm-image", "build"})
    subprocess.run([*pip, "wheel", "--no-deps", "-w", wheels, folder / "source"], check=True)
    (wheel,) = wheels.glob("magickbox-*.whl")
    needs = [f"{wheel}[processors]", "setuptools>=68", "wheel"]
    subprocess.run([*pip, "download", "-d", wheels, "--only-binary=:all:", *needs], check=True)
    arguments = {
        "BASE": "localhost/debian-base",
        "PIP_OPTIONS": "--no-index --find-links /wheels",
        "EXTRAS": "processors",
    }
    options = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    chroot = replace_environment(engine, BUILDAH_ISOLATION="chroot")
    subprocess.run(
        [*engine.words.split(), "build", "--quiet", "--format", "docker", *options, "--volume", f"{wheels}:/wheels:ro",
         "--tag", "magickbox", "--file", str(ROOT / "Containerfile"), str(ROOT)],
        env=chroot, check=True, stdin=subprocess.DEVNULL, timeout=900,
    )  # fmt: skip
    return "magickbox"


def replace_environment(engine: Podman, **more: str) -> dict[str, str]:
    return {**engine.environment, **more}


def debian(folder: Path, packages: str = "python3,python3-venv,bubblewrap", given: str = "CONTAINER_BASE") -> Path:
    """A Debian 12 as a tar archive."""
    if there := os.environ.get(given):
        return Path(there)
    if shutil.which("mmdebstrap") is None:
        pytest.skip(f"mmdebstrap is not installed, and {given} names no base")
    base = folder / "base.tar"
    include = f"--include={packages}"
    subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", include, "bookworm", base], check=True)
    return base


def run(engine: Podman, image: str, data: Path, pacs: int, *, port: int) -> str:
    """Start a box in a container and wait for it; the id of the container."""
    rules = data.parent / "etc"
    rules.mkdir(exist_ok=True)
    to = {"IP": "$me", "PORT": "$port", "AETitleSender": "BOX", "AETitleTo": "STORESCP"}
    (rules / "routing.json").write_text(json.dumps({"routing": [{"name": "all", "send": [{"success": to}]}]}))
    settings = {
        "HOST": "127.0.0.1", "PORT": port, "WEB_HOST": "127.0.0.1", "WEB_PORT": 0, "ME": "127.0.0.1", "ME_PORT": pacs,
        "SETTLE": 0, "MIN_FREE": "100M", "ROUTING": "/etc/magickbox/routing.json", "PROCESSORS": "/processors",
    }  # fmt: skip
    given = [word for key, value in settings.items() for word in ("--env", f"MAGICKBOX_{key}={value}")]
    mounts = [f"{data}:/data", f"{rules}:/etc/magickbox:ro", f"{ROOT / 'processors'}:/processors:ro"]
    binds = [word for mount in mounts for word in ("--volume", mount)]
    name = engine.ask("run", "--detach", "--init", "--network", "host", *WALLS, *given, *binds, image)
    wait_for(lambda: engine.ask("exec", name, "magickbox", "status", check=False), "the box to answer", 60)
    return name


def test_a_study_goes_through_a_container_without_privileges(engine: Podman, image: str, tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    data.mkdir()
    os.chown(data, UNPRIVILEGED, UNPRIVILEGED)
    with storescp(tmp_path / "arrived") as pacs:
        name = run(engine, image, data, pacs.port, port=port)
        files = [sample("CT_small.dcm"), sample("MR_small.dcm")]
        command = [dcmtk("storescu"), "-aec", "identity", "127.0.0.1", str(port), *map(str, files)]
        subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"}, timeout=60)
        wait_for(lambda: pacs.arrived() == {item_of(file).sop_instance for file in files}, "the results", 60)
    assert engine.ask("healthcheck", "run", name) == ""
    assert re.fullmatch(r"uid=10001\S* gid=10001\S* groups=10001\S*", engine.ask("exec", name, "id"))
    assert "Read-only file system" in written(engine, name, "/opt/x")
    assert {path.lstat().st_uid for path in data.rglob("*")} == {UNPRIVILEGED}
    engine.ask("stop", "--time", "60", name)
    assert engine.ask("inspect", name, "--format", "{{.State.ExitCode}}") == "0"
    assert engine.ask("logs", name).endswith("stopped")
    assert main(["verify", "--data", str(data)]) == 0


def written(engine: Podman, name: str, path: str) -> str:
    """What the container says when it is to write a file."""
    return engine.ask("exec", name, "sh", "-c", f"touch {path} 2>&1 || true")


def test_an_image_has_no_package_installer_and_says_what_it_is(engine: Podman, image: str) -> None:
    facts = json.loads(engine.ask("image", "inspect", image))[0]["Config"]
    assert (facts["User"], facts["Entrypoint"], facts["Cmd"]) == ("10001:10001", ["magickbox"], ["serve"])
    assert set(facts["ExposedPorts"]) == {"11112/tcp", "8080/tcp"}
    assert "magickbox 0." in engine.ask("run", "--rm", *WALLS, image, "--version")
    assert "No module named pip" in engine.ask(
        "run", "--rm", *WALLS, "--entrypoint", "sh", image, "-c", "/opt/magickbox/bin/python -m pip 2>&1 || true"
    )


def test_the_composition_has_rules_that_can_be_used(tmp_path: Path) -> None:
    rules = ROOT / "vm" / "compose" / "routing.json"
    words = ["check", "--data", str(tmp_path), "--routing", str(rules), "--me", "orthanc", "--me-port", "4242"]
    assert main([*words, "--processors", str(ROOT / "processors")]) == 0


ENTRY = """import json, os
settings = {"HttpPort": 8042, "DicomPort": 4242, "RemoteAccessAllowed": True, "StorageDirectory": "/var/lib/orthanc/db"}
for name, value in os.environ.items():
    if name.startswith("ORTHANC__"):
        key = "".join(word.capitalize() for word in name[9:].split("_"))
        settings[key] = json.loads(value) if value[0] in "{[" or value in ("true", "false") else value
json.dump(settings, open("/tmp/orthanc.json", "w"))
os.execv("/usr/sbin/Orthanc", ["Orthanc", "/tmp/orthanc.json"])
"""


@dataclass(frozen=True)
class Composition:
    """compose.yaml, up: its project, its podman, its ports."""

    engine: Podman
    program: str
    ports: dict[str, int]

    def ask(self, *words: str) -> str:
        """Run one command of podman-compose."""
        with (self.engine.place / "compose.log").open("w+") as said:
            done = subprocess.run(
                [self.program, "--podman-path", str(self.engine.place / "podman"), "--project-name", "trial",
                 "--file", str(ROOT / "compose.yaml"), *words],
                env=self.engine.environment | {name: f"127.0.0.1:{port}" for name, port in self.ports.items()},
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=300,
            )  # fmt: skip
            said.seek(0)
            assert done.returncode == 0, said.read()
        return self.engine.ask("ps", "--all", "--format", "{{.Names}} {{.Status}}")

    def orthanc(self, path: str, body: bytes | None = None) -> Any:
        """What Orthanc says."""
        with urlopen(f"http://127.0.0.1:{self.ports['ORTHANC_WEB']}{path}", body, timeout=60) as answer:
            return json.load(answer)

    def is_up(self) -> bool:
        with suppress(OSError), urlopen(f"http://127.0.0.1:{self.ports['BOX_WEB']}/readyz", timeout=10) as answer:
            return answer.status == 200 and "ApiVersion" in self.orthanc("/system")
        return False


@pytest.fixture
def composition(engine: Podman, image: str, tmp_path: Path) -> Iterator[Composition]:
    """The box and a stand-in for Orthanc's image: Debian's Orthanc, told its settings in the same way."""
    for package, file in {
        "aardvark-dns": "/usr/lib/podman/aardvark-dns",
        "netavark": "/usr/lib/podman/netavark",
    }.items():
        if not Path(file).exists():
            pytest.skip(f"{package} is not installed")
    engine.ask("import", "--quiet", str(debian(tmp_path, "python3,orthanc", "ORTHANC_BASE")), "orthanc-base")
    (tmp_path / "entry.py").write_text(ENTRY)
    text = 'FROM localhost/orthanc-base\nCOPY entry.py /entry.py\nENTRYPOINT ["python3", "/entry.py"]\n'
    (tmp_path / "Containerfile").write_text(text)
    engine.ask("build", "--quiet", "--tag", "docker.io/orthancteam/orthanc", str(tmp_path))
    wrapper = engine.place / "podman"
    wrapper.write_text(f'#!/bin/sh\nexec {engine.words} "$@"\n')
    wrapper.chmod(0o755)
    ports = {name: free_port() for name in ("BOX_DICOM", "BOX_WEB", "ORTHANC_WEB", "ORTHANC_DICOM")}
    made = Composition(engine, program("podman-compose"), ports)
    yield made
    made.ask("down", "--volumes")


def thin_slices(folder: Path) -> list[Path]:
    """A series of CT images 2 mm apart, of which mip makes others."""
    image, made = dcmread(sample("CT_small.dcm")), []
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    for number in range(4):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.ImagePositionPatient, image.InstanceNumber = [0, 0, 2 * number], number + 1
        made.append(folder / f"{number}.dcm")
        image.save_as(made[-1])
    return made


def test_what_comes_to_the_composition_arrives_in_its_pacs(composition: Composition, tmp_path: Path) -> None:
    """As docs/install.md says: by DICOM to the box; and from Orthanc to the box, whose new series come back."""
    composition.ask("up", "--detach", "--no-build")
    wait_for(composition.is_up, "both to be ready", 120)
    file = sample("MR_small.dcm")
    command = [dcmtk("storescu"), "-aec", "identity", "127.0.0.1", str(composition.ports["BOX_DICOM"]), str(file)]
    subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"}, timeout=60)
    wait_for(lambda: len(composition.orthanc("/instances")) == 1, "the result", 60)
    uploaded = [composition.orthanc("/instances", path.read_bytes()) for path in thin_slices(tmp_path)]
    study = uploaded[0]["ParentStudy"]
    composition.orthanc("/modalities/box/store", study.encode())
    wait_for(lambda: len(composition.orthanc(f"/studies/{study}")["Series"]) > 1, "the new series", 120)
    composition.ask("stop")
    assert "Exited (0)" in composition.engine.ask("ps", "--all", "--filter", "name=box", "--format", "{{.Status}}")
