"""What a bad processor makes of a whole box: too many files, too much log, a drop-in that goes while its job runs."""

from pathlib import Path

import pytest
from boxprocess import all_jobs, is_quiet, running, send, set_up, station, until
from studies import study

from magickbox.job import Job, JobState
from magickbox.jobfolder import JobFolder

MANY = """#!/bin/sh
mkdir "$2/many"; n=0; while [ $n -lt COUNT ]; do : > "$2/many/$n"; n=$((n+1)); done
cp "$1"/* "$2"/; echo made them
"""
CHATTY = '#!/bin/sh\ncp "$1"/* "$2"/; yes "the same line" | head -c COUNT; echo; echo the end\n'
WAITS = """#!/bin/sh
touch "$2/up"; while ! [ -e "$2/go" ]; do sleep 0.05; done
rm "$2/up" "$2/go"; cp "$1"/* "$2"/
"""


def through_a_box(tmp_path: Path, script: str, seconds: float) -> tuple[Job, JobFolder]:
    """One study through the processor ``COPY`` that is this script; two images have to arrive."""
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        (root / "processors" / "COPY").write_text(script)
        with running(root) as box:
            assert box.port is not None
            assert send(box.port, study(tmp_path / "one", 2)).unanswered == set()
            until(lambda: len(all_jobs(root)) == 1 and is_quiet(root), seconds, "the job")
            assert box.status()["jobs_waiting"] == 0, "the box goes on"
        assert goal.seen.total() == 2
    [job] = all_jobs(root)
    return job, JobFolder(root / "jobs" / job.id)


@pytest.mark.parametrize("count", [500, pytest.param(100_000, marks=pytest.mark.soak)])
def test_many_files_in_output(tmp_path: Path, count: int) -> None:
    job, folder = through_a_box(tmp_path, MANY.replace("COUNT", str(count)), 300)
    assert (job.state, job.outcome) == (JobState.DONE, "success")
    assert len(list((folder.output / "many").iterdir())) == count


@pytest.mark.parametrize("count", [70_000_000, pytest.param(1_000_000_000, marks=pytest.mark.soak)])
def test_a_flood_of_log(tmp_path: Path, count: int) -> None:
    job, folder = through_a_box(tmp_path, CHATTY.replace("COUNT", str(count)), 300)
    assert (job.state, job.outcome) == (JobState.DONE, "success")
    assert folder.log.stat().st_size < 64 * 1024 * 1024 + 1000
    assert folder.log.read_bytes().endswith(b"the end\n")


def test_a_script_removed_while_its_job_runs(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        (root / "processors" / "COPY").write_text(WAITS)
        with running(root) as box:
            assert box.port is not None
            assert send(box.port, study(tmp_path / "one", 2)).unanswered == set()
            until(lambda: any(root.glob("jobs/*/attempts/1/OUTPUT/up")), what="the run")
            (root / "processors" / "COPY").unlink()
            next(root.glob("jobs/*/attempts/1/OUTPUT")).joinpath("go").touch()
            until(lambda: is_quiet(root) and goal.seen.total() == 2, what="the delivery")
    assert [(job.state, job.outcome) for job in all_jobs(root)] == [(JobState.DONE, "success")]
