"""Receiver processes: one port, several processes, one coordinator; and what is left when one of them dies."""

import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
from boxes import MR, Image
from callers import IMAGES, VERIFICATION, Caller, OpenPort, open_port, pdu, value
from peers import wait_for

from magickbox.association import End
from magickbox.errors import ConfigError
from magickbox.incoming.record import PART
from magickbox.intake import LIMIT_EXCEEDED, RecordingIntake, Refusal, Request
from magickbox.scp import crew, place
from magickbox.scp.upper import Timeouts
from magickbox.scu.command import c_store_request

IMAGE = Image("1.2.3.4.5")
BEGUN = pdu(4, value(1, 3, c_store_request(1, MR, IMAGE.uid))) + pdu(4, value(1, 0, IMAGE.dataset()[:50]))


def members() -> list[psutil.Process]:
    """The receiver processes of this test."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "magickbox.scp.member" in child.cmdline()
    ]


def serving() -> list[int]:
    """The processes that hold a connection, one entry for each."""
    return [p.pid for p in members() for c in p.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]


@pytest.mark.parametrize("receivers", [1, 2])
def test_a_round_through_processes(tmp_path: Path, receivers: int) -> None:
    with open_port(tmp_path, receivers=receivers) as port:
        assert len(members()) == receivers
        for n in range(4):
            with Caller(port.number) as caller:
                caller.associate(IMAGES, VERIFICATION, called=b"PROC", calling=b"CT%d" % n)
                assert caller.echo(3).status == 0
                assert caller.store(Image(f"1.2.3.{n}")).status == 0
                caller.release()
        assert port.wait_for_end(4) is End.RELEASED
        told = [(a.calling_ae, a.called_ae, i.sop_instance) for a, i in port.intake.instances]
        assert sorted(told) == [(f"CT{n}", "PROC", f"1.2.3.{n}") for n in range(4)]
        for association, instance in port.intake.instances:
            stored = tmp_path / "incoming" / association.id / instance.file
            assert stored.stat().st_size == instance.size
            assert stored.stat().st_mtime_ns == instance.arrived
    assert members() == []


def test_associations_are_spread_over_the_processes(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=2) as port:
        callers = [Caller(port.number) for _ in range(6)]
        for caller in callers:
            caller.associate(IMAGES)
        by_process = [serving().count(p.pid) for p in members()]
        assert by_process == [3, 3]
        for caller in callers:
            caller.release()
            caller.sock.close()
        assert port.wait_for_end(6) is End.RELEASED


def test_refusals_and_troubles_reach_the_coordinator(tmp_path: Path) -> None:
    odd = Image("1.2.3.4.6")
    with open_port(tmp_path, receivers=1) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        caller.say(pdu(4, value(1, 3, c_store_request(1, MR, "9." * 20_000 + "9"))), pdu(4, value(1, 2, odd.dataset())))
        assert caller.response().status == 0xC000
        caller.say(pdu(9, b""))
        assert port.wait_for_end() is End.ABORTED
        ((_, uid, status, why),) = port.intake.refusals
        assert (len(uid), status) == (40_001, 0xC000)
        assert "characters" in why
        wait_for(lambda: any("not DICOM" in text for text in port.troubles))


def test_limits_are_those_of_all_processes_together(tmp_path: Path) -> None:
    def verdict(_request: object) -> Refusal | None:
        return Refusal(*LIMIT_EXCEEDED, "full") if len(intake.requests) - len(intake.ends) > 3 else None

    intake = RecordingIntake(verdict)
    with open_port(tmp_path, intake, receivers=2) as port:
        callers = [Caller(port.number) for _ in range(4)]
        for caller in callers[:3]:
            caller.associate(IMAGES)
        callers[3].request(IMAGES)
        assert callers[3].pdu() == (3, bytes((0, *LIMIT_EXCEEDED)))
        for caller in callers:
            caller.sock.close()


def test_no_room_and_a_pause_are_told_to_the_processes(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=2) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        port.intake.room = False
        wait_for(lambda: caller.store(IMAGE).status == 0xA700, "the box to say that it has no room")
        port.intake.room, port.intake.delay = True, 0.6
        wait_for(lambda: caller.store(IMAGE).status == 0, "the box to have room again")
        wait_for(lambda: _seconds(caller) > 0.5, "the box to go slower")
        port.intake.delay = 0.0
        wait_for(lambda: _seconds(caller) < 0.5, "the box to go on")
        caller.release()


def _seconds(caller: Caller) -> float:
    began = time.monotonic()
    assert caller.store(IMAGE).status == 0
    return time.monotonic() - began


def test_a_process_that_dies_takes_only_its_own_associations(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=2) as port, Caller(port.number) as lost:
        lost.associate(IMAGES, calling=b"LOST")
        (victim,) = serving()
        kept = Caller(port.number)
        kept.associate(IMAGES, calling=b"KEPT")
        assert lost.store(Image("1.2.3.1")).status == 0
        assert kept.store(Image("1.2.3.2")).status == 0
        lost.say(BEGUN)
        wait_for(lambda: any(PART in name for name in port.files()), "the half instance")
        os.kill(victim, signal.SIGKILL)
        assert set(lost.kinds_to_the_end()) == set()
        assert port.wait_for_end() is End.ABORTED
        assert port.intake.ends[0][0].calling_ae == "LOST"
        assert kept.store(Image("1.2.3.3")).status == 0
        kept.release()
        kept.sock.close()
        assert sorted(port.files()) == ["1.2.3.1.dcm", "1.2.3.2.dcm", "1.2.3.3.dcm"]
        wait_for(lambda: any("ended by itself (-9)" in text for text in port.troubles))
        wait_for(lambda: len(members()) == 2, "another process")
        for _ in range(3):
            port.must_still_serve()


def test_reports_are_gathered_and_come_in_their_order(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=1) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        uids = [f"1.2.3.{n}" for n in range(1, 41)]
        assert {caller.store(Image(uid)).status for uid in uids[:30]} == {0}
        wait_for(lambda: len(port.intake.instances) == 30, "reports while the association is open")
        assert {caller.store(Image(uid)).status for uid in uids[30:]} == {0}
        caller.release()
        assert port.wait_for_end() is End.RELEASED
        assert [instance.sop_instance for _, instance in port.intake.instances] == uids, "all of them before the end"


def test_connections_wait_while_there_is_no_process(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=1) as port:
        os.kill(members()[0].pid, signal.SIGKILL)
        with Caller(port.number) as caller:
            caller.associate(IMAGES)
            assert caller.store(IMAGE).status == 0
            caller.release()
        port.wait_for_end()


def test_a_process_that_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_ANSWERS_WITHIN", 1.0)
    with open_port(tmp_path, receivers=1) as port:
        os.kill(members()[0].pid, signal.SIGSTOP)
        with Caller(port.number, timeout=30) as caller:
            caller.associate(IMAGES)
            assert caller.store(IMAGE).status == 0
            caller.release()
        port.wait_for_end()
        assert any("does not answer, and is killed" in text for text in port.troubles)


def test_a_report_that_cannot_be_taken_ends_its_process_only(tmp_path: Path) -> None:
    def verdict(request: Request) -> Refusal | None:
        if request.calling_ae == "ODD":
            raise ValueError("the coordinator stumbles")
        return None

    with open_port(tmp_path, RecordingIntake(verdict), receivers=1) as port:
        with Caller(port.number) as odd:
            odd.request(IMAGES, calling=b"ODD")
            assert odd.kinds_to_the_end() == []
        with Caller(port.number) as caller:
            caller.associate(IMAGES)
            assert caller.store(IMAGE).status == 0
            caller.release()
        port.wait_for_end()
        assert any("could not be taken" in text for text in port.troubles)


def test_a_process_without_descriptors_refuses_and_lives(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=1) as port, Caller(port.number) as kept:
        kept.associate(IMAGES)
        (member,) = members()
        resource.prlimit(member.pid, resource.RLIMIT_NOFILE, (member.num_fds() + 2, member.num_fds() + 2))
        callers = [Caller(port.number) for _ in range(6)]
        wait_for(lambda: any("no file descriptors left" in text for text in port.troubles))
        for caller in callers:
            caller.sock.close()
        assert member.is_running()
        wait_for(lambda: kept.store(IMAGE).status == 0, "room for a file again")
        kept.release()


def test_a_stop_answers_what_is_in_hand(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=2) as port:
        with Caller(port.number) as idle, Caller(port.number) as slow:
            _stop_in_the_middle(port, idle, slow)
        assert sorted(how for _, how in port.intake.ends) == [End.STOPPED, End.STOPPED]
    assert members() == []


def _stop_in_the_middle(port: OpenPort, idle: Caller, slow: Caller) -> None:
    idle.associate(IMAGES)
    slow.associate(IMAGES)
    slow.say(BEGUN)
    wait_for(lambda: any(PART in name for name in port.files()), "the half instance")
    port.receiver.stop(0.5)
    assert idle.kinds_to_the_end() == [7]
    assert set(slow.kinds_to_the_end()) <= {7}


def test_the_terminal_s_signals_do_not_end_a_process(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=1) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(members()[0].pid, number)
        assert caller.store(IMAGE).status == 0
        caller.release()


def test_a_port_that_is_taken_leaves_no_process(tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(OSError, match="in use"), open_port(tmp_path, port=taken.getsockname()[1], receivers=2):
        pytest.fail("opened")
    taken.close()
    assert members() == []


def test_silence_is_bounded_in_a_process_too(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=1, timeouts=Timeouts(request=0.3, message=0.3, idle=0.6)) as port:
        with Caller(port.number) as caller:
            caller.associate(IMAGES)
            assert caller.kinds_to_the_end() == [7]
        assert port.wait_for_end() is End.TIMEOUT


def test_200_associations_in_two_processes(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=2, max_associations=250) as port:
        callers = [Caller(port.number) for _ in range(200)]
        for caller in callers:
            caller.associate(IMAGES)
        for n, caller in enumerate(callers):
            assert caller.store(Image(f"1.2.3.{n}")).status == 0
        for caller in callers:
            caller.release()
            caller.sock.close()
        wait_for(lambda: len(port.intake.ends) == 200, "200 ends")
        assert len(port.intake.instances) == 200
        assert {how for _, how in port.intake.ends} == {End.RELEASED}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "receiver process 0 cannot be started: .*No such file or directory"),
        ("#!/bin/sh\nexit 3\n", r"receiver process 0 ended by itself \(3\)"),
        ("#!/bin/sh\nexec sleep 100\n", "receiver process 0 does not start"),
    ],
    ids=["no interpreter", "it ends", "it hangs"],
)
def test_a_process_that_cannot_start_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, words: str
) -> None:
    python, before = _interpreter(tmp_path, script), psutil.Process().children()
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(crew, "READY_WITHIN", 1.0 if "does not" in words else 60.0)
    with pytest.raises(ConfigError, match=words), open_port(tmp_path / "port", receivers=1):
        pytest.fail("opened")
    assert psutil.Process().children() == before


def _interpreter(folder: Path, script: str | None) -> Path:
    path = folder / "python"
    if script is not None:
        path.write_text(script)
        path.chmod(0o755)
    return path


def test_a_process_that_cannot_be_replaced_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_port(tmp_path, receivers=1) as port:
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", str(tmp_path / "nothing"))
            os.kill(members()[0].pid, signal.SIGKILL)
            wait_for(lambda: any("cannot be started: " in text for text in port.troubles))
        with Caller(port.number, 20) as waiting:
            waiting.associate(IMAGES)
            assert waiting.store(IMAGE).status == 0
            waiting.release()
        port.wait_for_end()


def test_a_process_that_stands_still_holds_up_only_its_own(tmp_path: Path) -> None:
    with open_port(tmp_path, receivers=2) as port, Caller(port.number) as first:
        first.associate(IMAGES, calling=b"FIRST")
        (still,) = serving()
        second = Caller(port.number)
        second.associate(IMAGES, calling=b"SECOND")
        first.say(BEGUN)
        os.kill(still, signal.SIGSTOP)
        try:
            until, count = time.monotonic() + 3, 0
            while time.monotonic() < until:
                count += 1
                assert second.store(Image(f"1.2.4.{count}")).status == 0
            late = [Caller(port.number) for _ in range(4)]  # some of them wait for the one that stands still
            for caller in late:
                caller.request(IMAGES)
        finally:
            os.kill(still, signal.SIGCONT)
        first.say(pdu(4, value(1, 2, IMAGE.dataset()[50:])))
        assert first.response().status == 0
        for caller in late:
            assert caller.pdu()[0] == 2
            assert caller.store(IMAGE).status == 0
            caller.release()
            caller.sock.close()
        first.release()
        second.release()
        second.sock.close()
        wait_for(lambda: len(port.intake.ends) == 6, "all to end")
        assert {how for _, how in port.intake.ends} == {End.RELEASED}
        assert len(port.intake.instances) == count + 5
        assert port.troubles == []
