"""``kill -9`` of the box in every window of section 8, and at random moments under load.

After the restart every acknowledged SOP Instance UID is in exactly one visible place, every job ends, no delivery is
lost, none is repeated beyond the instance in flight, and verify agrees.
"""

import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from boxes import Image
from boxprocess import Sent, Station, all_jobs, is_quiet, running, send, set_up, station, until
from callers import IMAGES, Caller, store_pdus
from studies import study

from magickbox.datafolder import DataFolder
from magickbox.errors import MagickboxError
from magickbox.job import JobState
from magickbox.ledger import Ledger
from magickbox.steps import Step
from magickbox.verification.verify import verify, where_is

pytestmark = pytest.mark.kill

COUNT = 4
DELETING = {Step.DELETE_MARKED, Step.DELETE_RENAMED, Step.DELETE_REMOVED}
CHAINS = {Step.STEP_PREPARED, Step.STEP_STARTED, Step.STEP_ENDED, Step.STEP_RESULT}  # see test_chain_box.py
# In these the box dies before it answers anything of what it is killed at.
WINDOWS = [step for step in Step if step not in DELETING | CHAINS]


def check_promise(root: Path, acknowledged: set[str], arrived: Counter[str], in_flight: int) -> None:
    """Everything that must hold once a box has come to rest after a kill."""
    data = DataFolder(root)
    ledger = Ledger(data.ledger, readonly=True)
    try:
        findings = verify(data, ledger, quick=False, running=False)
        assert [f for f in findings if f.severity == "error"] == []
        for uid in acknowledged:
            places = where_is(data, ledger, uid)
            assert len(places) == 1, (uid, places)
    finally:
        ledger.close()
    assert {job.state for job in all_jobs(root)} <= {JobState.DONE}, [(j.id, j.state, j.reason) for j in all_jobs(root)]
    assert acknowledged <= set(arrived), "a delivery was lost"
    repeats = {uid: n for uid, n in arrived.items() if n > 1}
    assert sum(n - 1 for n in repeats.values()) <= in_flight, repeats


def finish(root: Path, goal: Station) -> None:
    """Start the box again and let it come to rest."""
    with running(root) as box:
        assert box.port is not None
        until(lambda: is_quiet(root), 40, f"{[(j.id, j.state, j.reason) for j in all_jobs(root)]}")


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("step", WINDOWS, ids=lambda step: step.name)
def test_killed_in_this_window(tmp_path: Path, step: Step, nth: int) -> None:
    """Two studies one after another, so that most steps are reached at least twice."""
    root = tmp_path / "data"
    items = study(tmp_path / "one", COUNT), study(tmp_path / "two", COUNT)
    sent = Sent()
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, step=step.name, nth=nth) as box:
            assert box.port is not None
            for one in items:
                part = send(box.port, one)
                sent.acknowledged |= part.acknowledged
            assert box.wait() == -signal.SIGKILL
        finish(root, goal)
        check_promise(root, sent.acknowledged, goal.seen, in_flight=int(step is not Step.RESPONSE_COMMITTED))
        if step in (Step.RESPONSE, Step.DECIDED, Step.JOB_BORN):
            assert sent.acknowledged


@pytest.mark.parametrize("receivers", [0, 2])
def test_a_power_cut_that_takes_names_back(tmp_path: Path, receivers: int) -> None:
    """An instance's name is not fsynced: a power cut may leave it under its part's name, acknowledged all the same."""
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, settings={"settle": 600, "receivers": receivers}) as box:
            assert box.port is not None
            sent = send(box.port, study(tmp_path / "one", 40))
            assert len(sent.acknowledged) == 40
            box.kill()
        (folder,) = (path for path in (root / "incoming").iterdir() if path.is_dir())
        for number, path in enumerate(sorted(folder.glob("*.dcm"))[::2]):
            path.rename(folder / f".part-7{number}")
        finish(root, goal)
        check_promise(root, sent.acknowledged, goal.seen, in_flight=0)


def test_the_last_acknowledged_counts_after_a_kill_too(tmp_path: Path) -> None:
    """Whatever association it came by: the order is that of the acknowledgements, not of the folders."""
    root = tmp_path / "data"
    first, last = Image("1.2.3.4", content=1), Image("1.2.3.4", content=2)
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, settings={"settle": 600}) as box:
            assert box.port is not None
            with Caller(box.port) as early, Caller(box.port) as late:
                early.associate(IMAGES, called=b"COPY")
                time.sleep(1.1)  # ids of associations count seconds
                late.associate(IMAGES, called=b"COPY")
                assert late.store(first).status == early.store(last).status == 0
                box.kill()
        finish(root, goal)
    ((kept,), (superseded,)) = (list((root / "jobs").glob(f"*/{part}/*.dcm")) for part in ("INPUT", "superseded"))
    assert kept.read_bytes().endswith(last.dataset())
    assert superseded.read_bytes().endswith(first.dataset())


def test_what_the_disk_has_changed_is_found_at_the_start(tmp_path: Path) -> None:
    """Beyond the promise, which needs a disk that keeps what it said it has: told, kept aside, and no job of it."""
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, settings={"settle": 600}) as box:
            assert box.port is not None
            sent = send(box.port, study(tmp_path / "one", 3))
            box.kill()
        damaged = sorted(root.glob("incoming/*/*.dcm"))[1]
        damaged.chmod(0o600)
        with damaged.open("r+b") as file:
            file.truncate(damaged.stat().st_size - 10)
        finish(root, goal)
    assert len(sent.acknowledged) == 3
    assert len(list(root.glob("jobs/*/INPUT/*.dcm"))) == 2
    assert "not those that were received" in next(root.glob("quarantine/*.reason")).read_text()
    assert "unreadable" in (root / "logs" / "receive.log").read_text()


RECEIVING = [
    Step.ASSOCIATION_WRITTEN, Step.PART_WRITTEN, Step.PART_DURABLE, Step.NAMED, Step.INSTANCE_DURABLE, Step.REPORTED,
    Step.ASSOCIATION_ENDED, Step.JOB_BORN,
]  # fmt: skip


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("step", RECEIVING, ids=lambda step: step.name)
def test_killed_in_this_window_with_receiver_processes(tmp_path: Path, step: Step, nth: int) -> None:
    """The coordinator is killed at that step of a receiver process, which must not go on without it."""
    root = tmp_path / "data"
    items = study(tmp_path / "one", COUNT), study(tmp_path / "two", COUNT)
    sent = Sent()
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, step=step.name, nth=nth, settings={"receivers": 1}) as box:
            assert box.port is not None
            for one in items:
                sent.acknowledged |= send(box.port, one).acknowledged
            assert box.wait() == -signal.SIGKILL
        finish(root, goal)
        check_promise(root, sent.acknowledged, goal.seen, in_flight=1)


def test_receiver_processes_do_not_outlive_the_box(tmp_path: Path) -> None:
    """In the middle of an instance: they are gone at once, and what comes then is answered by nobody."""
    root, image = tmp_path / "data", Image("1.2.3.4.5")
    set_up(root, 1)
    with running(root, settings={"receivers": 2}) as box:
        assert box.port is not None
        receivers = psutil.Process(box.process.pid).children()
        assert len([p for p in receivers if "magickbox.scp.member" in p.cmdline()]) == 2
        with Caller(box.port) as idle, Caller(box.port) as busy:
            for caller in (idle, busy):
                caller.associate(IMAGES)
            request = store_pdus(1, image)
            busy.say(request[:-20])
            until(lambda: any(root.glob("incoming/*/.part-*")), what="the half instance")
            box.kill()
            until(lambda: not any(map(_lives, receivers)), 5.0, "the receiver processes to be gone")
            for caller, rest in ((busy, request[-20:]), (idle, request)):
                with suppress(ConnectionError):
                    caller.say(rest)
                assert caller.kinds_to_the_end() == []
    assert list(root.glob("incoming/*/*.dcm")) == []


def _lives(process: psutil.Process) -> bool:
    """Dead ones stay as zombies where nobody collects orphans."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_receiver_process_is_killed_again_and_again(tmp_path: Path) -> None:
    """Only senders on its connections notice; everything acknowledged becomes a job and arrives."""
    root = tmp_path / "data"
    results: list[Sent] = []
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, settings={"receivers": 2}) as box:
            assert box.port is not None
            stop = threading.Event()
            port = box.port
            senders = [
                threading.Thread(target=_send_on, args=(port, tmp_path / "s", n, results, stop)) for n in range(3)
            ]
            for sender in senders:
                sender.start()
            for _ in range(6):
                time.sleep(0.7)
                for child in psutil.Process(box.process.pid).children()[:1]:
                    child.kill()
            stop.set()
            for sender in senders:
                sender.join()
            until(lambda: is_quiet(root), 60, f"{[(j.id, j.state, j.reason) for j in all_jobs(root)]}")
        acknowledged = set().union(*(one.acknowledged for one in results))
        assert acknowledged
        check_promise(root, acknowledged, goal.seen, in_flight=0)


def _send_on(port: int, folder: Path, number: int, results: list[Sent], stop: threading.Event) -> None:
    count = 0
    while not stop.is_set():
        count += 1
        results.append(send(port, study(folder / f"{number}-{count}", 3, pixels=32), calling=f"SCANNER{number}"))


@pytest.mark.parametrize("step", sorted(DELETING), ids=lambda step: step.name)
def test_killed_while_deleting(tmp_path: Path, step: Step) -> None:
    """A job that is being deleted is deleted after the restart, and its row stays."""
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, step=step.name) as box:
            assert box.port is not None
            send(box.port, study(tmp_path / "one", 2))
            until(lambda: len(all_jobs(root)) == 1 and is_quiet(root), what="job done")
            [job] = all_jobs(root)
            with pytest.raises(MagickboxError, match="closed the connection"):
                box.ask("delete", job.id)
            assert box.wait() == -signal.SIGKILL
        finish(root, goal)
        assert [j.state for j in all_jobs(root)] == [JobState.DELETED]
        assert not (root / "jobs" / job.id).exists()
        assert list((root / "incoming").iterdir()) == []


def test_unacknowledged_instances_leave_nothing_behind(tmp_path: Path) -> None:
    """What was not answered before the kill is not there afterwards: no part is left over."""
    root = tmp_path / "data"
    items = study(tmp_path / "one", 3)
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, step=Step.PART_WRITTEN.name, nth=3) as box:
            assert box.port is not None
            sent = send(box.port, items)
            assert box.wait() == -signal.SIGKILL
        assert len(sent.acknowledged) == 2
        finish(root, goal)
        check_promise(root, sent.acknowledged, goal.seen, in_flight=0)
        assert set(goal.seen) == sent.acknowledged


def _keep_sending(port: int, folder: Path, number: int, results: list[Sent], stop: threading.Event) -> None:
    count = 0
    while not stop.is_set():
        count += 1
        one = send(port, study(folder / f"{number}-{count}", 3, pixels=32), calling=f"SCANNER{number}")
        results.append(one)
        if not one.acknowledged:
            return


def killed_under_load(tmp_path: Path, rounds: int, seed: int) -> None:
    """Four senders; the box is killed at random moments and started again, then everything must be accounted for."""
    chance = random.Random(seed)
    root = tmp_path / "data"
    results: list[Sent] = []
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        for number in range(rounds):
            with running(root) as box:
                assert box.port is not None
                stop = threading.Event()
                senders = [
                    threading.Thread(
                        target=_keep_sending, args=(box.port, tmp_path / f"s{number}", n, results, stop), daemon=True
                    )
                    for n in range(4)
                ]
                for sender in senders:
                    sender.start()
                time.sleep(chance.uniform(0.3, 2.0))
                box.kill()
                stop.set()
                for sender in senders:
                    sender.join(20)
        finish(root, goal)
        acknowledged = set().union(*(sent.acknowledged for sent in results))
        assert acknowledged
        # At most the instance in flight on each association: one destination has one association at a time.
        check_promise(root, acknowledged, goal.seen, in_flight=rounds)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_under_load(tmp_path: Path, seed: int) -> None:
    """A short proof for every day; ``make soak`` has the long one."""
    killed_under_load(tmp_path, rounds=3, seed=seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_killed_many_times_under_load(tmp_path: Path, seed: int) -> None:
    """The long proof."""
    killed_under_load(tmp_path, rounds=12, seed=seed)
