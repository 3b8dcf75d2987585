"""A box that is killed while a container runs: the run is found again by its name, and its own end is taken."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from boxprocess import BoxProcess, Station, all_jobs, is_quiet, running, send, set_up, station, until
from containers import Podman, podman
from studies import study

from magickbox.datafolder import DataFolder
from magickbox.job import Job
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Ledger
from magickbox.verification.verify import verify

pytestmark = pytest.mark.kill

SLOW = """#!/bin/sh
echo began; echo trouble >&2; touch /memory/up
n=0
while ! [ -e /memory/go ]; do n=$((n+1)); [ $((n % 5)) = 0 ] && [ $n -lt 40 ] && echo "line $n"; sleep 0.1; done
cp /input/* /output/; echo made > /output/made; printf 'the end'; exit $(cat /memory/go)
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    one = podman(tmp_path_factory.mktemp("podman"))
    one.image("test/slow:1", {"slow": SLOW}, 'CMD ["/slow"]')
    yield one
    one.close()


@dataclass
class House:
    """A data folder with a slow processor, whose container a test lets go on."""

    one: Podman
    root: Path
    place: Path
    goal: Station

    def box(self, **more: object) -> AbstractContextManager[BoxProcess]:
        return running(self.root, settings={"container_engine": self.one.words, **more})

    @property
    def memory(self) -> Path:
        return self.root / "state" / "memory" / "Slow"

    @property
    def folder(self) -> JobFolder:
        return JobFolder(self.root / "jobs" / self.job.id)

    @property
    def job(self) -> Job:
        [job] = all_jobs(self.root)
        return job

    @property
    def log(self) -> str:
        return (self.root / "logs" / "process.log").read_text()

    def begin(self, box: BoxProcess) -> None:
        """Send a study and wait until its container runs and has been heard."""
        assert box.port is not None
        assert send(box.port, study(self.place / "one", 2), "Slow").unanswered == set()
        until(lambda: (self.memory / "up").exists() and "trouble" in self.folder.log.read_text(), what="the container")

    def let_go(self, code: int) -> None:
        (self.memory / "new").write_text(str(code))
        (self.memory / "new").rename(self.memory / "go")

    def is_over(self) -> bool:
        return self.one.ask("ps", "--quiet") == ""

    def ends(self, attempt: int, exit_code: int, outcome: str) -> None:
        """Wait until all is over; the container is gone, and the ledger, the folder and the log agree."""
        until(lambda: is_quiet(self.root), what=f"the end: {self.job}")
        assert (self.job.attempt, self.job.outcome) == (attempt, outcome)
        assert json.loads(self.folder.attempt(attempt).result.read_text())["exit"] == exit_code
        assert (self.folder.output / "made").read_text() == "made\n"
        assert len(list(self.folder.output.glob("*.dcm"))) == 2
        lines = self.folder.log.read_text().splitlines()
        assert sorted(lines[:2]) == ["began", "trouble"]
        assert lines[2:] == [*(f"line {5 * n}" for n in range(1, len(lines) - 2)), "the end"]
        assert self.one.ask("ps", "--all", "--quiet") == ""
        assert self.goal.seen.total() == (2 if outcome == "success" else 0)

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
def house(one: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("CONTAINERS_CONF", str(one.place / "containers.conf"))
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        folder = root / "processors" / "Slow"
        folder.mkdir()
        (folder / "processor.json").write_text(json.dumps({"image": "test/slow:1"}))
        house = House(one, root, tmp_path, goal)
        yield house
        one.ask("rm", "--all", "--force")
    house.agrees()


def kill_with_a_run(house: House) -> None:
    with house.box() as box:
        house.begin(box)
        box.kill()
    assert not house.is_over(), "a kill of the box does not reach its container"


@pytest.mark.parametrize(("code", "outcome"), [(0, "success"), (7, "failed"), (126, "failed")])
def test_it_runs_on_and_its_end_is_taken(house: House, code: int, outcome: str) -> None:
    kill_with_a_run(house)
    with house.box(slots=1) as box:
        assert box.port is not None, "the box starts while the container runs"
        until(lambda: " rejoin " in house.log, what="the rejoin")
        house.let_go(code)
        house.ends(1, code, outcome)
    assert "interrupted" not in house.log


@pytest.mark.parametrize(("code", "outcome"), [(0, "success"), (7, "failed")])
def test_it_ends_while_the_box_is_down(house: House, code: int, outcome: str) -> None:
    kill_with_a_run(house)
    house.let_go(code)
    until(house.is_over, what="the container to end")
    with house.box():
        house.ends(1, code, outcome)


def test_it_is_removed_while_the_box_is_down(house: House) -> None:
    kill_with_a_run(house)
    house.one.ask("rm", "--all", "--force")
    house.let_go(0)
    with house.box():
        house.ends(2, 0, "success")
    assert "interrupted" in house.log


def waits_for(name: str) -> bool:
    commands = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return any(command[-2:] == ["wait", name] for command in commands)


def test_the_box_is_killed_again_while_it_waits(house: House) -> None:
    kill_with_a_run(house)
    for _ in range(2):
        with house.box() as box:
            until(lambda: " rejoin " in house.log, what="the rejoin")
            until(lambda: waits_for(f"mb-{house.job.id}-1"), what="the wait")
            box.kill()
    house.let_go(0)
    with house.box():
        house.ends(1, 0, "success")


def test_its_drop_in_has_gone_meanwhile(house: House) -> None:
    kill_with_a_run(house)
    (house.root / "processors" / "Slow").rename(house.place / "Slow")
    with house.box():
        house.let_go(0)
        house.ends(1, 0, "success")


def test_a_rejoined_run_has_a_slot(house: House) -> None:
    kill_with_a_run(house)
    with house.box(slots=1) as box:
        assert box.port is not None
        assert send(box.port, study(house.place / "two", 1), "COPY").unanswered == set()
        until(lambda: len(all_jobs(house.root)) == 2, what="the second job")
        states = states_of(house.root)
        assert states == {"Slow": "RUNNING", "COPY": "READY"}, "its slot is taken"
        house.let_go(0)
        until(lambda: is_quiet(house.root), what="both")
        assert house.goal.seen.total() == 3
        assert {job.attempt for job in all_jobs(house.root)} == {1}


def states_of(root: Path) -> dict[str, str]:
    return {job.called_ae: job.state.value for job in all_jobs(root)}


def test_its_time_counts_from_its_start(house: House) -> None:
    declared = house.root / "processors" / "Slow" / "processor.json"
    declared.write_text(json.dumps({"image": "test/slow:1", "timeout": 10}))
    kill_with_a_run(house)
    with house.box():
        until(lambda: is_quiet(house.root), what="the end")
        assert (house.job.attempt, house.job.message) == (1, "out of time after 10 s")


def test_a_box_that_stops_ends_it(house: House) -> None:
    kill_with_a_run(house)
    with house.box():
        until(lambda: " rejoin " in house.log, what="the rejoin")
    assert house.one.ask("ps", "--all", "--quiet") == ""
    assert house.job.state.value == "READY"
    house.let_go(0)
    with house.box():
        house.ends(2, 0, "success")
