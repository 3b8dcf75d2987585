"""A whole box whose processors run at a real Slurm: what is killed, what is down, and what nobody can grant."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from boxprocess import BoxProcess, Station, all_jobs, is_quiet, running, send, set_up, station, until
from slurmcluster import PATH, Cluster
from studies import study

from magickbox.datafolder import DataFolder
from magickbox.job import Job
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Ledger
from magickbox.verification.verify import verify

LATE = 6
SLOW = """#!/bin/sh
here=${0%/*}
echo began
while ! [ -e "$here/go" ]; do sleep 0.1; done
cp "$1"/* "$2"/; echo made > "$2/made"; echo the end; exit $(cat "$here/go")
"""


@dataclass
class House:
    """A data folder with a slow processor, which a test lets go on, and a cluster for it."""

    cluster: Cluster
    root: Path
    goal: Station

    def box(self, step: str | None = None, nth: int = 1, **more: object) -> AbstractContextManager[BoxProcess]:
        settings = {"engine": "slurm", "slurm_late": LATE, "web": "false", **more}
        return running(self.root, settings=settings, step=step, nth=nth)

    @property
    def processor(self) -> Path:
        return self.root / "processors" / "Slow"

    def declare(self, **more: object) -> None:
        told = {"command": ["./slow"], "description": "waits until it is let go", **more}
        (self.processor / "processor.json").write_text(json.dumps(told))

    @property
    def job(self) -> Job:
        [job] = all_jobs(self.root)
        return job

    @property
    def folder(self) -> JobFolder:
        return JobFolder(self.root / "jobs" / self.job.id)

    @property
    def log(self) -> str:
        return (self.root / "logs" / "process.log").read_text()

    def marks(self, attempt: int = 1) -> Path:
        return self.folder.attempt(attempt).path / "slurm"

    def record(self) -> dict[str, str]:
        """run.json of the first attempt."""
        run = self.folder.attempt(1).run
        return dict(json.loads(run.read_text())) if run.exists() else {}

    def starts(self) -> int:
        """How many scripts have begun, in all attempts."""
        return len(list(self.folder.path.glob("attempts/*/slurm/begun")))

    def give(self, box: BoxProcess) -> None:
        """Send a study of two images to the slow processor."""
        assert box.port is not None
        assert send(box.port, study(self.root.parent / "one", 2), "Slow").unanswered == set()
        until(lambda: len(all_jobs(self.root)) == 1, what="the job")

    def begin(self, box: BoxProcess) -> None:
        """The same, until the processor runs at the cluster and is heard here."""
        self.give(box)
        until(self.is_heard, what="the start: " + self.cluster.logs())

    def is_heard(self) -> bool:
        return self.folder.log.exists() and "began" in self.folder.log.read_text()

    def let_go(self, code: int = 0) -> None:
        (self.processor / "new").write_text(str(code))
        (self.processor / "new").rename(self.processor / "go")

    def ends(self, attempt: int | None = 1, outcome: str = "success", patience: float = 60.0) -> None:
        """Wait until all is over; ledger, folder, log and station agree on one result."""
        until(lambda: is_quiet(self.root), patience, what=f"the end: {self.job}\n{self.log}{self.cluster.jobs()}")
        assert (self.job.attempt, self.job.outcome) == (attempt or self.job.attempt, outcome), self.log
        assert sorted(path.name for path in self.folder.output.iterdir() if path.suffix != ".dcm") == ["made"]
        assert len(list(self.folder.output.glob("*.dcm"))) == 2
        assert self.folder.log.read_text().splitlines() == ["began", "the end"]
        assert self.goal.seen.total() == (2 if outcome == "success" else 0)
        assert set(self.goal.seen.values()) <= {1}

    def agrees(self) -> None:
        """Once no box runs: ``verify`` finds nothing."""
        data = DataFolder(self.root)
        ledger = Ledger(data.ledger, readonly=True)
        try:
            found = verify(data, ledger, quick=False, running=False)
        finally:
            ledger.close()
        assert [each for each in found if each.severity == "error"] == []


@pytest.fixture
def house(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{PATH}")
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        made = House(slurm, root, goal)
        made.processor.mkdir()
        (made.processor / "slow").write_text(SLOW)
        (made.processor / "slow").chmod(0o755)
        made.declare()
        yield made
    made.agrees()


# --- it works -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "outcome"), [(0, "success"), (7, "failed")])
def test_a_study_goes_through_the_cluster(house: House, code: int, outcome: str) -> None:
    house.declare(resources={"cpus": 2, "memory": "1G", "gpus": 1, "slurm": {"partition": "main"}})
    with house.box() as box:
        house.begin(box)
        told = json.loads(house.folder.attempt(1).run.read_text())
        assert (told["engine"], told["slurm"]) == ("slurm", f"mb-{house.job.id}-1")
        shown = house.cluster.ask("scontrol", "show", "job", told["slurm_id"])
        assert "NumCPUs=2" in shown
        assert "gres:gpu:1" in shown
        assert "Requeue=0" in shown
        house.let_go(code)
        house.ends(outcome=outcome)
    assert house.cluster.jobs()[f"mb-{house.job.id}-1"] == ("COMPLETED" if code == 0 else "FAILED")


# --- the box stops, and is killed ---------------------------------------------------------------------------------


def test_a_run_goes_on_while_the_box_is_stopped(house: House) -> None:
    with house.box() as box:
        house.begin(box)
    assert house.job.state.value == "RUNNING"
    assert "goes-on" in house.log
    house.agrees()
    assert house.cluster.jobs()[f"mb-{house.job.id}-1"] == "RUNNING"
    with house.box():
        until(lambda: " rejoin " in house.log, what="the rejoin")
        house.let_go()
        house.ends()
    assert "interrupted" not in house.log


def test_a_run_ends_while_the_box_is_down(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        box.kill()
    house.let_go(7)
    until(lambda: (house.marks() / "end").exists(), what="the end at the node")
    with house.box():
        house.ends(outcome="failed")


STAGES = {
    "prepared": ("RUN_PREPARED", 1, 2),
    "about to submit": ("RUN_STARTED", 1, 2),
    "submitted": ("RUN_STARTED", 2, 1),
    "over": ("RUN_ENDED", 1, 1),
    "result": ("RUN_RESULT", 1, 1),
    "published": ("RUN_PUBLISHED", 1, 1),
    "said": ("RUN_SAID", 1, 1),
}


OFTEN, RARELY = ("about to submit", "submitted", "over", "result"), ("prepared", "published", "said")


@pytest.mark.kill
@pytest.mark.parametrize("stage", [*OFTEN, *(pytest.param(each, marks=pytest.mark.soak) for each in RARELY)])
def test_the_box_is_killed(house: House, stage: str) -> None:
    step, nth, attempt = STAGES[stage]
    house.let_go()
    with house.box(step, nth) as box:
        house.give(box)
        assert box.wait(40) == -signal.SIGKILL
    with house.box():
        house.ends(attempt)


@pytest.mark.kill
def test_the_box_is_killed_before_it_knows_the_number(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = house.root.parent / "programs"
    programs.mkdir()
    (programs / "sbatch").write_text('#!/bin/sh\n/usr/bin/sbatch "$@" && kill -9 $PPID\n')
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with house.box() as box:
        house.give(box)
        assert box.wait() == -signal.SIGKILL
    assert "slurm_id" not in json.loads(house.folder.attempt(1).run.read_text())
    (programs / "sbatch").unlink()
    with house.box():
        until(house.is_heard, what="what it prints")
        house.let_go()
        house.ends(1)


@pytest.mark.kill
@pytest.mark.soak
def test_two_hundred_jobs_at_the_cluster_are_found_again(house: House, tmp_path: Path) -> None:
    with house.box(settle=0) as box:
        assert box.port is not None
        for number in range(200):
            assert send(box.port, study(tmp_path / f"study{number}", 1), "Slow").unanswered == set()
        until(lambda: len(house.cluster.jobs()) >= 200, 180, what=f"{len(house.cluster.jobs())} jobs at the cluster")
        box.kill()
    began = time.monotonic()
    with house.box():
        until(lambda: house.log.count(" rejoin ") == 200, 10, what="all of them taken up")
        print(f"200 jobs taken up {time.monotonic() - began:.1f} s after the start of the box")
        house.let_go()
        until(lambda: is_quiet(house.root), 400, what="their ends")
    assert {(job.attempt, job.outcome) for job in all_jobs(house.root)} == {(1, "success")}
    assert house.goal.seen.total() == 200
    assert set(house.goal.seen.values()) == {1}


# --- the cluster is killed, down, or paused -----------------------------------------------------------------------


@pytest.mark.kill
def test_the_controller_is_killed_while_it_runs(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        house.cluster.kill("slurmctld")
        house.let_go()
        house.ends()
        house.cluster.start("slurmctld")
    assert house.starts() == 1


@pytest.mark.kill
def test_the_controller_is_killed_just_after_the_submission(house: House) -> None:
    house.let_go()
    with house.box() as box:
        house.give(box)
        until(lambda: "slurm_id" in house.record(), what="the submission")
        house.cluster.kill("slurmctld")
        house.cluster.start("slurmctld")
        until(lambda: is_quiet(house.root), 90, what=f"the end: {house.log}")
        house.ends(None)
    assert house.starts() == 1


@pytest.mark.kill
def test_a_node_daemon_is_killed_and_comes_back(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        node = (house.marks() / "begun").read_text().split()[1]
        house.cluster.kill(node)
        house.let_go()
        house.ends()
        house.cluster.start(node)
    assert house.starts() == 1


@pytest.mark.kill
def test_a_step_daemon_is_killed_and_its_script_goes_on(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        [step] = house.cluster.steps()
        step.kill()
        house.let_go()
        house.ends()
    assert house.starts() == 1


@pytest.mark.kill
@pytest.mark.soak
def test_slurm_calls_a_job_over_whose_script_goes_on(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        node = (house.marks() / "begun").read_text().split()[1]
        [step] = house.cluster.steps()
        step.kill()
        house.cluster.kill(node)
        house.cluster.start(node)  # it misses its job, and says so
        name = f"mb-{house.job.id}-1"
        until(lambda: house.cluster.jobs()[name] not in ("RUNNING", "COMPLETING"), 90, what="Slurm's word")
        said = time.monotonic()
        until(lambda: time.monotonic() - said > 2 * LATE, what="longer than marks may take")
        house.let_go()
        house.ends()
    assert house.starts() == 1


@pytest.mark.kill
def test_a_node_is_lost_with_all_that_runs_on_it(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        node = (house.marks() / "begun").read_text().split()[1]
        [step] = house.cluster.steps()
        scripts = step.children(recursive=True)
        house.cluster.kill(node)
        for process in (step, *scripts):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        until(lambda: house.job.attempt == 2, 120, what=f"the second attempt: {house.log}")
        house.let_go()
        house.ends(2)
        house.cluster.start(node)
    assert "did not tell its end" in house.log
    assert house.starts() == 2
    assert not (house.folder.attempt(1).path / "OUTPUT" / "made").exists()


def test_slurm_starts_a_script_again(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        house.cluster.ask("scontrol", "update", f"JobId={house.record()['slurm_id']}", "Requeue=1")
        [step] = house.cluster.steps()
        step.kill()
        second = house.cluster.ask("sbatch", "--parsable", "--job-name=again", str(house.marks() / "job.sh")).strip()
        until(lambda: house.cluster.jobs().get("again") == "FAILED", 60, what=house.cluster.ask("squeue"))
        assert second.isdigit()
        house.let_go()
        house.ends()
    assert house.starts() == 1


def test_slurm_is_down_when_a_study_comes(house: House) -> None:
    house.cluster.kill("slurmctld")
    house.let_go()
    with house.box() as box:
        house.give(box)
        until(lambda: "Slurm does not" in (house.job.reason or ""), 60, what=f"the reason: {house.job}")
        assert house.job.state.value == "READY"
        house.cluster.start("slurmctld")
        house.ends(None, patience=120)
    assert house.starts() == 1


def test_somebody_cancels_its_job_at_the_cluster(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        house.cluster.ask("scancel", house.record()["slurm_id"])
        until(lambda: house.job.attempt == 2, what="the second attempt")
        house.let_go()
        house.ends(2)
    assert "cancelled at the cluster" in house.log


def test_a_person_cancels_what_runs(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        name = f"mb-{house.job.id}-1"
        box.ask("cancel-job", house.job.id)
        until(lambda: house.job.state.value == "HELD", what=f"the hold: {house.job}")
        until(lambda: house.cluster.jobs()[name] not in ("RUNNING", "COMPLETING"), what=f"{house.cluster.jobs()}")
        house.let_go()
        box.ask("release", house.job.id)
        house.ends(2)
    assert house.starts() == 2


def test_a_chain_goes_through_the_cluster_and_outlives_a_stop(house: House) -> None:
    (house.processor / "first").write_text('#!/bin/sh\ncp "$1"/* "$2"/; echo first\n')
    (house.processor / "first").chmod(0o755)
    steps = [{"name": "first", "command": ["./first"]}, {"name": "slow", "command": ["./slow"]}]
    (house.processor / "processor.json").write_text(json.dumps({"steps": steps}))
    with house.box() as box:
        house.begin(box)
    assert house.job.state.value == "RUNNING"
    house.let_go()
    with house.box():
        until(lambda: is_quiet(house.root), 60, what=house.log)
    assert (house.job.outcome, house.goal.seen.total()) == ("success", 2)
    begun = list(house.folder.path.glob("attempts/*/steps/*/slurm/begun"))
    assert len(begun) == 2, "no step was run twice"


# --- what nobody can grant ----------------------------------------------------------------------------------------

TOO_MUCH = {
    "memory": {"memory": "9T"},
    "cpus": {"cpus": 5000},
    "gpus": {"gpus": 7},
    "time": {"slurm": {"partition": "small"}},
}


@pytest.mark.parametrize("wish", TOO_MUCH)
def test_resources_that_no_node_has(house: House, wish: str) -> None:
    house.declare(resources=TOO_MUCH[wish])
    with house.box() as box:
        house.give(box)
        until(lambda: is_quiet(house.root), what=f"the end: {house.job}")
        assert house.job.outcome == "failed"
        assert "no node of the cluster can take it" in (house.job.message or "")
        assert house.job.attempt == 1


def test_a_partition_that_is_not_there(house: House) -> None:
    house.declare(resources={"slurm": {"partition": "nowhere"}})
    house.let_go()
    with house.box() as box:
        house.give(box)
        until(lambda: "partition nowhere" in (house.job.reason or ""), what=f"the reason: {house.job}")
        assert house.job.state.value == "READY"
        house.declare(resources={"slurm": {"partition": "main"}})
        house.ends(None)


def test_a_node_that_does_not_see_the_data_folder(house: House, tmp_path: Path) -> None:
    house.let_go()
    for node in ("n1", "n2"):
        house.cluster.kill(node)
        house.cluster.start(node, hidden=house.root)
    house.cluster.wait_ready()
    with house.box() as box:
        house.give(box)
        until(lambda: "does not see the data folder" in (house.job.reason or ""), what=f"the reason: {house.job}")
        assert house.job.state.value == "READY"
        for node in ("n1", "n2"):
            house.cluster.kill(node)
            house.cluster.start(node)
        house.cluster.wait_ready()
        house.ends(None, patience=90)
