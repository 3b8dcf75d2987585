"""Containers on the nodes of a real Slurm: by real podman; Apptainer's command line only, as Debian has no package."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxprocess import all_jobs, is_quiet, running, send, set_up, station, until
from containers import Podman, podman
from slurmcluster import PATH, Cluster
from studies import study

from magickbox.convention import Stage
from magickbox.engine import Run
from magickbox.engines.slurm_container import apptainer
from magickbox.jobfolder import JobFolder
from magickbox.processor import Processor

IMAGE = "localhost/test/cluster:1"
WORK = """#!/bin/sh
echo "began in $(cat /proc/1/comm)"; id -u
while [ -e /processor/wait ] && ! [ -e /processor/go ]; do sleep 0.1; done
cp /input/* /output/; echo made > /output/made; touch /nowhere 2> /dev/null && echo writable
echo the end; exit 0
"""


@pytest.fixture(scope="module")
def boxes_podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    one = podman(tmp_path_factory.mktemp("podman"))
    one.image(IMAGE, {"work": WORK}, 'CMD ["/work"]')
    yield one
    one.close()


@pytest.fixture
def root(
    slurm: Cluster, boxes_podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:  # fmt: skip
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{PATH}")
    monkeypatch.setenv("CONTAINERS_CONF", str(boxes_podman.place / "containers.conf"))
    data = tmp_path / "data"
    (data / "processors" / "Work").mkdir(parents=True)
    (data / "processors" / "Work" / "processor.json").write_text(json.dumps({"image": IMAGE, "timeout": 60}))
    return data


def settings(box: Podman, nodes: Podman) -> dict[str, object]:
    return {"engine": "slurm", "slurm_late": 6, "container_engine": box.words, "slurm_containers": nodes.words}


def folder(root: Path) -> JobFolder:
    [job] = all_jobs(root)
    return JobFolder(root / "jobs" / job.id)


def log_of(root: Path) -> str:
    log = folder(root).log
    return log.read_text() if log.exists() else ""


def ends_well(root: Path, nodes: Podman, attempt: int = 1) -> None:
    until(lambda: is_quiet(root), 60, what=(root / "logs" / "process.log").read_text())
    [job] = all_jobs(root)
    assert (job.attempt, job.outcome) == (attempt, "success"), job
    assert (folder(root).output / "made").read_text() == "made\n"
    assert (folder(root).output / "made").stat().st_uid == os.getuid()
    log = folder(root).log.read_text().splitlines()
    assert log == ["began in podman-init", "65532", "the end"]
    assert nodes.ask("ps", "--all", "--quiet") == ""


def test_a_container_runs_on_a_node(root: Path, boxes_podman: Podman, tmp_path: Path) -> None:
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, settings=settings(boxes_podman, boxes_podman)) as box:
            assert box.port is not None
            send(box.port, study(tmp_path / "one", 2), "Work")
            until(lambda: bool(all_jobs(root)), what="the job")
            ends_well(root, boxes_podman)


def test_a_node_brings_the_image_from_the_archive(
    root: Path, boxes_podman: Podman, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nodes = podman(tmp_path_factory.mktemp("nodes"))
    archive = root / "processors" / "Work" / "image.tar"
    boxes_podman.ask("save", "--quiet", "--output", str(archive), IMAGE)
    declared = {"image": IMAGE, "image_archive": "./image.tar", "timeout": 60}
    (root / "processors" / "Work" / "processor.json").write_text(json.dumps(declared))
    try:
        with station(tmp_path / "station") as goal:
            set_up(root, goal.port)
            with running(root, settings=settings(boxes_podman, nodes)) as box:
                assert box.port is not None
                send(box.port, study(tmp_path / "one", 2), "Work")
                until(lambda: bool(all_jobs(root)), what="the job")
                ends_well(root, nodes)
    finally:
        nodes.close()


def test_a_container_goes_on_while_the_box_is_killed(root: Path, boxes_podman: Podman, tmp_path: Path) -> None:
    (root / "processors" / "Work" / "wait").touch()
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root, settings=settings(boxes_podman, boxes_podman)) as box:
            assert box.port is not None
            send(box.port, study(tmp_path / "one", 2), "Work")
            until(lambda: bool(all_jobs(root)) and "began" in log_of(root), what="the container")
            box.kill()
        (root / "processors" / "Work" / "go").touch()
        with running(root, settings=settings(boxes_podman, boxes_podman)):
            ends_well(root, boxes_podman)


def test_an_image_that_a_node_cannot_bring(
    root: Path, boxes_podman: Podman, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nodes = podman(tmp_path_factory.mktemp("nodes"))
    try:
        with station(tmp_path / "station") as goal:
            set_up(root, goal.port)
            with running(root, settings=settings(boxes_podman, nodes)) as box:
                assert box.port is not None
                send(box.port, study(tmp_path / "one", 1), "Work")
                until(lambda: bool(all_jobs(root)), what="the job")
                said = f"cannot bring the image {IMAGE}"
                until(lambda: said in (all_jobs(root)[0].reason or ""), 60, what=str(all_jobs(root)))
                assert all_jobs(root)[0].state.value == "READY"
    finally:
        nodes.close()


def test_what_apptainer_is_told(tmp_path: Path) -> None:
    resources: tuple[tuple[str, object], ...] = (("gpus", 1),)
    processor = Processor("P", tmp_path / "a, b", (), "P", image="x/y:1", resources=resources)
    run = Run("mb-j-1", "j", 1, processor, tmp_path, tmp_path / "log", 60.0)
    stage = Stage("/in", "/out", command=("/run", "it"), environment=(("KEY", "a b"),), as_root=True, workdir="/w")
    told = apptainer(("apptainer",), run, stage, None, tmp_path / "image.sif", "/srv/box")
    assert told[:8] == ["apptainer", "--silent", "exec", "--containall", "--no-home", "--net", "--network", "none"]
    assert told[8:10] == ["--nv", "--fakeroot"]
    mounts = [told[n + 1] for n, part in enumerate(told) if part == "--mount"]
    assert mounts == [
        f"type=bind,src={tmp_path}/INPUT,dst=/in,ro",
        f"type=bind,src={tmp_path}/OUTPUT,dst=/out",
        f'type=bind,"src={tmp_path}/a, b",dst=/processor,ro',
    ]
    assert {"KEY=a b", "MAGICKBOX_BOX=/srv/box", "MAGICKBOX_RUN=mb-j-1"} <= set(told)
    assert told[-5:] == ["--pwd", "/w", f"{tmp_path}/image.sif", "/run", "it"]
