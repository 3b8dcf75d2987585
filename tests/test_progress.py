"""How far a run says it is: what counts as such a line, what it costs, and where it is shown."""

import json
import os
from pathlib import Path

import pytest
from boxes import Image
from boxprocess import all_jobs, running, set_up, until
from callers import IMAGES, Caller

from magickbox import progress
from magickbox.cli.main import main
from magickbox.engines.output_log import BURST, OutputLog

LINES = {
    "progress: 40%\n": 0.4,
    "Progress: 12.5 %\r\n": 0.125,
    "hello\nprogress:3/10\nmore\n": 0.3,
    "progress: 10%\rprogress: 20%\r": 0.2,
    "progress: 10%\nprogress: 2": 0.1,
    "progress: 3/1": None,
    "progress: 101%\n": None,
    "progress: 5/0\n": None,
    "progress: 11/10\n": None,
    "in progress: 40% of it\n": None,
    "no progress: 40%\n": None,
    "progress: well\n": None,
}


@pytest.mark.parametrize(("said", "share"), LINES.items())
def test_what_counts_as_progress(said: str, share: float | None) -> None:
    assert progress.in_output(said.encode()) == share


def test_a_line_in_pieces_counts_too_and_the_file_goes_with_the_run(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "processing.log", 1000)
    seen = []
    for piece in (b"begin\nprog", b"ress: 4", b"0%", b"\n", b"x" * 100_000, b"\nprogress: 9/10\n", b"done\n"):
        log.write(piece)
        seen.append(progress.read(tmp_path / "progress"))
    assert seen == [None, None, None, 0.4, 0.4, 0.9, 0.9]
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["processing.log"]


def test_a_flood_is_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []
    monkeypatch.setattr(progress, "write", lambda _path, share: written.append(share))
    log = OutputLog(tmp_path / "processing.log", 1000)
    for n in range(10_000):
        log.write(b"progress: %d/10000\n" % (n % 2 * 5000 + n // 10))  # to and fro
    log.close()
    assert BURST <= len(written) <= BURST + 30


def test_the_end_of_a_flood_counts(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "processing.log", 1000)
    for n in range(10_000):
        log.write(b"progress: %d/10000\n" % n)
    assert progress.read(tmp_path / progress.FILE) == pytest.approx(0.99)
    log.close()


def test_whatever_lies_in_the_place_of_the_file_is_harmless(tmp_path: Path) -> None:
    place = tmp_path / "progress"
    assert progress.read(place) is None
    (tmp_path / "secret").write_text("40%\n")
    place.symlink_to(tmp_path / "secret")
    assert progress.read(place) is None
    place.unlink()
    os.mkfifo(place)
    assert progress.read(place) is None
    place.unlink()
    place.mkdir()
    assert progress.read(place) is None
    place.rmdir()
    for text, share in (("40%", 0.4), ("progress: 1/4\n", 0.25), ("\x00\xff", None), ("", None), ("9" * 300, None)):
        place.write_bytes(text.encode("latin-1"))
        assert progress.read(place) == share


def test_it_is_shown_while_a_processor_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(tmp_path, 1)
    go = tmp_path / "processors" / "Far" / "go"
    go.parent.mkdir()
    wait = f"while [ ! -e {go}$1 ]; do sleep 0.05; done"
    (go.parent / "run.sh").write_text(
        f"#!/bin/sh\ngate() {{ {wait}; }}\necho progress: 1/4; gate 1\necho 70% > progress; gate 2\n"
    )
    (go.parent / "run.sh").chmod(0o755)
    (go.parent / "processor.json").write_text(json.dumps({"command": ["./run.sh"]}))
    place = ["--data", str(tmp_path)]
    with running(tmp_path, settings={"settle": 0}) as box:
        assert box.port is not None
        with Caller(box.port) as caller:
            caller.associate(IMAGES, called=b"Far")
            assert caller.store(Image("1.2.3.1", study="1.2.4.1")).status == 0
            caller.release()
        for share, gate in ((0.25, "1"), (0.7, "2")):
            until(lambda s=share: [run["progress"] for run in box.status()["runs"]] == [s])  # type: ignore[misc]
            (run,) = box.status()["runs"]
            assert (run["processor"], run["attempt"]) == ("Far", 1)
            capsys.readouterr()
            assert main(["jobs", "show", run["job"], *place]) == 0
            assert f"progress   {progress.shown(share)}" in capsys.readouterr().out
            assert main(["status", *place]) == 0
            assert f"{progress.shown(share)}\n" in capsys.readouterr().out
            go.with_name(f"go{gate}").touch()
        until(lambda: [job.outcome for job in all_jobs(tmp_path)] == ["success"])
        until(lambda: box.status()["runs"] == [])  # its slot is free a moment after its outcome
        folder = tmp_path / "jobs" / run["job"]
        assert not (folder / "progress").exists()
        assert not (folder / "attempts" / "1" / "progress").exists()
