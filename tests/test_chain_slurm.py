"""Chains whose steps run at a real Slurm: one after another, and on while the box is stopped or killed."""

import json
from pathlib import Path

import pytest
from boxprocess import is_quiet, until
from test_slurm_box import House, house  # noqa: F401  a fixture

from magickbox.jobfolder import AttemptFolder

FIRST = '#!/bin/sh\ncp "$1"/* "$2"/; echo first; echo first >> "$BESIDE/begun"; echo kept > "$2/first"\n'
SLOW = '#!/bin/sh\necho began; until [ -e "$BESIDE/go" ]; do sleep 0.1; done; cp "$1"/* "$2"/; echo the end\n'
LAST = '#!/bin/sh\n[ -e "$1/first" ] || exit 9\necho last; cp "$1"/* "$2"/\n'


def declare(house: House, *order: str) -> None:  # noqa: F811
    """A chain of these scripts; what they tell of themselves is not in the drop-in's folder, whose version it is."""
    for name, text in (("first", FIRST), ("slow", SLOW), ("last", LAST)):
        (house.processor / name).write_text(text)
        (house.processor / name).chmod(0o755)
    beside = {"BESIDE": str(house.root.parent)}
    told = {"steps": [{"name": name, "command": [f"./{name}"], "environment": beside} for name in order]}
    (house.processor / "processor.json").write_text(json.dumps(told))


def ends(house: House, attempt: int) -> Path:  # noqa: F811
    (house.root.parent / "go").touch()
    until(lambda: is_quiet(house.root), 60, f"the end: {house.job}\n{house.log}{house.cluster.jobs()}")
    assert (house.job.attempt, house.job.outcome) == (attempt, "success"), house.log
    assert {path.name for path in house.folder.output.iterdir() if path.suffix != ".dcm"} == {"first"}
    assert house.goal.seen.total() == len(house.goal.seen) == 2
    assert (house.root.parent / "begun").read_text() == "first\n", "a step that has ended is not run again"
    return house.folder.attempt(attempt).path


@pytest.mark.kill
def test_the_last_step_goes_on_without_the_box(house: House) -> None:  # noqa: F811
    declare(house, "first", "slow")
    with house.box(sandbox="off") as box:
        house.begin(box)
        box.kill()
    assert house.job.state.value == "RUNNING"
    with house.box(sandbox="off"):
        until(lambda: " rejoin " in house.log, what="the rejoin")
        top = ends(house, 1)
    assert json.loads(AttemptFolder(top).step(2).run.read_text())["slurm"] == f"mb-{house.job.id}-1-s2"
    assert house.folder.log.read_text().splitlines() == [
        "[magickbox: step 1 of 2 (first)]", "first", "[magickbox: step 2 of 2 (slow)]", "began", "the end",
    ]  # fmt: skip


def test_a_step_in_the_middle_goes_on_and_the_next_one_begins_then(house: House) -> None:  # noqa: F811
    declare(house, "first", "slow", "last")
    with house.box(sandbox="off") as box:
        house.begin(box)
    with house.box(sandbox="off"):
        until(lambda: " rejoin " in house.log, what="the rejoin")
        ends(house, 2)
    assert house.job.interrupted == 0
    lines = house.folder.log.read_text().splitlines()
    assert [line.rpartition(": ")[2] for line in lines[:2]] == ["done in an earlier run]"] * 2
    assert lines[2:] == ["[magickbox: step 3 of 3 (last)]", "last"]
