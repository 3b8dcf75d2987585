"""The units of the appliance under a real systemd, in a container of systemd-nspawn: the fast loop beside QEMU.

`make vm` builds the files and runs this; NSPAWN_ROOT names a folder of `vm/build --formats root` that is there already.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nspawnbox import COPY, ROOT, SLOW, Container, booted, documented, pacs, skip_unless_possible
from peers import item_of, sample, wait_for

WRITE = """#!/bin/sh
for file in /etc/open /usr/bin/true /opt/magickbox/bin/magickbox /var/lib/open /boot/open; do
    if (echo mine >>"$file"); then echo "written $file"; fi
done 2>&1
cp "$1"/* "$2"/
"""
pytestmark = pytest.mark.soak


@pytest.fixture(autouse=True)
def possible() -> None:
    skip_unless_possible()


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


def test_port_104_takes_nothing_from_the_sandbox(tmp_path: Path) -> None:
    (setting,) = re.findall(r"^net\.ipv4.*$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    (tmp_path / "sysctl").write_text(f"{setting}\n")
    bind = f"--bind-ro={tmp_path / 'sysctl'}:/etc/sysctl.d/magickbox.conf"
    file = sample("CT_small.dcm")
    with (
        booted(tmp_path, {"COPY": COPY}, bind, PORT="104", SANDBOX="required") as container,
        pacs(container, tmp_path / "arrived") as peer,
    ):
        container.send("COPY", file, port=104)
        wait_for(lambda: peer.arrived() == {item_of(file).sop_instance}, "the result", SLOW)


def test_a_processor_that_asks_for_a_card_sees_it(tmp_path: Path) -> None:
    """With the documented drop-in; the card is a stand-in that gives zeros."""
    (tmp_path / "gpu").write_text(documented("processors that use a GPU"))
    binds = [
        "--bind=/dev/zero:/dev/nvidia0",
        f"--bind-ro={tmp_path / 'gpu'}:/etc/systemd/system/magickbox.service.d/gpu.conf",
    ]
    look = COPY + "head -c 3 /dev/nvidia0 | od -An -c\n"
    asks = '{ "command": ["./look"], "resources": { "gpus": 1 } }'
    file, processors = sample("CT_small.dcm"), {"GPU/processor.json": asks, "GPU/look": look}
    with (
        booted(tmp_path, processors, *binds, SANDBOX="required") as container,
        pacs(container, tmp_path / "arrived") as peer,
    ):
        container.send("GPU", file)
        wait_for(lambda: peer.arrived() == {item_of(file).sop_instance}, "the result", SLOW)
    (log,) = (tmp_path / "data" / "magickbox" / "jobs").glob("*/processing.log")
    assert log.read_text().split() == ["\\0"] * 3


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
