"""What is made ready while the peer works on the one before is what is asked for next, or is let go of."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from peers import ScriptedPeer, Talk
from scusends import CT, connect, made

from magickbox.destination import Delivered, Rejected
from magickbox.sender import Item


def several(folder: Path, count: int = 4, size: int = 3000) -> list[Item]:
    """Instances that differ in every byte."""
    items = []
    for n in range(count):
        (folder / str(n)).mkdir(parents=True)
        items.append(made(folder / str(n), CT.sop_class, CT.transfer_syntax, f"1.2.{n}", bytes([n + 1]) * size))
    return items


def noting(got: list[tuple[str, bytes]]) -> "peers.Script":
    """Takes everything, and notes it."""

    def script(talk: Talk) -> None:
        talk.accept()
        while True:
            request, dataset = talk.message()
            got.append((request[0x1000].rstrip(b"\0").decode(), dataset))
            talk.respond(request, 0)

    return script


def open_files(folder: Path) -> int:
    """How many files below a folder this process has open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith(str(folder))
    return found


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 3, 1], [0, 0, 1, 1], [1], [0, 1]])
def test_whatever_the_order_each_instance_has_its_own_bytes(tmp_path: Path, order: list[int]) -> None:
    items, got = several(tmp_path), list[tuple[str, bytes]]()
    with ScriptedPeer([noting(got)]) as peer:
        with connect(peer.destination, items) as session:
            assert [session.send(items[n]) for n in order] == [Delivered()] * len(order)
        assert open_files(tmp_path) == 0
    assert got == [(f"1.2.{n}", bytes([n + 1]) * 3000) for n in order]


def test_a_file_that_went_bad_meanwhile_costs_itself_only(tmp_path: Path) -> None:
    items, got = several(tmp_path), list[tuple[str, bytes]]()
    items[1].path.write_bytes(b"junk")
    items[2].path.unlink()
    with ScriptedPeer([noting(got)]) as peer, connect(peer.destination, items) as session:
        kinds = [type(session.send(item)) for item in items]
    assert kinds == [Delivered, Rejected, Rejected, Delivered]
    assert [uid for uid, _ in got] == ["1.2.0", "1.2.3"]


def test_no_file_stays_open_when_nothing_more_is_asked_for(tmp_path: Path) -> None:
    items, got = several(tmp_path), list[tuple[str, bytes]]()
    with ScriptedPeer([noting(got)]) as peer:
        with connect(peer.destination, items) as session:
            assert session.send(items[0]) == Delivered()
            assert open_files(tmp_path) == 1  # the next one
        assert open_files(tmp_path) == 0
        with connect(peer.destination, items) as session:
            assert session.send(items[0]) == Delivered()
            session.rest()
            assert open_files(tmp_path) == 0


def test_other_items_over_the_same_association(tmp_path: Path) -> None:
    """As the pool does: what was expected of the first delivery is forgotten."""
    first, second, got = several(tmp_path / "one"), several(tmp_path / "two", 2, 500), list[tuple[str, bytes]]()
    with ScriptedPeer([noting(got)]) as peer, connect(peer.destination, first) as session:
        assert session.send(first[0]) == Delivered()
        session.rest()
        assert session.serves(second)
        session.expect(second)
        assert [session.send(item) for item in second] == [Delivered()] * 2
    assert [(uid, len(dataset)) for uid, dataset in got] == [("1.2.0", 3000), ("1.2.0", 500), ("1.2.1", 500)]


def test_a_file_that_was_made_ready_is_sent_once_though_its_like_comes_again(tmp_path: Path) -> None:
    (item,), got = several(tmp_path, 1), list[tuple[str, bytes]]()
    twin = replace(item)
    with ScriptedPeer([noting(got)]) as peer, connect(peer.destination, [item, twin]) as session:
        assert [session.send(each) for each in (item, twin)] == [Delivered()] * 2
    assert len(got) == 2
