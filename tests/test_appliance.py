"""The disk image of ``vm/build`` under QEMU: boots, takes a study, sends results, and survives a cut of its power.

`make vm` builds the image and runs this; without KVM it takes about ten minutes.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from peers import StoreScp, dcmtk, free_port, item_of, sample, storescp, wait_for
from pydicom.uid import generate_uid

from magickbox.destination import Delivered, DicomDestination, Retry
from magickbox.owncalls import OwnCalls
from magickbox.scu.store import StoreSender
from magickbox.scu.upperlayer import Timeouts

ROOT = Path(__file__).parent.parent
IMAGE = Path(os.environ.get("APPLIANCE_IMAGE", ROOT / "vm-image" / "magickbox.qcow2"))
BOOT, STOP = 900.0, 300.0  # seconds that an emulated machine may take on a busy one
GIB = 1 << 30
USER_DATA = """#cloud-config
hostname: procbox
write_files:
  - path: /etc/default/magickbox
    content: |
      MAGICKBOX_AE_TITLE=PROCBOX
      MAGICKBOX_ME=10.0.2.2
      MAGICKBOX_ME_PORT={port}
      MAGICKBOX_SETTLE=1
      MAGICKBOX_SETTLE_AFTER_ABORT=3
      MAGICKBOX_ROUTING=/etc/magickbox/routing.json
      MAGICKBOX_PROCESSORS=/srv/processors
  - path: /etc/magickbox/routing.json
    content: |
      {rules}
  - path: /srv/processors/COPY
    permissions: "0755"
    content: |
      #!/bin/sh
      cp "$1"/* "$2"/
runcmd:
  - [sh, -c, "resolvectl dns | sed 's/^/RESOLVES /' > /dev/ttyS0"]
  - [sh, -c, "ss -Hlntu | sed 's/^/LISTENS /' > /dev/ttyS0"]
  - [systemctl, start, magickbox-nightly]
  - [sh, -c, "journalctl -u magickbox-nightly -o cat | sed 's/^/NIGHT /' > /dev/ttyS0"]
  - [sh, -c, "ls /data/backups | sed 's/^/NIGHT made /' > /dev/ttyS0"]
  - [sh, -c, "systemd-analyze --no-pager security magickbox.service | tail -n 1 > /dev/ttyS0"]
"""
FIXED = """version: 2
ethernets:
  "en*":
    addresses: [10.0.2.15/24]
    gateway4: 10.0.2.2
    nameservers: { addresses: [10.0.2.33] }
"""
pytestmark = pytest.mark.soak


@dataclass
class Machine:
    """A running machine: its ports on this one, what its serial line has said, and its plug."""

    dicom: int
    web: int
    serial: Path
    monitor: Path
    process: "subprocess.Popen[bytes]"

    def said(self) -> str:
        return self.serial.read_text("utf-8", "replace") if self.serial.exists() else ""

    def tell(self, command: str) -> None:
        """Give a command to QEMU's monitor; it has been obeyed when this returns.

        QEMU reads it letter by letter, and forgets the rest of it if the line is closed with an answer unread.
        """
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(60)
            line.connect(str(self.monitor))
            hear_prompt(line)
            line.sendall(f"{command}\n".encode())
            hear_prompt(line)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.said()[-3000:]
        with suppress(OSError):
            url = f"http://127.0.0.1:{self.web}/readyz"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return bool(answer.status == 200)
        return False


def hear_prompt(line: socket.socket) -> None:
    """Wait until the monitor is ready for a command, or gone."""
    heard = b""
    with suppress(ConnectionError):
        while not heard.endswith(b"(qemu) ") and (more := line.recv(4096)):
            heard += more


@contextmanager
def booted(folder: Path, data_size: str, **more: object) -> Iterator[Machine]:
    """Boot the box on its two disks; whatever is left of the machine is ended, by its own id, with the block."""
    ports = free_port(), free_port()
    serial, monitor = folder / f"serial-{ports[0]}.log", Path(f"/tmp/magickbox-{ports[0]}.sock")
    options = {
        "image": folder / "system.qcow2", "data": folder / "data.qcow2", "data-size": data_size, "dicom-port": ports[0],
        "web-port": ports[1], "user-data": folder / "user-data", "serial": serial, "monitor": monitor,
        "accel": os.environ.get("APPLIANCE_ACCEL", "tcg"),
    }  # fmt: skip
    command = [
        str(ROOT / "vm" / "boot"),
        *(str(part) for key, value in {**options, **more}.items() for part in (f"--{key}", value)),
    ]
    machine = Machine(*ports, serial, monitor, subprocess.Popen(command, stdin=subprocess.DEVNULL))
    try:
        wait_for(machine.is_up, "the box to be ready", BOOT)
        yield machine
    finally:
        machine.process.kill()
        machine.process.wait()
        machine.monitor.unlink(missing_ok=True)


@pytest.fixture
def disks(tmp_path: Path) -> Path:
    """A folder with a system disk of its own on top of the image."""
    for program in ("qemu-system-x86_64", "qemu-img", "mformat", "dumpe2fs", "ssh", "ssh-keygen"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            pytest.skip(f"{program} is not installed")
    if not IMAGE.exists():
        pytest.skip(f"{IMAGE} is not there; `make vm` builds it")
    image = tmp_path / "system.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", IMAGE, "-F", "qcow2", image], check=True)
    return tmp_path


def write_user_data(folder: Path, port: int) -> None:
    to = {"IP": "$me", "PORT": "$port", "AETitleSender": "PROCBOX", "AETitleTo": "STORESCP"}
    rules = {"routing": [{"name": "all", "send": [{"success": to}]}]}
    (folder / "user-data").write_text(USER_DATA.format(port=port, rules=json.dumps(rules)))


def let_in(folder: Path) -> Path:
    """Ask for ssh, as docs/install.md says; the private key that opens it."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    text = (folder / "user-data").read_text().replace("runcmd:\n", "runcmd:\n  - [systemctl, enable, --now, ssh]\n")
    public = json.dumps([key.with_suffix(".pub").read_text().strip()])
    user = f"users:\n  - name: admin\n    shell: /bin/bash\n    ssh_authorized_keys: {public}\n"
    (folder / "user-data").write_text(text + user)
    return key


def ssh(port: int, *options: str) -> "subprocess.CompletedProcess[str]":
    quiet = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"]
    words = [word for option in quiet for word in ("-o", option)]
    command = ["ssh", "-F", "none", *words, *options, "-p", str(port), "admin@127.0.0.1", "id", "-un"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def new_study(folder: Path, count: int) -> list[Path]:
    """One study of so many images of 128 KB."""
    image = pydicom.dcmread(sample("CT_small.dcm"))
    image.StudyInstanceUID = generate_uid()
    image.Rows, image.Columns, image.PixelData = 256, 256, os.urandom(256 * 256 * 2)
    folder.mkdir()
    for number in range(count):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(folder / f"{number}.dcm")
    return sorted(folder.iterdir())


def test_a_study_goes_through_and_a_power_cut_loses_nothing(disks: Path) -> None:
    with storescp(disks / "arrived") as pacs:
        write_user_data(disks, pacs.port)
        (disks / "network").write_text(FIXED)
        network = {"network-config": disks / "network"}
        with booted(disks, "4G", **network) as machine:
            look_at_the_first_boot(machine)
            send_a_study(machine, disks, pacs)
            acknowledged = cut_the_power(machine, disks)
        port = free_port()
        key = let_in(disks)
        with booted(disks, "6G", **network, **{"ssh-port": port}) as machine:
            wait_for(lambda: acknowledged <= pacs.arrived(), "all that was acknowledged", BOOT)
            wait_for(lambda: "Overall exposure" in machine.said(), "the end of the boot", BOOT)
            assert ssh(port, "-i", str(key)).stdout == "admin\n"
            assert "Permission denied (publickey)" in ssh(port, "-o", "PubkeyAuthentication=no").stderr
            machine.tell("system_powerdown")
            machine.process.wait(STOP)
            assert "\nstopped" in machine.said().replace("\r", "")
        assert size_of_file_system(disks) >= 6 * GIB - (64 << 20)


def look_at_the_first_boot(machine: Machine) -> None:
    """The first log-in is on the console and works, nothing else listens, and the walls stand."""
    wait_for(lambda: "Overall exposure" in machine.said(), "the end of the first boot", BOOT)
    said = machine.said().replace("\r", "")
    assert "(AE title PROCBOX, any called AE)" in said
    assert "sandbox     bubblewrap; control groups (version 2)" in said
    (exposure,) = re.findall(r"Overall exposure level for magickbox.service: ([\d.]+)", said)
    assert float(exposure) <= 3.0
    night = [line for line in said.splitlines() if line.startswith("NIGHT")]
    assert len([line for line in night if line.startswith("NIGHT made magickbox-")]) == 1, night
    assert "NIGHT Finished magickbox-nightly.service - Nightly backup and check of magickbox." in night
    listens = {line.split()[5] for line in said.splitlines() if line.startswith("LISTENS tcp")}
    assert {where for where in listens if not where.startswith("127.0.0.")} == {"0.0.0.0:11112", "0.0.0.0:8080"}
    assert "10.0.2.33" in said.partition("RESOLVES")[2]
    assert not re.search(r"LISTENS udp.*:68 ", said)  # a fixed address: no DHCP
    wait_for(lambda: "first log-in: " in machine.said(), "the link", 60)
    (path,) = re.findall(r"first log-in: http://procbox:8080(/setup/\S+)", machine.said())
    with urllib.request.urlopen(f"http://127.0.0.1:{machine.web}{path}", timeout=30) as page:
        assert page.status == 200


def send_a_study(machine: Machine, folder: Path, pacs: StoreScp) -> None:
    """DCMTK sends to the forwarded port, and what the processor made comes back."""
    files = new_study(folder / "first", 5)
    command = [dcmtk("storescu"), "-aec", "COPY", "127.0.0.1", str(machine.dicom), *map(str, files)]
    subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"}, timeout=300)
    wait_for(lambda: pacs.arrived() == {item_of(file).sop_instance for file in files}, "the results", BOOT)


def cut_the_power(machine: Machine, folder: Path) -> set[str]:
    """Pull the plug in the middle of a transfer; what had been acknowledged by then."""
    items = [item_of(file) for file in new_study(folder / "second", 400)]
    patient = Timeouts(connect=60.0, associate=60.0, response=60.0, write=60.0)
    session = StoreSender(OwnCalls(), patient).connect(
        DicomDestination("127.0.0.1", machine.dicom, "SCANNER", "COPY"), items, ""
    )
    assert not isinstance(session, Retry), session
    plug = threading.Thread(target=machine.tell, args=("quit",))
    acknowledged = set()
    with session:
        for item in items:
            if isinstance(session.send(item), Delivered):
                acknowledged.add(item.sop_instance)
            if len(acknowledged) == 60 and plug.ident is None:
                plug.start()
    plug.join()
    machine.process.wait(60)
    assert 60 <= len(acknowledged) < len(items)
    return acknowledged


def size_of_file_system(folder: Path) -> int:
    """Bytes of the file system on the data disk, as its superblock says."""
    raw = folder / "data.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", folder / "data.qcow2", raw], check=True)
    program = shutil.which("dumpe2fs", path="/usr/sbin:/sbin:/usr/bin")
    said = subprocess.run([str(program), "-h", raw], check=True, capture_output=True, text=True).stdout
    (count,), (size,) = (re.findall(rf"^{name}: +(\d+)$", said, re.MULTILINE) for name in ("Block count", "Block size"))
    return int(count) * int(size)
