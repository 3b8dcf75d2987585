"""The appliance in a container of systemd-nspawn: real units under a real systemd, without a machine around it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from peers import StoreScp, dcmtk, wait_for

ROOT = Path(__file__).parent.parent
FILES = Path(os.environ.get("NSPAWN_ROOT", ROOT / "vm-image" / "magickbox.root"))
PACS, SLOW = 11113, 120.0  # a port of the container's own network; seconds on a busy machine
COPY = '#!/bin/sh\ncp "$1"/* "$2"/\n'


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

    def send(self, title: str, *files: Path, port: int = 11112) -> None:
        words = [dcmtk("storescu"), "-aec", title, "127.0.0.1", str(port), *map(str, files)]
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
def booted(
    folder: Path, processors: Mapping[str, str], *options: str, installed: bool = False, **settings: str
) -> Iterator[Container]:
    """Boot the appliance; whatever is left of it is ended, by its own id, with the block.

    Its program and units are those beside this file, or those that are installed in it.
    """
    (folder / "user-data").write_text(user_data(settings, processors))
    (folder / "data").mkdir()
    console = folder / "console.log"
    words = [str(ROOT / "vm" / "nspawn"), "--root", str(FILES), "--data", str(folder / "data")]
    words += ["--user-data", str(folder / "user-data"), *(["--installed", "yes"] if installed else [])]
    with console.open("wb") as out:
        process = subprocess.Popen(
            [*words, "--", *options], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
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


def skip_unless_possible() -> None:
    """Skip where there is nothing to boot, or nothing to boot it with."""
    for program in ("systemd-nspawn", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0:
        pytest.skip("systemd-nspawn is root's")
    if not FILES.is_dir():
        pytest.skip(f"{FILES} is not there; `make vm` builds it")


def documented(need: str) -> str:
    """The drop-in that docs/install.md has for a need."""
    text = (ROOT / "docs" / "install.md").read_text()
    (row,) = re.findall(rf"^\| {need} \| (.*) \|$", text, re.MULTILINE)
    return str(row).replace("<br>", "\n").replace("`", "") + "\n"
