"""What is sent never lies in memory as a whole: not in this interpreter, and not in the process that sends."""

import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import peers
import pytest
from peers import ScriptedPeer, Talk
from scusends import CT, made, send_all

from magickbox.bench.usage import memory
from magickbox.destination import Delivered
from magickbox.scu.upperlayer import Timeouts
from magickbox.sender import Item

MEGABYTE = 1024 * 1024
PATIENT = Timeouts(response=60.0)


def reader(got: list[int], longest: int = 0) -> Callable[[Talk], None]:
    """Takes instances until the release, keeps nothing, and notes how long each dataset was."""

    def script(talk: Talk) -> None:
        talk.accept(longest=longest)
        request: dict[int, bytes] = {}
        total, buffer = 0, bytearray(1 << 17)
        while True:
            kind, length = struct.unpack(">BxI", talk.read(6))
            if kind != 4:
                talk.read(length)
                talk.say(6, bytes(4))
                return
            head = talk.read(6)
            if head[5] & 1:
                request, total = peers.elements(talk.read(length - 6)), 0
                continue
            left = length - 6
            while left:
                left -= talk.sock.recv_into(buffer, min(left, len(buffer)))
            total += length - 6
            if head[5] & 2:
                got.append(total)
                talk.respond(request, 0)

    return script


def sparse(folder: Path, size: int) -> Item:
    """An instance whose dataset has that many bytes, of which the disk holds none; its header can be read."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size - 12)
    item = made(folder, CT.sop_class, CT.transfer_syntax, "1.2.3", pixels)
    with item.path.open("ab") as file:
        file.truncate(file.tell() + size - len(pixels))
    return item


@pytest.mark.parametrize("longest", [0, 16384])
def test_the_heap_does_not_grow_with_the_object(tmp_path: Path, longest: int) -> None:
    size = (300 if longest == 0 else 50) * MEGABYTE
    got: list[int] = []
    item = sparse(tmp_path, size)
    with ScriptedPeer([reader(got, longest)]) as peer:
        tracemalloc.start()
        try:
            assert send_all(peer.destination, [item], PATIENT) == [Delivered()]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert got == [size]
    assert peak < 5 * MEGABYTE


def peak_of_sending(item: Item) -> int:
    """The most resident memory of ``magickbox send`` while it sends one instance."""
    got: list[int] = []
    with ScriptedPeer([reader(got)]) as peer:
        port = peer.destination.port
        command = [sys.executable, "-m", "magickbox.cli.main", "send", "127.0.0.1", str(port), str(item.path)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        most = 0
        try:
            while process.poll() is None:
                most = max(most, memory(process.pid, "VmHWM:"))
                time.sleep(0.005)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
    assert len(got) == 1
    return most


@pytest.mark.parametrize("size", [300 * MEGABYTE, pytest.param(4096 * MEGABYTE - 2, marks=pytest.mark.soak)])
def test_a_process_does_not_grow_with_the_object(tmp_path: Path, size: int) -> None:
    small, large = sparse(tmp_path / "small", 1024), sparse(tmp_path / "large", size)
    assert peak_of_sending(large) - peak_of_sending(small) < 50 * MEGABYTE
