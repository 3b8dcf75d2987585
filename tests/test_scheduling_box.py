"""What waits, and for how long, in real boxes: room by resources, and what no machine has."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from boxes import Image
from boxprocess import all_jobs, running, set_up, until
from callers import IMAGES, Caller

from magickbox.cli.main import main
from magickbox.job import Job, JobState
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
