"""What waits, and for how long, in real boxes: room by resources, and what no machine has."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from boxes import Image
from boxprocess import all_jobs, running, set_up, until
from callers import IMAGES, Caller

from magickbox.cli.main import main
from magickbox.datafolder import DataFolder
from magickbox.job import Job, JobPriority, JobState
from magickbox.ledger import Ledger, Transaction, jobs
from magickbox.schedule import read_hours

SPAN = '#!/bin/sh\ndate +%s.%N > "$2/began"\nsleep 0.7\ndate +%s.%N > "$2/ended"\n'


def drop(root: Path, name: str, script: str = SPAN, **keys: object) -> None:
    """A drop-in in a folder of its own."""
    folder = root / "processors" / name
    folder.mkdir()
    (folder / "run.sh").write_text(script)
    (folder / "run.sh").chmod(0o755)
    (folder / "processor.json").write_text(json.dumps({"command": ["./run.sh"], **keys}))


def store(port: int | None, called: str, number: int) -> None:
    """Send a study of one image."""
    assert port is not None
    with Caller(port) as caller:
        caller.associate(IMAGES, called=called.encode())
        assert caller.store(Image(f"1.2.3.{number}", study=f"1.2.4.{number}")).status == 0
        caller.release()


def of(root: Path, called: str) -> list[Job]:
    """The jobs for a called AE title, oldest first."""
    return sorted((job for job in all_jobs(root) if job.called_ae == called), key=lambda job: job.born)


def span(root: Path, job: Job) -> tuple[float, float]:
    """When its processor began and ended."""
    began, ended = ((root / "jobs" / job.id / "OUTPUT" / name).read_text() for name in ("began", "ended"))
    return float(began), float(ended)


@contextmanager
def reading(root: Path) -> Iterator[Transaction]:
    """One look at the ledger."""
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    try:
        with ledger.reading() as tx:
            yield tx
    finally:
        ledger.close()


def are_over(root: Path, count: int) -> bool:
    found = all_jobs(root)
    return len(found) == count and all(job.outcome is not None for job in found)


def overlap(root: Path, one: Job, other: Job) -> bool:
    (began, ended), (later, end) = span(root, one), span(root, other)
    return began < end and later < ended


def test_runs_share_the_machine_by_what_they_ask_for(tmp_path: Path) -> None:
    set_up(tmp_path, 1)
    drop(tmp_path, "Big", resources={"cpus": 3})
    drop(tmp_path, "Small", resources={"memory": "100M"})
    with running(tmp_path, settings={"slots": 4, "cpus": 4, "memory": "1G", "settle": 0}) as box:
        store(box.port, "Big", 1)
        store(box.port, "Big", 2)
        store(box.port, "Small", 3)
        until(lambda: are_over(tmp_path, 3))
    (first, second), (small,) = of(tmp_path, "Big"), of(tmp_path, "Small")
    assert not overlap(tmp_path, first, second), "3 + 3 cores are more than 4"
    assert overlap(tmp_path, first, small), "3 + 1 are not"


def test_what_no_machine_has_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(tmp_path, 1)
    drop(tmp_path, "Huge", resources={"cpus": 64, "memory": "900G"})
    (tmp_path / "magickbox.toml").write_text("cpus = 4\n")
    with running(tmp_path, settings={"cpus": 4, "settle": 0}) as box:
        store(box.port, "Huge", 1)
        until(lambda: [job.state for job in all_jobs(tmp_path)] == [JobState.ATTENTION])
        (job,) = all_jobs(tmp_path)
        assert (job.outcome, job.processor, job.attempt) == ("failed", "Huge", 0)
        said = "processor Huge asks for 64 processor cores (resources.cpus), and this box has 4 to give"
        assert job.message.startswith(said)
        assert json.loads((tmp_path / "jobs" / job.id / "proc.json").read_text())[0]["success"] == "failed"
    capsys.readouterr()
    place = ["--data", str(tmp_path), "--processors", str(tmp_path / "processors")]
    assert main(["check", *place]) == 1
    assert f"PROBLEM  {said}".replace("Huge", "Huge:", 1) in capsys.readouterr().out
    assert main(["processors", "list", *place]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Huge")]
    assert "unfit" in line
    assert "asks for 64 processor cores" in line


def test_what_is_urgent_goes_first_and_a_person_may_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(tmp_path, 1)
    gate = 'while [ ! -e "$MAGICKBOX_PROCESSOR/go" ]; do sleep 0.05; done\n' + SPAN.partition("\n")[2]
    drop(tmp_path, "First", "#!/bin/sh\n" + gate, timeout=60)
    drop(tmp_path, "Normal")
    drop(tmp_path, "Soon", priority="urgent")
    with running(tmp_path, settings={"slots": 1, "settle": 0}) as box:
        store(box.port, "First", 1)
        until(lambda: [job.state for job in of(tmp_path, "First")] == [JobState.RUNNING])
        for number, called in enumerate(("Normal", "Normal", "Soon"), 2):
            store(box.port, called, number)
            until(lambda n=number: len(all_jobs(tmp_path)) == n)  # type: ignore[misc]
        second, third = of(tmp_path, "Normal")
        (soon,) = of(tmp_path, "Soon")
        place = ["--data", str(tmp_path)]
        assert main(["jobs", "priority", third.id, "urgent", *place]) == 0
        assert capsys.readouterr().out == f"{third.id} is urgent now\n"
        (tmp_path / "processors" / "First" / "go").touch()
        until(lambda: are_over(tmp_path, 4), what="all four")
        assert main(["jobs", "priority", third.id, "urgent", *place]) == 1
        assert "only a job that is still to run" in capsys.readouterr().err
        assert main(["jobs", "show", third.id, *place]) == 0
        assert "priority   urgent" in capsys.readouterr().out
    order = sorted((second, third, soon), key=lambda job: span(tmp_path, job)[0])
    assert [job.id for job in order] == [third.id, soon.id, second.id]


def test_off_peak_waits_for_its_hours_unless_a_person_says_otherwise(tmp_path: Path) -> None:
    set_up(tmp_path, 1)
    later = datetime.now() + timedelta(hours=2)
    hours = f"{later:%H}:00-{later + timedelta(hours=1):%H}:00"
    drop(tmp_path, "Night", "#!/bin/sh\n", priority="off-peak", hours=hours)
    drop(tmp_path, "Tonight", "#!/bin/sh\n", priority="off-peak")
    drop(tmp_path, "Always", "#!/bin/sh\n", priority="off-peak", hours="00:00-24:00")
    with running(tmp_path, settings={"settle": 0, "off_peak": hours}) as box:
        for number, called in enumerate(("Night", "Tonight", "Always")):
            store(box.port, called, number)
        until(lambda: [job.outcome for job in of(tmp_path, "Always")] == ["success"])
        told = f"off-peak: waits for its hours ({read_hours(hours)})"
        until(lambda: [job.reason for called in ("Night", "Tonight") for job in of(tmp_path, called)] == [told] * 2)
        box.ask("normal", of(tmp_path, "Night")[0].id)
        until(lambda: [job.outcome for job in of(tmp_path, "Night")] == ["success"])
        assert of(tmp_path, "Tonight")[0].state is JobState.READY


def test_of_a_processor_no_more_runs_than_it_allows(tmp_path: Path) -> None:
    set_up(tmp_path, 1)
    drop(tmp_path, "Licensed", concurrency=1)
    drop(tmp_path, "Other")
    with running(tmp_path, settings={"slots": 3, "settle": 0}) as box:
        for number, called in enumerate(("Licensed", "Licensed", "Other")):
            store(box.port, called, number)
        until(lambda: are_over(tmp_path, 3))
    (first, second), (other,) = of(tmp_path, "Licensed"), of(tmp_path, "Other")
    assert not overlap(tmp_path, first, second)
    assert overlap(tmp_path, first, other)


def test_what_failed_passingly_is_made_again_in_a_folder_of_its_own(tmp_path: Path) -> None:
    set_up(tmp_path, 1)
    tries = 'n=$(basename "$PWD")\necho "try $n"\necho "$n" > "$2/made-$n"\n'
    twice = {"times": 2, "on": ["exit:75"], "pause": 0.2}
    drop(tmp_path, "Third", f"#!/bin/sh\n{tries}[ $n = 3 ] || exit 75\n", retry=twice)
    drop(tmp_path, "Never", f"#!/bin/sh\n{tries}exit 75\n", retry={"times": 1, "on": ["exit:75", "oom"], "pause": 0})
    drop(tmp_path, "Slow", "#!/bin/sh\nsleep 60\n", timeout=0.3, retry={"times": 1, "on": ["timeout"], "pause": 0})
    drop(tmp_path, "Other", f"#!/bin/sh\n{tries}exit 76\n", retry={"times": 1, "on": ["exit:75", "timeout"]})
    with running(tmp_path, settings={"settle": 0}) as box:
        for number, called in enumerate(("Third", "Never", "Slow", "Other")):
            store(box.port, called, number)
        until(lambda: are_over(tmp_path, 4))
    found = {called: of(tmp_path, called)[0] for called in ("Third", "Never", "Slow", "Other")}
    assert {called: (job.outcome, job.attempt) for called, job in found.items()} == {
        "Third": ("success", 3), "Never": ("failed", 2), "Slow": ("failed", 2), "Other": ("failed", 1),
    }  # fmt: skip
    folder = tmp_path / "jobs" / found["Third"].id
    assert [path.name for path in (folder / "OUTPUT").iterdir()] == ["made-3"]
    assert [(folder / "attempts" / str(n) / "run.json").exists() for n in (1, 2, 3)] == [True] * 3
    assert [(folder / "attempts" / str(n) / "processing.log").read_text() for n in (1, 2)] == ["try 1\n", "try 2\n"]
    assert not (folder / "attempts" / "1" / "OUTPUT").exists()
    assert found["Never"].message == "exit code 75: try 2 (after 2 attempts)"
    assert found["Slow"].message == "out of time after 0.3 s (after 2 attempts)"
    assert found["Other"].message == "exit code 76: try 1"
    with reading(tmp_path) as tx:
        history = [line.reason for line in jobs.history(tx, found["Third"].id)]
        assert "exit code 75: try 1; try 2 of 3 after 0.2 s" in history
        runs = jobs.attempts(tx, found["Third"].id)
        assert [(run.n, run.exit_code, run.outcome) for run in runs] == [
            (1, 75, "failed"), (2, 75, "failed"), (3, 0, "success"),
        ]  # fmt: skip
    assert "tried-again" in (tmp_path / "logs" / "process.log").read_text()


def test_a_job_whose_run_is_to_be_made_again_waits_for_that_over_a_restart(tmp_path: Path) -> None:
    set_up(tmp_path, 1)
    drop(tmp_path, "Later", "#!/bin/sh\nexit 75\n", retry={"times": 1, "on": ["exit:75"], "pause": 3600})
    drop(tmp_path, "Other", "#!/bin/sh\n")
    with running(tmp_path, settings={"settle": 0}) as box:
        store(box.port, "Later", 1)
        until(lambda: [job.not_before is not None for job in all_jobs(tmp_path)] == [True])
    with running(tmp_path, settings={"settle": 0}) as box:
        store(box.port, "Other", 2)
        until(lambda: [job.outcome for job in of(tmp_path, "Other")] == ["success"])
        (later,) = of(tmp_path, "Later")
        assert (later.state, later.attempt) == (JobState.READY, 1)
        box.ask("urgent", later.id)
        (now_is,) = of(tmp_path, "Later")
        assert (now_is.priority, now_is.reason) == (JobPriority.URGENT, later.reason), "it waits as before"
        box.ask("hold", later.id)
        held = of(tmp_path, "Later")[0].reason
        box.ask("normal", later.id)
        assert of(tmp_path, "Later")[0].reason == held != later.reason
        box.ask("release", later.id)
        until(lambda: [job.outcome for job in of(tmp_path, "Later")] == ["failed"], what="at once, as it was released")


def test_a_job_is_cancelled_while_it_runs_and_while_it_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(tmp_path, 1)
    there = tmp_path / "processors" / "Long"
    drop(tmp_path, "Long", f'#!/bin/sh\n[ ! -e {there}/short ] || exit 0\necho "$$" > {there}/pid\nsleep 600\n')
    place = ["--data", str(tmp_path)]
    with running(tmp_path, settings={"slots": 1, "settle": 0, "sandbox": "off"}) as box:
        for number in range(2):
            store(box.port, "Long", number)

        def runs() -> Job:
            return of(tmp_path, "Long")[0]

        def waits() -> Job:
            return of(tmp_path, "Long")[1]

        until(lambda: (there / "pid").exists() and len(all_jobs(tmp_path)) == 2)
        pid = int((there / "pid").read_text())
        assert main(["jobs", "cancel", waits().id, *place]) == 0
        assert capsys.readouterr().out == f"{waits().id} is held\n"
        for _ in range(3):  # a person's word is none of the three interruptions that hold a job
            until(lambda: runs().state is JobState.RUNNING)
            assert main(["jobs", "cancel", runs().id, *place]) == 0
            assert "is told to end" in capsys.readouterr().out
            until(lambda: runs().state is JobState.HELD)
            assert runs().reason.startswith("held, as asked while it was running (cancelled by ")
            assert main(["jobs", "release", runs().id, *place]) == 0
        assert not Path(f"/proc/{pid}").exists()
        until(lambda: runs().state is JobState.RUNNING)
        assert main(["jobs", "cancel", runs().id, *place]) == 0
        until(lambda: runs().state is JobState.HELD)
        (there / "short").touch()
        for job in (runs(), waits()):
            assert main(["jobs", "release", job.id, *place]) == 0
        until(lambda: are_over(tmp_path, 2))
        assert {job.outcome for job in all_jobs(tmp_path)} == {"success"}
        capsys.readouterr()
        assert main(["jobs", "cancel", runs().id, *place]) == 1
        assert "only a job that is READY or RUNNING can be cancelled" in capsys.readouterr().err


def test_of_a_chain_only_the_step_that_failed_passingly_runs_again(tmp_path: Path) -> None:
    set_up(tmp_path, 1)
    begun = tmp_path / "begun"
    drop(tmp_path, "Chain", "#!/bin/sh\n")
    folder = tmp_path / "processors" / "Chain"
    for name, end in (("a", 'echo a > "$2/a"'), ("b", f'[ "$(grep -c b {begun})" = 3 ] || exit 75; echo b > "$2/b"')):
        (folder / f"{name}.sh").write_text(f"#!/bin/sh\necho {name} >> {begun}\n{end}\n")
        (folder / f"{name}.sh").chmod(0o755)
    steps = [{"name": name, "command": [f"./{name}.sh"]} for name in ("a", "b")]
    retry = {"times": 2, "on": ["exit:75"], "pause": 0}
    (folder / "processor.json").write_text(json.dumps({"steps": steps, "retry": retry}))
    with running(tmp_path, settings={"settle": 0, "sandbox": "off"}) as box:
        store(box.port, "Chain", 1)
        until(lambda: are_over(tmp_path, 1))
    (job,) = all_jobs(tmp_path)
    assert (job.outcome, job.attempt) == ("success", 3)
    assert begun.read_text().split() == ["a", "b", "b", "b"]
