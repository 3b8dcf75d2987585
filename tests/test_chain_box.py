"""Chains in a whole box: killed at each boundary of a step, with containers that outlive it; tried without a box."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boxprocess import all_jobs, is_quiet, running, send, set_up, station, until
from containers import Podman, podman
from studies import study
from test_chains import ADD, drop
from test_containers_box import cli
from test_kill import check_promise

from magickbox.job import Job
from magickbox.jobfolder import JobFolder
from magickbox.steps import Step

OF_STEPS = (Step.STEP_PREPARED, Step.STEP_STARTED, Step.STEP_ENDED, Step.STEP_RESULT)
WAIT = "echo began; touch /memory/up; while ! [ -e /memory/go ]; do sleep 0.1; done; cp -r /input/. /output/; echo over"


def three(root: Path) -> None:
    """A chain of three scripts, each of which leaves a line beside the data folder when it begins."""
    place = root / "processors"
    scripts = {f"{name}.sh": f"{ADD.format(name)}; echo {name} >> {root.parent}/begun" for name in ("a", "b", "c")}
    steps = [{"name": name, "command": [f"./{name}.sh"]} for name in ("a", "b", "c")]
    drop(place, "Chain", scripts, steps=steps, AETitle="COPY")
    for other in place.iterdir():
        if other.name != "Chain":
            other.unlink()


def one_job(root: Path) -> Job:
    [job] = all_jobs(root)
    return job


def log_of(root: Path) -> str:
    log = JobFolder(root / "jobs" / one_job(root).id).log
    return log.read_text() if log.exists() else ""


def results(root: Path) -> list[str]:
    """What is left of the steps of the newest attempt."""
    steps = JobFolder(root / "jobs" / one_job(root).id).attempt(one_job(root).attempt).steps
    return sorted(
        str(path.relative_to(steps))
        for path in steps.rglob("*")
        if not path.name.endswith(".token") and path.name != "of"
    )


@pytest.mark.kill
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("step", OF_STEPS, ids=lambda step: step.name)
def test_killed_at_this_boundary(tmp_path: Path, step: Step, nth: int) -> None:
    """No step that has ended is run again; each instance arrives once, with what all steps did."""
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        three(root)
        with running(root, step=step.name, nth=nth, settings={"sandbox": "off"}) as box:
            assert box.port is not None
            sent = send(box.port, study(tmp_path / "one", 2), "COPY")
            assert box.wait() == -signal.SIGKILL
        ended = nth if step is Step.STEP_RESULT else nth - 1
        with running(root, settings={"sandbox": "off"}):
            until(lambda: is_quiet(root), 40, str(all_jobs(root)))
        check_promise(root, sent.acknowledged, goal.seen, in_flight=0)
    begun = (tmp_path / "begun").read_text().split()
    for number, name in enumerate("abc", 1):
        assert begun.count(name) == 1 or (number == ended + 1 and begun.count(name) <= 2), (begun, ended)
    assert log_of(root).count("done in an earlier run") == ended
    job = one_job(root)
    assert (job.outcome, job.attempt) == ("success", 2)
    output = {path.name for path in (root / "jobs" / job.id / "OUTPUT").iterdir()}
    assert {"a", "b", "c"} < output
    assert len(output) == 5
    assert results(root) == [*(f"{n}{part}" for n in (1, 2, 3) for part in ("", "/result.json", "/run.json"))]
    assert not (root / "jobs" / job.id / "attempts" / "1" / "steps").exists()


def test_a_step_that_fails_ends_the_job_and_nothing_is_sent(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        three(root)
        drop(root / "processors", "Chain", {"b.sh": "echo no model; exit 3"}, steps=[
            {"name": "a", "command": ["./a.sh"]}, {"name": "b", "command": ["./b.sh"]}, {"command": ["./c.sh"]},
        ], AETitle="COPY")  # fmt: skip
        with running(root, settings={"sandbox": "off"}) as box:
            assert box.port is not None
            send(box.port, study(tmp_path / "one", 2), "COPY")
            until(lambda: bool(all_jobs(root)) and bool(one_job(root).outcome), what="the end")
            until(lambda: is_quiet(root), what=str(all_jobs(root)))
        assert goal.seen.total() == 0
    job = one_job(root)
    assert (job.outcome, job.message) == ("failed", "step 2 of 3 (b): exit code 3: no model")
    assert list((root / "jobs" / job.id / "OUTPUT").iterdir()) == []
    assert "1/OUTPUT/a" in results(root)
    [said] = json.loads((root / "jobs" / job.id / "proc.json").read_text())
    assert said == {"success": "failed", "message": "step 2 of 3 (b): exit code 3: no model"}
    listed = cli(root, "processors", "list", "--processors", str(root / "processors"))
    assert "a -> b -> 3" in listed


def test_a_stop_of_the_box_in_the_middle(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        three(root)
        waits = f"echo waits; until [ -e {tmp_path}/go ]; do sleep 0.05; done; {ADD.format('b')}"
        (root / "processors" / "Chain" / "b.sh").write_text(f"#!/bin/sh\n{waits}\n")
        with running(root, settings={"sandbox": "off"}) as box:
            assert box.port is not None
            sent = send(box.port, study(tmp_path / "one", 2), "COPY")
            until(lambda: bool(all_jobs(root)) and "waits" in log_of(root), what="the second step")
        assert one_job(root).reason == "interrupted: step 2 of 3 (b): the box stops"
        (tmp_path / "go").touch()
        with running(root, settings={"sandbox": "off"}):
            until(lambda: is_quiet(root), 40, str(all_jobs(root)))
        check_promise(root, sent.acknowledged, goal.seen, in_flight=0)
    assert (tmp_path / "begun").read_text().split() == ["a", "c"]
    assert one_job(root).interrupted == 0


# --- containers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    one = podman(tmp_path_factory.mktemp("podman"))
    one.image("test/wait:1", {"wait": f"#!/bin/sh\n{WAIT}\n"}, 'CMD ["/wait"]')
    yield one
    one.close()


@pytest.fixture
def root(one: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTAINERS_CONF", str(one.place / "containers.conf"))
    return tmp_path / "data"


def mixed(root: Path, *more: dict[str, Any]) -> Path:
    """A script, a container of its own, and what a test adds; returns where the container keeps its folder."""
    three(root)
    scripts = {"a.sh": ADD.format("a"), "c.sh": ADD.format("c")}
    steps = [{"name": "a", "command": ["./a.sh"]}, {"name": "wait", "image": "test/wait:1"}, *more]
    drop(root / "processors", "Chain", scripts, steps=steps, AETitle="COPY")
    return root / "state" / "memory" / "Chain%2Fwait"


@pytest.mark.kill
@pytest.mark.parametrize("last", [False, True])
def test_a_container_that_outlives_the_box_is_taken_up(one: Podman, root: Path, tmp_path: Path, last: bool) -> None:
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        memory = mixed(root, *([] if last else [{"name": "c", "command": ["./c.sh"]}]))
        with running(root, settings={"container_engine": one.words}) as box:
            assert box.port is not None
            until(lambda: (root / "state" / "images.json").exists(), what="the image")
            sent = send(box.port, study(tmp_path / "one", 2), "COPY")
            until(lambda: (memory / "up").exists() and "began" in log_of(root), what="the container")
            box.kill()
        assert one.ask("ps", "--quiet") != "", "a kill of the box does not reach its container"
        with running(root, settings={"container_engine": one.words}):
            until(lambda: " rejoin " in (root / "logs" / "process.log").read_text(), what="the rejoin")
            (memory / "go").touch()
            until(lambda: is_quiet(root), 40, str(all_jobs(root)))
        check_promise(root, sent.acknowledged, goal.seen, in_flight=0)
    job = one_job(root)
    assert (job.outcome, job.attempt, job.interrupted) == ("success", 1 if last else 2, 0)
    logs = [JobFolder(root / "jobs" / job.id).log, *(root / "jobs" / job.id / "attempts").glob("*/processing.log")]
    text = "".join(path.read_text() for path in logs)
    assert [text.count(word) for word in ("step a", "began\n", "over\n", "step c")] == [1, 1, 1, 0 if last else 1]
    run = JobFolder(root / "jobs" / job.id).attempt(job.attempt).step(2).run
    told = json.loads(run.read_text())
    assert (told["image"], told["container"]) == ("test/wait:1", f"mb-{job.id}-1-s2")
    assert json.loads(run.with_name("result.json").read_text())["seconds"] > 0, "what it took counts for the whole"
    assert one.ask("ps", "--all", "--quiet") == ""


def test_a_chain_is_examined_and_tried(one: Podman, root: Path, tmp_path: Path) -> None:
    memory = mixed(root, {"processor": "Named", "environment": {"WHO": "me"}})
    assert not memory.exists()
    scripts = {"run.sh": 'cp -r "$1"/. "$2"/; echo "$WHO"'}
    drop(root / "processors", "Named", scripts, command=["./run.sh"], environment={"WHO": "nobody"})
    one.image("test/wait:1", {"wait": "#!/bin/sh\ncp -r /input/. /output/\n"}, 'CMD ["/wait"]')
    listing = ("--processors", str(root / "processors"))
    assert "ok       Chain" in cli(root, "processors", "check", *listing, engine=one.words)
    study(tmp_path / "study", 2)
    told = cli(root, "processors", "run", "Chain", str(tmp_path / "study"), *listing, engine=one.words)
    assert "[magickbox: step 3 of 3 (Named)]\nme\n" in told
    assert "outcome    success" in told
    assert "2 DICOM files, 1 other" in told
    drop(root / "processors", "Named", scripts, command=["./run.sh", "--x"], resources={"memory": "900T"})
    checked = cli(root, "processors", "check", "Chain", *listing, engine=one.words, code=1)
    assert "PROBLEM  Chain: step 3 of 3 (Named): asks for 900 TB of memory" in checked
    one.image("test/wait:1", {"wait": f"#!/bin/sh\n{WAIT}\n"}, 'CMD ["/wait"]')


def test_an_image_of_a_step_that_is_missing_keeps_the_jobs_waiting(one: Podman, root: Path, tmp_path: Path) -> None:
    set_up(root, 1)
    three(root)
    drop(root / "processors", "Chain", {}, AETitle="COPY", steps=[
        {"name": "a", "command": ["./a.sh"]}, {"image": "test/none:1", "image_archive": "./none.tar"},
    ])  # fmt: skip
    (root / "processors" / "Chain" / "none.tar").write_bytes(b"none")
    told = "step 2 of 2 (2): the image test/none:1 of processor Chain/2 is not here: none.tar cannot be loaded"
    with running(root, settings={"container_engine": one.words}) as box:
        assert box.port is not None
        send(box.port, study(tmp_path / "one", 1), "COPY")
        until(lambda: any(told in job.reason for job in all_jobs(root)), what="the reason")
    assert told in cli(root, "processors", "list", "--processors", str(root / "processors"))
    check = cli(root, "check", "--processors", str(root / "processors"), code=1, engine=one.words)
    assert "processor Chain/2: the image test/none:1" in check
