"""An older package, an update of it in place, and the way back, by the commands of docs/install.md under systemd."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from nspawnbox import COPY, ROOT, SLOW, Container, booted, pacs, skip_unless_possible
from peers import item_of, sample, wait_for

from magickbox.ledger.schema import newest_schema

OLDER = "3ec7560"  # its newest migration makes nothing but indexes, and is left out here
OLD_SCHEMA = 9
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "magickbox", "vm")
APPLIANCE = ("magickbox.service.d/appliance.conf", "magickbox-nightly.service.d/appliance.conf")
DATA = ("--data", "/var/lib/magickbox")
pytestmark = pytest.mark.soak


def commands() -> tuple[str, str]:
    """What docs/install.md says: the update, and what puts the ledger back."""
    text = (ROOT / "docs" / "install.md").read_text().partition("\n## A new version, and the way back\n")[2]
    update, back = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return update, back


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The folders of two versions, and what pip needs to build them without a way to the package index."""
    skip_unless_possible()
    archive = tmp_path / "old.tar"
    words = ["git", "-C", str(ROOT), "archive", "--output", str(archive), OLDER]
    if subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip(f"the history of this repository has no {OLDER}: a shallow clone, or no clone")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "old", filter="data")
    (tmp_path / "old" / "magickbox" / "ledger" / "migrations" / f"{OLD_SCHEMA + 1:04}.sql").unlink()
    for path, pattern in (("pyproject.toml", '^version = "'), ("magickbox/__init__.py", '^__version__ = "')):
        file = tmp_path / "old" / path
        changed, count = re.subn(f'({pattern})[^"]*', r"\g<1>0.0.9", file.read_text(), flags=re.MULTILINE)
        assert count == 1
        file.write_text(changed)
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / "new").mkdir(exist_ok=True)
        copy(ROOT / name, tmp_path / "new" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", tmp_path / "wheels", "setuptools>=68", "wheel"], check=True)
    return tmp_path


@pytest.fixture
def box(sources: Path) -> Iterator[Container]:
    """The service as docs/install.md installs it, without what the appliance changes; nothing in its data folder."""
    masks = [f"--bind-ro=/dev/null:/etc/systemd/system/{name}" for name in APPLIANCE]
    binds = [f"--bind={sources / name}:/{name}" for name in ("old", "new", "wheels")]
    with booted(sources, {"COPY": COPY}, *masks, *binds, installed=True) as container:
        container.inside("systemctl", "stop", "magickbox")
        container.inside("sh", "-c", "rm -rf /var/lib/magickbox/*")
        yield container


def do(box: Container, folder: str, script: str, *, check: bool = True) -> None:
    offline = ("PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels", "PIP_NO_CACHE_DIR=1")
    box.inside("env", "--chdir", folder, *offline, "sh", "-ec", script, check=check)


def says(box: Container, *words: str) -> str:
    return box.inside("sudo", "-u", "magickbox", "magickbox", *words, *DATA)


def states(box: Container) -> dict[str, str]:
    """The state of each job, by its id."""
    return {job["id"]: job["state"] for job in json.loads(says(box, "jobs", "list", "--json"))}


def come_to(box: Container, *expected: str) -> None:
    wait_for(lambda: sorted(states(box).values()) == sorted(expected), f"jobs {expected}", SLOW)


def test_an_update_in_place_and_back(box: Container, tmp_path: Path) -> None:
    update, back = commands()
    done, under_way, since = (sample(name) for name in ("CT_small.dcm", "MR_small.dcm", "test-SR.dcm"))
    do(box, "/old", update.partition("\n")[2])  # all but the backup: there is nothing yet
    assert "magickbox 0.0.9" in box.inside("magickbox", "--version")
    with pacs(box, tmp_path / "arrived"):
        box.send("COPY", done)
        come_to(box, "DONE")
    box.send("COPY", under_way)
    come_to(box, "DONE", "DELIVERING")
    before = states(box)

    do(box, "/new", update)
    assert "magickbox 0.0.9" not in box.inside("magickbox", "--version")
    assert schema(box) == newest_schema()
    assert states(box) == before
    with pacs(box, tmp_path / "arrived") as peer:
        box.send("COPY", since)
        come_to(box, "DONE", "DONE", "DONE")
        assert peer.arrived() == {item_of(file).sop_instance for file in (done, under_way, since)}

    do(box, "/old", update, check=False)
    said = box.inside("journalctl", "--unit", "magickbox", "--output", "cat", "--no-pager")
    assert f"schema version {newest_schema()}, this program knows {OLD_SCHEMA}; a newer magickbox wrote it" in said
    assert "'magickbox restore --before-update'" in said
    do(box, "/old", back)
    assert schema(box) == OLD_SCHEMA
    come_to(box, "DONE", "HELD", "HELD")
    held = [job for job, state in states(box).items() if state == "HELD"]
    assert [before[job] for job in held if job in before] == ["DELIVERING"]
    assert says(box, "verify") == "folders and ledger agree"
    with pacs(box, tmp_path / "again") as peer:
        for job in held:
            says(box, "jobs", "release", job)
        come_to(box, "DONE", "DONE", "DONE")
        assert peer.arrived() == {item_of(file).sop_instance for file in (under_way, since)}


def schema(box: Container) -> int:
    """The schema version of the ledger."""
    read = f"print(*__import__('sqlite3').connect('{DATA[1]}/state/ledger.sqlite').execute('PRAGMA user_version'))"
    return int(re.sub(r"\D", "", box.inside("/opt/magickbox/bin/python", "-c", read)))
