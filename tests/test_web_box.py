"""A box and its window as two processes: the one never costs the other anything."""

import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest
from boxprocess import until
from webbox import Serving, heard_of, serving

from magickbox.control import ask
from magickbox.datafolder import DataFolder
from magickbox.web.principal import Role
from magickbox.web.whereabouts import own_address


def window_of(box: Serving) -> dict[str, object]:
    """What the box says of its window."""
    answer = ask(DataFolder(box.root).control, "status")
    assert answer is not None
    return dict(answer["status"]["window"])


def children_of(process: int) -> list[int]:
    """The processes that a process has started and that serve a window."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if parent == process and b"magickbox.web.main" in words:
                found.append(int(entry.name))
    return found


def test_the_first_admin_sets_a_password_by_the_link_that_serve_prints(tmp_path: Path) -> None:
    with serving(tmp_path / "data", people=False) as box:
        until(lambda: any("first log-in" in line for line in box.said), what="the link")
        link = heard_of(box, r"first log-in: (\S+)")
        client = box.client()
        assert client.get("/").headers["Location"] == "/login"
        assert "The first admin" in client.get(link).text
        form = {"name": "chief", "password": "a good long one", "again": "a good long one"}
        assert client.post(link, data=form).status_code == 303
        assert client.get("/api/v1/me").json() == {
            "name": "chief", "role": "admin", "sees_names": True, "via": "session",
        }  # fmt: skip
        assert box.client().get(link).status_code == 404
        assert window_of(box) == {"address": f"{box.address}/", "by_number": None, "problem": None}
    assert children_of(box.process.pid) == []


def test_where_the_machine_s_name_is_not_known_the_link_works_by_number(tmp_path: Path) -> None:
    if own_address() is None:
        pytest.skip("this machine has no network")
    with serving(tmp_path / "data", "--web-host", "0.0.0.0", people=False, window=False) as box:
        until(lambda: any("name is not known: " in line for line in box.said), what="the other link")
        named, by_number = (
            heard_of(box, r"first log-in: (\S+)"),
            heard_of(box, r"first log-in, where that name is not known: (\S+)"),
        )
        assert named.startswith(f"http://{socket.gethostname()}:")
        host = by_number.removeprefix("http://").partition(":")[0]
        assert not ipaddress.ip_address(host).is_loopback
        assert by_number.partition("/setup/")[2] == named.partition("/setup/")[2]
        told = window_of(box)
        assert f"{told['by_number']}setup/" in by_number
        answer = httpx.get(by_number, timeout=20)
        assert "The first admin" in answer.text
        lines = text_of(box.root)
        assert f"{told['address']} or {told['by_number']}" in lines


def text_of(root: Path) -> str:
    """What ``magickbox status`` prints."""
    command = [sys.executable, "-m", "magickbox.cli.main", "status", "--data", str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_window_that_dies_comes_again_and_the_box_does_not_notice(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as box:
        client = box.client(Role.VIEWER)
        (first,) = children_of(box.process.pid)
        assert os.getpriority(os.PRIO_PROCESS, first) == 5
        os.kill(first, signal.SIGKILL)
        until(lambda: children_of(box.process.pid) not in ([], [first]), what="another process")
        assert client.get("/api/v1/me").json()["name"] == "vera"  # who was logged in still is
        until(lambda: window_of(box)["problem"] is None, what="it serves again")
    assert re.search(r"window reason=.*process ended \(-9", (tmp_path / "data/logs/process.log").read_text())


def test_the_window_dies_with_its_box(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as box:
        (window,) = children_of(box.process.pid)
        box.process.kill()
        until(lambda: not Path(f"/proc/{window}").exists() or _is_over(window), what="the end of the window")
        box.process.wait()


def _is_over(process: int) -> bool:
    return ") Z " in Path(f"/proc/{process}/stat").read_text()


def test_a_port_that_is_taken_and_a_box_that_goes_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with serving(tmp_path / "data", "--web-port", str(taken), window=False) as box:
            until(lambda: any("has no window" in line for line in box.said), what="the note")
            problem = str(window_of(box)["problem"])
            assert f"cannot listen on 127.0.0.1:{taken} (settings web_host and web_port)" in problem
            assert box.port > 0
    assert "has no window" in (tmp_path / "data/logs/process.log").read_text()


def test_a_window_whose_database_is_damaged_and_a_box_that_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "data" / "state"
    state.mkdir(parents=True)
    (state / "window.db").write_bytes(b"this is no database" * 100)
    with serving(tmp_path / "data", people=False, window=False) as box:
        until(lambda: "window.db cannot be used" in str(window_of(box)["problem"]), what="the reason")
    assert (state / "window.db").read_bytes().startswith(b"this is no database")


def test_a_box_without_a_window(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--web", "false", window=False) as box:
        answer = ask(DataFolder(box.root).control, "status")
        assert answer is not None
        assert answer["status"]["window"] is None
        assert children_of(box.process.pid) == []
