"""``magickbox check`` with the engine slurm: a real cluster is tried, node by node."""

import json
from pathlib import Path

import pytest
from slurmcluster import PATH, Cluster

from magickbox.cli.main import main


@pytest.fixture
def place(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setenv("PATH", PATH)
    monkeypatch.setenv("MAGICKBOX_ENGINE", "slurm")
    monkeypatch.setenv("MAGICKBOX_WEB", "false")
    monkeypatch.setattr("magickbox.engines.configured.TRIAL", 15.0)
    (tmp_path / "data" / "state").mkdir(parents=True)
    (tmp_path / "processors").mkdir()
    return tmp_path


def check(place: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main(["check", "--data", str(place / "data"), "--processors", str(place / "processors")])
    lines = capsys.readouterr().out.splitlines()
    assert list((place / "data" / "state").glob("slurm-*")) == []
    return code, [line for line in lines if "cluster: " in line]


def drop(place: Path, partition: str) -> None:
    folder = place / "processors" / "Segment"
    folder.mkdir()
    (folder / "processor.json").write_text(
        json.dumps({"command": ["true"], "resources": {"slurm": {"partition": partition}}})
    )


def test_each_node_is_tried(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(place, capsys) == (
        0, ["ok       cluster: the default partition: data folder and processors are seen by n1, n2"]
    )  # fmt: skip


def test_a_node_that_does_not_see_the_folder_is_named(
    slurm: Cluster, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    slurm.kill("n2")
    slurm.start("n2", hidden=place / "data")
    slurm.wait_ready()
    try:
        code, told = check(place, capsys)
    finally:
        slurm.kill("n2")
        slurm.start("n2")
    assert (code, told[0]) == (
        1, "ok       cluster: the default partition: data folder and processors are seen by n1"
    )  # fmt: skip
    assert told[1:] == [f"PROBLEM  cluster: node n2 does not see the data folder {place}/data"]


def test_a_partition_of_a_processor_that_is_not_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop(place, "nowhere")
    code, told = check(place, capsys)
    assert (code, told[1:]) == (1, ["PROBLEM  cluster: there is no partition nowhere; there are main, small"])


def test_a_controller_that_is_down(
    slurm: Cluster, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    slurm.kill("slurmctld")
    code, told = check(place, capsys)
    assert code == 1
    assert told[0].startswith("PROBLEM  cluster: Slurm does not answer: ")


def test_a_machine_without_slurm(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(place))
    code, told = check(place, capsys)
    assert (code, told) == (1, ["PROBLEM  cluster: sbatch is not installed on this machine"])
