"""The units of the appliance under a real systemd, in a container of systemd-nspawn: the fast loop beside QEMU.

`make vm` builds the files and runs this; NSPAWN_ROOT names a folder of `vm/build --formats root` that is there already.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from peers import StoreScp, dcmtk, item_of, sample, wait_for

ROOT = Path(__file__).parent.parent
FILES = Path(os.environ.get("NSPAWN_ROOT", ROOT / "vm-image" / "magickbox.root"))
PACS, SLOW = 11113, 120.0  # a port of the container's own network; seconds on a busy machine
COPY = '#!/bin/sh\ncp "$1"/* "$2"/\n'
WRITE = """#!/bin/sh
for file in /etc/open /usr/bin/true /opt/magickbox/bin/magickbox /var/lib/open /boot/open; do
    if (echo mine >>"$file"); then echo "written $file"; fi
done 2>&1
cp "$1"/* "$2"/
"""
pytestmark = pytest.mark.soak


@dataclass
class Container:
    """A running appliance: its first process, and what its console has said."""

    process: "subprocess.Popen[bytes]"
    console: Path

    @property
    def first(self) -> str:
        """The id of its first process."""
        assert self.process.poll() is None, self.said()[-3000:]
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()

    def said(self) -> str:
        return self.console.read_text("utf-8", "replace") if self.console.exists() else ""

    def inside(self, *command: str, check: bool = True) -> str:
        """What a command inside prints; of systemctl and the like, which exit as they please, with check=False."""
        words = ["nsenter", "--target", self.first, "--all", "--", *command]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SLOW)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def shows(self, name: str, unit: str = "magickbox.service") -> str:
        return self.inside("systemctl", "show", "--value", "--property", name, unit)

    def main(self) -> int:
        return int(self.shows("MainPID"))

    def outer(self, pid: int) -> int:
        """The id that a process of the container has on this machine."""
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                ids = re.findall(r"^NSpid:\t(\d+)\t(\d+)$", status.read_text(), re.MULTILINE)
                if ids and int(ids[0][1]) == pid and self.is_ours(int(ids[0][0])):
                    return int(ids[0][0])
        raise AssertionError(f"no process {pid}")

    def is_ours(self, pid: int) -> bool:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{self.first}/ns/pid")

    def is_up(self) -> bool:
        with suppress(AssertionError):
            return self.first != "" and self.shows("ActiveState") == "active"
        return self.process.poll() is not None

    def network(self, *command: str) -> list[str]:
        """A program of this machine in the network of the container."""
        return ["nsenter", "--target", self.first, "--net", "--", *command]

    def send(self, title: str, *files: Path) -> None:
        words = [dcmtk("storescu"), "-aec", title, "127.0.0.1", "11112", *map(str, files)]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        subprocess.run(self.network(*words), check=True, env=environment, timeout=SLOW)


def user_data(settings: Mapping[str, str], processors: Mapping[str, str]) -> str:
    """What cloud-init is given: JSON is YAML."""
    to = {"IP": "$me", "PORT": "$port", "AETitleSender": "BOX", "AETitleTo": "STORESCP"}
    rules = {"routing": [{"name": "all", "send": [{"success": to}]}]}
    given = {
        "AE_TITLE": "PROCBOX", "ME": "127.0.0.1", "ME_PORT": str(PACS), "SETTLE": "1", "MIN_FREE": "100M",
        "ROUTING": "/etc/magickbox/routing.json", "PROCESSORS": "/srv/processors", **settings,
    }  # fmt: skip
    files = {
        "/etc/default/magickbox": "".join(f"MAGICKBOX_{name}={value}\n" for name, value in given.items()),
        "/etc/magickbox/routing.json": json.dumps(rules),
        **{f"/srv/processors/{name}": text for name, text in processors.items()},
    }
    listed = [{"path": path, "permissions": "0755", "content": text} for path, text in files.items()]
    listed += [{"path": path, "permissions": "0666", "content": "open\n"} for path in ("/etc/open", "/var/lib/open")]
    return "#cloud-config\n" + json.dumps({"hostname": "procbox", "timezone": "Europe/Oslo", "write_files": listed})


@contextmanager
def booted(folder: Path, processors: Mapping[str, str], *options: str, **settings: str) -> Iterator[Container]:
    """Boot the appliance; whatever is left of it is ended, by its own id, with the block."""
    (folder / "user-data").write_text(user_data(settings, processors))
    (folder / "data").mkdir()
    console = folder / "console.log"
    words = [str(ROOT / "vm" / "nspawn"), "--root", str(FILES), "--data", str(folder / "data")]
    words += ["--user-data", str(folder / "user-data"), "--", *options]
    with console.open("wb") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    container = Container(process, console)
    try:
        wait_for(container.is_up, "the box to be active", SLOW)
        yield container
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(SLOW)
        process.kill()
        process.wait()


@contextmanager
def pacs(container: Container, folder: Path) -> Iterator[StoreScp]:
    """A storescp in the network of the container."""
    folder.mkdir(exist_ok=True)
    words = [dcmtk("storescp"), "+B", "+xa", "-pm", "-aet", "STORESCP", "-od", str(folder), str(PACS)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(container.network(*words), stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        wait_for(lambda: f":{PACS} " in container.inside("ss", "-Hltn"), "storescp to listen", SLOW)
        yield StoreScp(PACS, folder, process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def possible() -> None:
    """Skip where there is nothing to boot, or nothing to boot it with."""
    for program in ("systemd-nspawn", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0:
        pytest.skip("systemd-nspawn is root's")
    if not FILES.is_dir():
        pytest.skip(f"{FILES} is not there; `make vm` builds it")


@pytest.mark.parametrize("sandbox", ["required", "off"])
def test_a_processor_writes_nowhere_else(tmp_path: Path, sandbox: str) -> None:
    """Not even into files that anybody may write to: bubblewrap holds it, and without it the service's own walls.

    It stands before the fixture that is shared: there is one appliance at a time.
    """
    with booted(tmp_path, {"WRITE": WRITE}, SANDBOX=sandbox) as container:
        with pacs(container, tmp_path / "arrived") as peer:
            file = sample("CT_small.dcm")
            container.send("WRITE", file)
            wait_for(lambda: peer.arrived() == {item_of(file).sop_instance}, "the result", SLOW)
        (log,) = (tmp_path / "data" / "magickbox" / "jobs").glob("*/processing.log")
        said = log.read_text()
        assert len(re.findall("cannot create", said)) == 5, said
        assert "cannot create /etc/open: Read-only file system" in said
        if sandbox == "off":
            assert "cannot create /var/lib/open: Read-only file system" in said
        assert container.inside("cat", "/etc/open", "/var/lib/open").split() == ["open", "open"]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """One appliance for the tests that leave it as it was: a watchdog that waits less, and a night that is due."""
    folder = tmp_path_factory.mktemp("box")
    stamp = folder / "stamp"
    stamp.touch()
    os.utime(stamp, (time.time() - 200_000,) * 2)
    quick = {
        "magickbox.service": "[Service]\nWatchdogSec=6s\nRestartSec=1s\n",
        "magickbox-nightly.timer": "[Timer]\nRandomizedDelaySec=0\n",
    }
    binds = [f"--bind={stamp}:/var/lib/systemd/timers/stamp-magickbox-nightly.timer"]
    for unit, text in quick.items():
        (folder / unit).write_text(text)
        binds.append(f"--bind-ro={folder / unit}:/etc/systemd/system/{unit}.d/quick.conf")
    with booted(folder, {"COPY": COPY, "SLOW": COPY.replace("cp ", "sleep 3\ncp ")}, *binds) as container:
        yield container


def test_the_first_boot_gives_name_time_zone_and_settings(box: Container) -> None:
    assert box.inside("hostname") == "procbox"
    assert box.inside("date", "+%Z") in {"CET", "CEST"}
    wait_for(lambda: "first log-in: " in box.said(), "the link", SLOW)
    assert "(AE title PROCBOX, any called AE)" in box.said()
    assert "sandbox     bubblewrap" in box.said()
    (path,) = re.findall(r"first log-in: http://procbox:8080(/setup/\S+)", box.said())
    assert box.inside("systemctl", "--failed", "--quiet", "--no-legend", "--plain") == ""
    get = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080{path}').status)"
    assert box.inside("/opt/magickbox/bin/python", "-c", get) == "200"


def test_the_service_is_ready_when_it_says_so_and_is_hardened(box: Container) -> None:
    assert box.shows("Type") == "notify"
    assert box.shows("StatusText").startswith("0.0.0.0:11112, ")
    said = box.inside("systemd-analyze", "--no-pager", "security", "magickbox.service", check=False)
    (exposure,) = re.findall(r"Overall exposure level for magickbox.service: ([\d.]+)", said)
    assert float(exposure) <= 3.0


def test_a_study_comes_through(box: Container, tmp_path: Path) -> None:
    files = [sample("CT_small.dcm"), sample("MR_small.dcm")]
    with pacs(box, tmp_path / "arrived") as peer:
        box.send("COPY", *files)
        wait_for(lambda: peer.arrived() == {item_of(file).sop_instance for file in files}, "the results", SLOW)


def test_a_night_that_was_missed_is_made_up_for(box: Container) -> None:
    """The timer itself starts it, after a boot past its time."""
    wait_for(lambda: box.shows("ActiveState", "magickbox-nightly.service") == "inactive", "the end of it", SLOW)
    assert box.shows("Result", "magickbox-nightly.service") == "success"
    said = box.inside("journalctl", "--unit", "magickbox-nightly", "--output", "cat", "--no-pager")
    assert "Finished magickbox-nightly.service" in said
    (made,) = box.inside("ls", "/data/backups").splitlines()
    assert made.startswith("magickbox-")
    assert box.inside("systemctl", "is-active", "magickbox-nightly.timer") == "active"


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "dies"])
def test_a_box_that_hangs_or_dies_is_started_again_and_goes_on(
    box: Container, tmp_path: Path, how: signal.Signals
) -> None:
    """In the middle of a run; by the watchdog, or by Restart."""
    before, restarts = box.main(), int(box.shows("NRestarts"))
    file = sample("MR_small.dcm")
    with pacs(box, tmp_path / "arrived") as peer:
        box.send("SLOW", file)
        wait_for(lambda: "sleep 3" in box.inside("ps", "-eo", "args"), "the run", SLOW)
        os.kill(box.outer(before), how)
        wait_for(lambda: int(box.shows("NRestarts")) == restarts + 1, "another start", SLOW)
        wait_for(lambda: box.shows("ActiveState") == "active" and box.main() not in {0, before}, "it to be up", SLOW)
        wait_for(lambda: peer.arrived() == {item_of(file).sop_instance}, "the result", SLOW)
    said = box.inside("journalctl", "--unit", "magickbox", "--output", "cat", "--no-pager")
    assert ("Watchdog timeout" in said) if how is signal.SIGSTOP else ("status=9/KILL" in said)
