"""systemd is told when the box is ready, alive and stopping; the units are well-formed and hardened."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from peers import is_listening

from magickbox.cli.main import parser
from magickbox.config import load
from magickbox.datafolder import DataFolder
from magickbox.pulse import STAGES, Pulse
from magickbox.service import Box, Places, build
from magickbox.supervisor import Supervisor

UNITS = Path(__file__).parent.parent / "vm" / "systemd"


class Manager:
    """The end of the socket at which systemd listens."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(30)

    def hear(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@contextmanager
def served(tmp_path: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A box as systemd starts it, on free ports; ended, by its own id, when the block is left."""
    command = [sys.executable, "-m", "magickbox.cli.main", "serve", "--data", str(tmp_path / "data")]
    options = ["--host", "127.0.0.1", "--port", "0", "--web-port", "0", "--receivers", "0"]
    process = subprocess.Popen(
        [*command, *options], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_box_says_when_it_is_ready_alive_and_stopping(tmp_path: Path, kind: str) -> None:
    """READY only when the port is open; then WATCHDOG again and again; its children are not told where to speak."""
    address = str(tmp_path / "notify") if kind == "path" else f"@magickbox-test-{os.getpid()}"
    manager = Manager(address.replace("@", "\0"))
    with manager.socket, served(tmp_path, NOTIFY_SOCKET=address, WATCHDOG_USEC="2000000") as process:
        ready, status = manager.hear()
        assert ready == "READY=1"
        assert is_listening(int(status.partition(",")[0].rpartition(":")[2]))
        for _ in range(3):
            word, status = manager.hear()
            assert word == "WATCHDOG=1"
            assert status.endswith(" 0 associations, 0 jobs wait")
        assert process.stdout is not None
        while not process.stdout.readline().startswith("  window"):
            pass
        for child in Path(f"/proc/{process.pid}/task").glob("*/children"):
            for pid in child.read_text().split():
                assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
        process.send_signal(signal.SIGTERM)
        while (word := manager.hear()[0]) == "WATCHDOG=1":
            pass
        assert word == "STOPPING=1"
        assert process.wait(30) == 0


def test_without_a_service_manager_nothing_is_told_and_a_dead_one_is_no_trouble(tmp_path: Path) -> None:
    looked: list[None] = []
    for address in ("", str(tmp_path / "nobody")):
        supervisor = Supervisor.of({"NOTIFY_SOCKET": address})
        supervisor.ready("x")
        supervisor.alive(lambda: looked.append(None), lambda: "x")
        supervisor.stopping()
    assert looked == [None]  # nobody asks whether a box is alive that has nobody to tell


def test_the_variables_are_taken_and_a_watchdog_of_another_process_is_not_ours() -> None:
    environment = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1", "KEPT": "y"}
    assert Supervisor.of(environment)._every == Supervisor(None)._every
    assert environment == {"KEPT": "y"}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    data = DataFolder(tmp_path / "data")
    settings = load(None, {}, {"host": "127.0.0.1", "port": 0, "web": "false"}).settings
    made = build(settings, Places(data, data.root / "routing.json", data.root / "processors"), {})
    (data.root / "processors").mkdir()
    made.start()
    yield made
    made.stop()


def test_a_box_without_one_of_its_stages_is_not_alive(box: Box, tmp_path: Path) -> None:
    """It says what is dead in place of WATCHDOG, so that the service manager ends it and starts it again."""
    pulse = Pulse(box.ledger)
    assert pulse.trouble() is None
    manager = Manager(str(tmp_path / "notify"))
    box.route.stop()
    with manager.socket:
        Supervisor(str(tmp_path / "notify"), 120.0).alive(pulse.trouble, lambda: "well")
        assert manager.hear() == ["STATUS=the thread route has ended"]


def test_every_stage_is_a_thread_that_is_looked_at(box: Box) -> None:
    assert {thread.name for thread in threading.enumerate()} >= STAGES


def test_a_ledger_that_does_not_answer_is_waited_for(box: Box) -> None:
    """Nothing is said meanwhile, so that the watchdog runs out."""
    answered = threading.Event()

    def ask() -> None:
        Pulse(box.ledger).trouble()
        answered.set()

    asking = threading.Thread(target=ask)
    with box.ledger.transaction():
        asking.start()
        assert not answered.wait(0.3)
    assert answered.wait(10)
    asking.join()


def test_a_ledger_that_cannot_be_read_is_told(box: Box, tmp_path: Path) -> None:
    with box.ledger.transaction() as tx:
        tx.execute("ALTER TABLE jobs RENAME TO gone")
    try:
        manager = Manager(str(tmp_path / "notify"))
        with manager.socket:
            Supervisor(str(tmp_path / "notify")).alive(Pulse(box.ledger).trouble, lambda: "well")
            assert manager.hear() == ["STATUS=the ledger cannot be read: no such table: jobs"]
    finally:
        with box.ledger.transaction() as tx:
            tx.execute("ALTER TABLE gone RENAME TO jobs")


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("systemd-analyze")
    if program is None and os.environ.get("CI", "").casefold() == "true":
        pytest.fail("systemd-analyze is not installed, and CI has to have it")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, "--no-pager", *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("unit", "worst"), [("magickbox.service", 30), ("magickbox-nightly.service", 10)])
def test_a_unit_is_hardened(unit: str, worst: int) -> None:
    """systemd's own score, in tenths; docs/install.md says of each point that stays why it does."""
    done = analyze("security", "--offline=true", f"--threshold={worst}", str(UNITS / unit))
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_every_point_that_stays_is_explained() -> None:
    done = analyze("security", "--offline=true", str(UNITS / "magickbox.service"))
    stays = {line.split()[1].split("=")[0] for line in done.stdout.splitlines() if line.startswith("✗")}
    text = (UNITS.parent.parent / "docs" / "install.md").read_text(encoding="utf-8")
    assert {name for name in stays if f"`{name}" not in text} == set()


def test_the_units_are_well_formed(tmp_path: Path) -> None:
    """systemd reads each without a complaint, once the program that they name is there."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/magickbox/bin/magickbox", sys.executable)
        (tmp_path / unit.name).write_text(text)
    for name in ("magickbox.service", "magickbox-nightly.service", "magickbox-nightly.timer"):
        done = analyze("verify", "--man=no", str(tmp_path / name))
        said = [line for line in done.stderr.splitlines() if line.startswith(str(tmp_path)) or "magickbox" in line]
        assert said == []


def test_the_units_give_commands_that_there_are() -> None:
    for unit in UNITS.glob("*.service"):
        for line in unit.read_text().splitlines():
            if line.startswith("ExecStart="):
                parser().parse_args(line.split()[1:])
