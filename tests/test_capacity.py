"""How much the box can take just now: slower before it refuses, and all of it to be seen."""

import json
import time
from pathlib import Path

import pytest
from boxes import Image
from boxprocess import all_jobs, running, set_up, until
from callers import IMAGES, Caller

from magickbox.capacity import LONGEST_PAUSE, Capacity
from magickbox.cli.main import main
from magickbox.intake import LIMIT_EXCEEDED
from magickbox.traffic import Traffic


def full(waiting: int, has_room: bool = True) -> Capacity:
    capacity = Capacity(lambda: has_room, lambda: waiting, 100)
    capacity.look()
    return capacity


@pytest.mark.parametrize(("waiting", "pause"), [(0, 0.0), (100, 0.0), (150, 0.5), (200, 1.0), (9999, 1.0)])
def test_the_pause_grows_with_what_waits(waiting: int, pause: float) -> None:
    assert full(waiting).pause() == pytest.approx(pause * LONGEST_PAUSE)


def test_it_slows_before_it_refuses() -> None:
    assert full(199).obstacle() is None
    assert "max_waiting" in str(full(200).obstacle())
    assert "min_free" in str(full(0, has_room=False).obstacle())


def test_the_log_tells_once_when_it_begins_and_when_it_ends() -> None:
    told: list[tuple[str, str]] = []
    waiting = 0
    capacity = Capacity(lambda: True, lambda: waiting, 10, lambda level, event, _facts: told.append((level, event)))
    for waiting in (5, 11, 15, 12, 10, 3):  # noqa: B007  # what the counter counts
        capacity.look()
    assert told == [("warning", "receiving-slows"), ("info", "receiving-goes-on")]


def test_traffic_counts() -> None:
    traffic = Traffic()
    traffic.count(instances=2, bytes=100)
    traffic.count(instances=1, bytes=50, refused=1)
    assert traffic.numbers() == {
        "associations": 0, "rejected": 0, "instances": 3, "bytes": 150, "put_off": 0, "refused": 1,
    }  # fmt: skip


SLEEPS = "#!/bin/sh\nsleep 60\n"


def store(port: int, number: int) -> float:
    """Send a study of one image; how long it took to be answered, in seconds."""
    with Caller(port) as caller:
        caller.associate(IMAGES, called=b"COPY")
        began = time.monotonic()
        assert caller.store(Image(f"1.2.3.{number}", study=f"1.2.4.{number}")).status == 0
        took = time.monotonic() - began
        caller.release()
    return took


@pytest.mark.parametrize("receivers", [0, 1])
def test_jobs_that_pile_up_slow_the_port_and_then_close_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], receivers: int
) -> None:
    set_up(tmp_path, 1)
    (tmp_path / "processors" / "COPY").write_text(SLEEPS)
    settings = {"slots": 1, "max_waiting": 4, "settle": 0, "receivers": receivers}
    with running(tmp_path, settings=settings) as box:
        assert box.port is not None
        for number in range(7):
            store(box.port, number)
            until(lambda n=number: len(all_jobs(tmp_path)) == n + 1)  # type: ignore[misc]
        port = box.port
        until(lambda: box.status()["receiving_pause"] >= 0.5, what="six jobs to be counted")
        assert "receiving-slows" in (tmp_path / "logs" / "receive.log").read_text()
        time.sleep(0.5)  # a receiver process is told a moment later
        assert store(port, 100) > 0.3
        for number in range(200, 210):
            if _is_put_off(port):
                break
            store(port, number)
            time.sleep(1.2)
        assert _is_put_off(port)
        assert main(["status", "--json", "--data", str(tmp_path)]) == 0
        status = json.loads(capsys.readouterr().out)
        assert status["jobs_waiting"] >= 8
        assert status["receiving_pause"] == LONGEST_PAUSE
        assert status["received"]["rejected"] >= 1
        assert main(["status", "--data", str(tmp_path)]) == 0
        assert "for a processor; each answer waits 1.00 s" in capsys.readouterr().out
    assert "max_waiting is 4" in (tmp_path / "logs" / "receive.log").read_text()


def _is_put_off(port: int) -> bool:
    with Caller(port) as caller:
        caller.request(IMAGES, called=b"COPY")
        kind, body = caller.pdu()
        assert kind == 2 or body == bytes((0, *LIMIT_EXCEEDED))
        return kind == 3


def test_status_of_a_box_with_something_in_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(tmp_path, 1)
    with running(tmp_path, settings={"settle": 600, "max_per_caller": 1}) as box:
        assert box.port is not None
        with Caller(box.port) as caller:
            caller.associate(IMAGES, called=b"COPY", calling=b"CT1")
            assert caller.store(Image("1.2.3.1")).status == 0
            with Caller(box.port) as second:
                second.request(IMAGES, called=b"COPY", calling=b"CT1")
                assert second.pdu() == (3, bytes((0, *LIMIT_EXCEEDED)))
            assert main(["status", "--data", str(tmp_path)]) == 0
            said = capsys.readouterr().out
            assert "1 open, 1 since the start" in said
            assert "CT1" in said
            caller.release()


def test_status_without_a_box(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--data", str(tmp_path)]) == 1
    assert "no box runs" in capsys.readouterr().err
