"""Big and many, through a whole box in a process of its own with two receiver processes: memory stays bounded.

``make soak`` runs the big sizes; every day a small share of them is tried.
"""

import json
import os
import resource
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import xxhash
from boxes import MR, Image
from boxprocess import BoxProcess, all_jobs, is_quiet, running, station, until
from callers import COMMAND, IMAGES, LAST, Caller, pdu, store_pdus, value

from magickbox.dicom.header import read_file_meta
from magickbox.scp.connection import MAX_PDU
from magickbox.scu.command import c_store_request

MEGABYTE = 1024 * 1024
GIGABYTE = 1024 * MEGABYTE
ROOM = MAX_PDU - 12
IMAGE = Image("1.2.3.4.5")


class Growth:
    """How much the resident memory of a box's processes has grown since the beginning, at most, in bytes."""

    def __init__(self, box: BoxProcess) -> None:
        coordinator = psutil.Process(box.process.pid)
        receivers = [p for p in coordinator.children() if "magickbox.scp.member" in p.cmdline()]
        assert len(receivers) == 2
        self.processes = [coordinator, *receivers]
        self.first = [p.memory_info().rss for p in self.processes]
        self.most = list(self.first)

    def look(self) -> None:
        """Take a sample."""
        now = [p.memory_info().rss for p in self.processes]
        self.most = [max(pair) for pair in zip(self.most, now, strict=True)]

    @property
    def bytes(self) -> list[int]:
        """The coordinator's, then each receiver's."""
        return [most - first for most, first in zip(self.most, self.first, strict=True)]


@contextmanager
def watched(box: BoxProcess) -> Iterator[Growth]:
    """Looks all the time."""
    growth, over = Growth(box), threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            growth.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield growth
    finally:
        over.set()
        thread.join()


def prepare(root: Path, port: int | None = None) -> None:
    """A data folder without a processor; what comes is passed on to a port, if there is one."""
    (root / "processors").mkdir(parents=True)
    to = {"none": {"IP": "127.0.0.1", "PORT": port, "AETitleSender": "BOX", "AETitleTo": "STATION"}}
    rules = [{"name": "on", "RouteDirectory": "INPUT", "send": [to]}] if port else []
    (root / "routing.json").write_text(json.dumps({"routing": rules}))


def in_jobs(root: Path) -> int:
    """How many of the instances of a test have become part of a job."""
    return sum(1 for _ in root.glob("jobs/*/INPUT/1.2.3.*.dcm"))


def send_one(port: int, length: int) -> str:
    """C-STORE one multi-frame instance with so many bytes of pixels; the checksum of its dataset."""
    head = IMAGE.dataset()[: -32 - 4] + length.to_bytes(4, "little")
    checksum = xxhash.xxh3_128(head)
    piece, left = bytearray(range(256)) * (ROOM // 256 + 1), length
    with Caller(port, 120) as caller:
        caller.associate(IMAGES)
        caller.say(pdu(4, value(1, COMMAND | LAST, c_store_request(1, MR, IMAGE.uid))), pdu(4, value(1, 0, head)))
        while left:
            size = min(ROOM, left)
            piece[:8] = left.to_bytes(8, "big")  # no two alike
            left -= size
            checksum.update(piece[:size])
            caller.say(pdu(4, value(1, LAST * (left == 0), bytes(piece[:size]))))
        assert caller.response().status == 0
        caller.release()
    return checksum.hexdigest()


def checksum_of(path: Path) -> str:
    """The checksum of a file's dataset."""
    checksum = xxhash.xxh3_128()
    with path.open("rb") as stream:
        stream.seek(read_file_meta(stream).offset)
        while piece := stream.read(MEGABYTE):
            checksum.update(piece)
    return checksum.hexdigest()


@pytest.mark.parametrize(
    "length",
    [300_000_000, pytest.param(0xFFFFFFFE, marks=pytest.mark.soak)],
    ids=["300 MB", "4 GB"],
)
def test_memory_does_not_grow_with_the_object(tmp_path: Path, length: int) -> None:
    """In and out again: the file is moved into its job, so it is on the disk twice with the station's."""
    if shutil.disk_usage(tmp_path).free < 2 * length + GIGABYTE:
        pytest.skip("not enough disk")
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        prepare(root, goal.port)
        with running(root, settings={"receivers": 2}) as box:
            assert box.port is not None
            warm_up(root, box.port)
            with watched(box) as growth:
                checksum = send_one(box.port, length)
                until(lambda: goal.seen[IMAGE.uid] == 1 and is_quiet(root), 600, "the instance to arrive")
    (stored,) = root.glob(f"jobs/*/INPUT/{IMAGE.uid}.dcm")
    (arrived,) = (tmp_path / "station").rglob(f"{IMAGE.uid}.dcm")
    assert checksum_of(stored) == checksum
    assert checksum_of(arrived) == checksum
    print("growth in MB:", [n / MEGABYTE for n in growth.bytes])
    assert max(growth.bytes) < 50 * MEGABYTE
    for path in (stored, arrived):
        path.unlink()


def warm_up(root: Path, port: int) -> None:
    """A small instance in and out, through both receivers, so that all is loaded."""
    callers = [Caller(port) for _ in range(4)]
    for n, caller in enumerate(callers):
        caller.associate(IMAGES)
        assert caller.store(Image(f"1.2.9.{n}")).status == 0
    for caller in callers:
        caller.release()
        caller.sock.close()
    until(lambda: bool(all_jobs(root)) and is_quiet(root), 60, "the first job")


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_many_instances_on_one_association(tmp_path: Path, count: int) -> None:
    root = tmp_path / "data"
    prepare(root)
    uid = "1.2.3.100000"
    request = store_pdus(1, Image(uid))
    with running(root, settings={"receivers": 2}) as box:
        assert box.port is not None
        warm_up(root, box.port)
        with watched(box) as growth, Caller(box.port, 60) as caller:
            caller.associate(IMAGES)
            for n in range(count):
                caller.say(request.replace(uid.encode(), b"1.2.3.%d" % (100_000 + n)))
                assert caller.response().status == 0
            caller.release()
            until(lambda: in_jobs(root) == count and is_quiet(root), 120, "the job")
    print("growth in MB:", [n / MEGABYTE for n in growth.bytes])
    coordinator, *receivers = growth.bytes
    assert max(receivers) < 10 * MEGABYTE
    assert coordinator < 10 * MEGABYTE + count * 5_000  # it knows of each instance until the job is born


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process and its children may open 8,192 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 8192:
        pytest.skip("this user may not open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_200_associations_with_descriptors_above_1023(tmp_path: Path, many_descriptors: None) -> None:
    """Silent connections take the low numbers in both receivers; then 200 associations store at the same time."""
    root = tmp_path / "data"
    prepare(root)
    with running(root, settings={"receivers": 2, "max_associations": 2500}) as box:
        assert box.port is not None
        receivers = Growth(box).processes[1:]
        silent = [Caller(box.port) for _ in range(2100)]
        until(lambda: all(_highest(p) > 1023 for p in receivers), 20, "descriptors above 1023")
        callers = [Caller(box.port) for _ in range(200)]
        requests = [store_pdus(1, Image(f"1.2.3.{n}")) for n in range(len(callers))]
        for caller, request in zip(callers, requests, strict=True):
            caller.associate(IMAGES)
            caller.say(request[:-10])
        for caller, request in zip(callers, requests, strict=True):
            caller.say(request[-10:])
            assert caller.response().status == 0
        for caller in callers:
            caller.release()
        for caller in callers + silent:
            caller.sock.close()
        until(lambda: in_jobs(root) == 200 and is_quiet(root), 60, "the jobs")


def _highest(process: psutil.Process) -> int:
    """The highest file descriptor of a process."""
    return max(map(int, os.listdir(f"/proc/{process.pid}/fd")))
