"""A whole box with processors in containers: our own, a bucket, a module of mercure, and an image that is missing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boxprocess import all_jobs, is_quiet, running, send, set_up, station, until
from containers import Podman, podman
from studies import study

from magickbox.job import JobState
from magickbox.jobfolder import JobFolder

CLI = [sys.executable, "-m", "magickbox.cli.main"]
MODULE = """#!/bin/sh
cp "$MERCURE_IN_DIR"/*.dcm "$MERCURE_OUT_DIR"/
count=$(ls "$MERCURE_IN_DIR" | grep -c '#')
echo '{"__mercure_notification": {"text": "'"$count"' images"}}' > "$MERCURE_OUT_DIR/result.json"
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    one = podman(tmp_path_factory.mktemp("podman"))
    yield one
    one.close()


@pytest.fixture
def root(one: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTAINERS_CONF", str(one.place / "containers.conf"))
    return tmp_path / "data"


def drop(root: Path, name: str, **declared: object) -> Path:
    folder = root / "processors" / name
    folder.mkdir(parents=True)
    (folder / "processor.json").write_text(json.dumps(declared))
    return folder


def run_of(root: Path) -> dict[str, Any]:
    [job] = all_jobs(root)
    return dict(json.loads((JobFolder(root / "jobs" / job.id).attempt(job.attempt).run).read_text()))


def go(root: Path, one: Podman, tmp_path: Path, called: str) -> None:
    """Send a study to ``called`` and wait until all is over."""
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, settings={"container_engine": one.words}) as box:
            assert box.port is not None
            until(lambda: (root / "state" / "images.json").exists() and "being" not in state(root), what="the image")
            assert send(box.port, study(tmp_path / "one", 3), called).unanswered == set()
            until(lambda: len(all_jobs(root)) == 1 and is_quiet(root), what="the job")
        assert sum(goal.seen.values()) == 3


def state(root: Path) -> str:
    return (root / "state" / "images.json").read_text()


def test_a_container_in_a_box_loaded_from_its_archive(one: Podman, root: Path, tmp_path: Path) -> None:
    one.image("test/copy:1", {"copy": '#!/bin/sh\ncp /input/* /output/; echo "$MAGICKBOX_JOB"\n'}, 'CMD ["/copy"]')
    image = one.ask("image", "inspect", "--format", "{{.Id}}", "test/copy:1")
    folder = drop(root, "Copier", image="test/copy:1", image_archive="./copy.tar")
    one.ask("save", "--quiet", "--output", str(folder / "copy.tar"), "test/copy:1")
    one.ask("rmi", "test/copy:1")
    go(root, one, tmp_path, "Copier")
    run = run_of(root)
    assert (run["engine"], run["image"], run["image_id"]) == ("podman", "test/copy:1", image)
    assert run["image_digest"].startswith("sha256:")
    [job] = all_jobs(root)
    assert (root / "jobs" / job.id / "processing.log").read_text() == f"{job.id}\n"
    assert " image processor=Copier image=test/copy:1 " in (root / "logs" / "process.log").read_text()
    assert one.ask("ps", "--all", "--quiet") == ""
    shown = cli(root, "processors", "list", "--processors", str(root / "processors"))
    assert "waits" not in shown


def test_links_made_in_a_container_become_the_files_they_lead_to(one: Podman, root: Path, tmp_path: Path) -> None:
    script = """#!/bin/sh
set -- /input/*; ln -s "$1" /output/first; mkdir /output/deep; cd /output/deep; cp "$3" moved
ln -s ../../input/${2##*/} second; ln -s /output/deep/moved ../third; ln -s /etc/hostname host
"""
    one.image("test/link:1", {"link": script}, 'CMD ["/link"]')
    drop(root, "Linker", image="test/link:1")
    set_up(root, 1)
    with running(root, settings={"container_engine": one.words}) as box:
        assert box.port is not None
        until(lambda: (root / "state" / "images.json").exists() and "being" not in state(root), what="the image")
        assert send(box.port, study(tmp_path / "one", 3), "Linker").unanswered == set()
        until(lambda: bool(all_jobs(root)) and bool(all_jobs(root)[0].outcome), what="the job")
    [job] = all_jobs(root)
    folder = root / "jobs" / job.id
    told = "left out of OUTPUT: 1 link that leads elsewhere or nowhere (deep/host)"
    assert (job.outcome, job.message) == ("success", told)
    left = {str(path.relative_to(folder / "OUTPUT")): path for path in (folder / "OUTPUT").rglob("*") if path.is_file()}
    assert sorted(left) == ["deep/moved", "deep/second", "first", "third"]
    assert not any(path.is_symlink() for path in left.values())
    sources = [path.read_bytes() for path in sorted((folder / "INPUT").iterdir())]
    assert [left[name].read_bytes() for name in ("first", "deep/second", "third")] == sources


def test_a_bucket_in_a_box_is_called_by_its_own_title(one: Podman, root: Path, tmp_path: Path) -> None:
    info = {"name": "b", "description": "an old bucket", "version": "0.3", "AETitle": "OldBucket", "enabled": 1}
    work = '#!/bin/bash\n[ $# -eq 2 ] || exit 1\ncp "$1"/* "$2"/\n'
    one.image("bucket", {"root/work.sh": work, "root/storage/info.json": json.dumps(info)}, 'CMD ["/bin/bash"]')
    drop(root, "mybucket", image="bucket")
    go(root, one, tmp_path, "OLDBUCKET")
    run = run_of(root)
    assert run["processor"] == "mybucket"
    assert run["command"] == ["/bin/bash", "-l", "-c", "/root/work.sh /input /output"]
    shown = cli(root, "processors", "list", "--processors", str(root / "processors"))
    assert "OldBucket" in shown
    assert "an old bucket" in shown


def test_a_module_of_mercure_in_a_box(one: Podman, root: Path, tmp_path: Path) -> None:
    one.image("mercure/module:1", {"docker-entrypoint.sh": MODULE}, 'CMD ["./docker-entrypoint.sh"]')
    drop(root, "Module", image="mercure/module:1", convention="mercure", settings={"sigma": 7})
    go(root, one, tmp_path, "Module")
    [job] = all_jobs(root)
    assert (job.outcome, job.message) == ("success", "3 images")
    assert run_of(root)["command"] == ["./docker-entrypoint.sh"]


def test_an_image_that_is_missing_keeps_its_jobs_waiting(one: Podman, root: Path, tmp_path: Path) -> None:
    set_up(root, 1)
    folder = drop(root, "Later", image="test/later:1", image_archive="./later.tar")
    (folder / "later.tar").write_bytes(b"half copied")
    with running(root, settings={"container_engine": one.words}) as box:
        assert box.port is not None
        assert send(box.port, study(tmp_path / "one", 1), "Later").unanswered == set()
        until(lambda: any("later.tar cannot be loaded" in job.reason for job in all_jobs(root)), what="the reason")
        assert "later.tar cannot be loaded" in (root / "logs" / "process.log").read_text()
        listing = ("processors", "list", "--processors", str(root / "processors"))
        assert "later.tar cannot be loaded" in cli(root, *listing)
        check = cli(root, "check", "--processors", str(root / "processors"), code=1, engine=one.words)
        assert "PROBLEM  processor Later: the image test/later:1 of processor Later is not here" in check
        one.image("test/later:1", {"later": "x"}, 'CMD ["/bin/cp", "/input/.", "/output/", "-r"]')
        one.ask("save", "--quiet", "--output", str(tmp_path / "new.tar"), "test/later:1")
        os.replace(tmp_path / "new.tar", folder / "later.tar")
        until(lambda: all_jobs(root)[0].state is JobState.ATTENTION or all_jobs(root)[0].outcome == "success")
        assert all_jobs(root)[0].outcome == "success"


def test_a_drop_in_removed_while_its_job_runs(one: Podman, root: Path, tmp_path: Path) -> None:
    wait = "touch /memory/up; while ! [ -e /memory/go ]; do sleep 0.1; done; ls /processor; cp /input/* /output/"
    one.image("test/wait:1", {"wait": f"#!/bin/sh\n{wait}\n"}, 'CMD ["/wait"]')
    memory = root / "state" / "memory" / "Wait"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        folder = drop(root, "Wait", image="test/wait:1")
        with running(root, settings={"container_engine": one.words}) as box:
            assert box.port is not None
            assert send(box.port, study(tmp_path / "one", 2), "Wait").unanswered == set()
            until(lambda: (memory / "up").exists(), what="the container")
            shutil.rmtree(folder)
            until(lambda: "Wait" not in state(root), what="the box to see it")
            (memory / "go").touch()
            until(lambda: sum(goal.seen.values()) == 2 and is_quiet(root), what="the delivery")
    assert one.ask("image", "inspect", "--format", "{{.Id}}", "test/wait:1"), "an image that was here before stays"


def cli(root: Path, *words: str, code: int = 0, engine: str = "") -> str:
    environment = {**os.environ, **({"MAGICKBOX_CONTAINER_ENGINE": engine} if engine else {})}
    done = subprocess.run(
        [*CLI, *words, "--data", str(root)], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout
