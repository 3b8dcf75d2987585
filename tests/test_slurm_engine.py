"""Processors as jobs of a real Slurm: the contract of Engine."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from slurmcluster import Cluster
from test_engines import (  # noqa: F401  the contract suite, collected here with this module's bench
    Bench,
    in_background,
    open_files,
    test_a_crowd_is_gone,
    test_a_daemon_is_gone_and_holds_nothing_up,
    test_a_full_disk_loses_log_lines_only,
    test_a_log_that_cannot_be_made_stops_nothing,
    test_a_run_that_never_was_cannot_be_taken_up,
    test_binary_output_is_kept_as_it_is,
    test_children_end_with_a_timeout,
    test_closed_output_is_not_the_end,
    test_environment,
    test_exit_code_and_last_line_are_told,
    test_input_is_closed_and_no_other_file_is_open,
    test_log_is_live,
    test_one_name_runs_once,
    test_out_of_time,
    test_out_of_time_with_sigterm_ignored,
    test_output_of_an_earlier_run_stays,
    test_paths_with_blanks_and_letters_of_the_world,
    test_signal_is_a_negative_code,
    test_sigterm_leaves_time_to_clean_up,
    test_started_is_told_once_and_early,
    test_stop_from_another_thread,
    test_stop_of_nothing_is_no_error,
    test_stop_wins_over_an_exit_code,
    test_success_leaves_output_and_log,
    test_temporary_files_are_private_and_go,
    test_trouble_in_started_ends_the_run_and_is_passed_on,
    test_trouble_of_the_machine_is_not_the_processors,
    test_two_hundred_megabytes_are_bounded_and_do_not_block,
    test_what_could_not_start_says_why,
    wait_until,
)

from magickbox.engine import Ended
from magickbox.engines.local import clean_environment
from magickbox.engines.slurm import ClusterSettings, SlurmEngine
from magickbox.engines.slurm_client import Refused, SlurmClient
from magickbox.engines.slurm_verdict import Patience
from magickbox.engines.slurm_watch import Rhythm
from magickbox.errors import EngineDown

SOON = Patience(late=8.0, beat=0.5)
OFTEN = Rhythm((0.05, 0.2), (0.3, 1.0))


@dataclass
class SlurmBench(Bench):
    """The bench, with scripts that run as jobs of a cluster."""

    cluster: Cluster = field(kw_only=True)
    told: list[str] = field(kw_only=True)

    @property
    def names(self) -> set[str]:
        return {"slurm"}

    @property
    def tellings(self) -> int:
        return 2

    @property
    def soon(self) -> float:
        return 5.0

    @property
    def quick(self) -> float:
        return 20.0


def engine(cluster: Cluster, place: Path, told: list[str], **more: object) -> SlurmEngine:
    inherited = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SECRET_OF_THE_BOX": "x", "TZ": "Europe/Berlin"}
    settings = ClusterSettings(shows=python(), patience=SOON, rhythm=OFTEN, **more)  # type: ignore[arg-type]  # fields
    environment = clean_environment(inherited, Path(sys.executable))
    client = SlurmClient(cluster.environment, answer=4.0)
    return SlurmEngine(client, environment, place, lambda name: place / name, settings, told.append)


def python() -> tuple[Path, ...]:
    """Where this Python lies: nodes on this machine have it."""
    return (Path(sys.executable).parent.parent, Path(sys.prefix), Path(sys.base_prefix))


@pytest.fixture
def bench(slurm: Cluster, tmp_path: Path) -> Iterator[SlurmBench]:
    told: list[str] = []
    made = SlurmBench(engine(slurm, tmp_path, told), tmp_path, True, cluster=slurm, told=told)
    open_before = open_files()
    yield made
    wait_until(lambda: threading.active_count() == 1, 20.0)
    assert open_files() <= open_before, "the engine left files open"


def test_many_at_once_do_not_mix(bench: SlurmBench) -> None:
    command = bench.script('echo "$MAGICKBOX_RUN"; setsid sleep 60 & exit $((${MAGICKBOX_RUN##*-} % 200))')
    runs = [bench.prepare(command, f"mb-many-{number}") for number in range(24)]
    with ThreadPoolExecutor(24) as pool:
        results = list(pool.map(lambda run: bench.engine.run(run, lambda _: None), runs))
    assert results == [Ended(number, f"mb-many-{number}") for number in range(24)]


def test_a_run_that_waits_at_the_cluster_is_stopped_and_never_begins(bench: SlurmBench) -> None:
    run = bench.prepare(bench.script("echo up"), "mb-waits-1")
    bench.cluster.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        pool, result = in_background(bench, run)
        with pool:
            wait_until(lambda: bench.cluster.jobs().get(run.name) == "PENDING")
            bench.engine.stop(run.name, "enough")
            assert result() == Ended(None, interrupted="enough")
        wait_until(lambda: bench.cluster.jobs()[run.name] == "CANCELLED")
    finally:
        bench.cluster.ask("scontrol", "update", "PartitionName=main", "State=UP")
    assert not (run.workdir / "slurm" / "begun").exists()


def test_a_script_that_comes_too_late_does_nothing(bench: SlurmBench) -> None:
    run = bench.prepare(bench.script("echo up; touch $2/ran"))
    assert bench.engine.run(run, lambda _: None) == Ended(0, "up")
    before = {path.name: path.stat().st_mtime_ns for path in (run.workdir / "slurm").iterdir()}
    (run.output / "ran").unlink()
    script = str(run.workdir / "slurm" / "job.sh")
    bench.cluster.ask("sbatch", "--job-name=late", "--output=/dev/null", "--chdir=/", script)
    wait_until(lambda: bench.cluster.jobs().get("late") == "FAILED", 20.0)
    assert list(run.output.iterdir()) == []
    assert {path.name: path.stat().st_mtime_ns for path in (run.workdir / "slurm").iterdir()} == before


def test_a_processor_cannot_reach_the_marks(bench: SlurmBench) -> None:
    ended, _ = bench.shell('ls -A slurm; echo "0 exit 1 0 n1" > slurm/end || echo closed; exit 3')
    assert (ended.exit_code, ended.last_line) == (3, "closed")


def test_what_no_shell_may_read_as_its_own(bench: SlurmBench) -> None:
    """Words of a processor reach it as they are, also those that a shell would take for a command."""
    words = ("$(touch /tmp/mb-never)", "`id`", "a'b\"c", "*", "; exit 9", "line\nline", "-n", "")
    run = bench.prepare((*bench.script('for each; do printf "%s|" "$each"; done > "$MAGICKBOX_OUTPUT/words"'), *words))
    run = replace(run, processor=replace(run.processor, environment=(("TRICK", "'; touch /tmp/mb-never; '"),)))
    assert bench.engine.run(run, lambda _: None).exit_code == 0
    assert (run.output / "words").read_text().split("|")[: len(words)] == list(words)
    assert not Path("/tmp/mb-never").exists()


def test_a_slurm_that_says_nothing_keeps_nothing_from_its_end(
    bench: SlurmBench, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("magickbox.engines.slurm_watch.SILENT", 2.0)
    run = bench.prepare(bench.script('echo up; while ! [ -e "$2/go" ]; do sleep 0.1; done; echo over'), "mb-silent-1")
    pool, result = in_background(bench, run)
    with pool:
        wait_until(lambda: bool(run.log.exists() and run.log.read_text()))
        bench.cluster.pause("slurmctld")
        try:
            wait_until(lambda: any("silent for" in told for told in bench.told), 40.0)
            assert bench.told[0].startswith("Slurm does not answer: squeue took more than")
            assert bench.engine.refusal(run.processor) is not None, "nothing is submitted now"
            (run.output / "go").touch()
            assert result() == Ended(0, "over")
        finally:
            bench.cluster.go_on("slurmctld")
    wait_until(lambda: bench.engine.refusal(run.processor) is None, 20.0)


SAID = {
    "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified": False,
    "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid partition name "
    "specified": False,
    "sbatch: error: Batch job submission failed: Invalid qos specification": False,
    "sbatch: error: Batch job submission failed: User's group not permitted to use this partition": False,
    "sbatch: error: Memory specification can not be satisfied\nsbatch: error: Batch job submission failed: Requested "
    "node configuration is not available": True,
    "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)": True,
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)": None,
    "": None,
}


@pytest.mark.parametrize("said", SAID)
def test_what_sbatch_says_is_the_processors_the_clusters_or_no_answer(
    said: str, tmp_path: Path
) -> None:  # fmt: skip
    """An account that is not there can only be had from a cluster with accounting; its words are known."""
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    client = SlurmClient({"PATH": f"{tmp_path}:/usr/bin:/bin"})
    with pytest.raises((Refused, EngineDown)) as caught:
        client.submit([], tmp_path / "job.sh")
    assert (caught.value.lasting if isinstance(caught.value, Refused) else None) == SAID[said]
    assert "sbatch: error" not in str(caught.value)


def test_a_sweep_ends_what_no_run_knows_and_nothing_else(bench: SlurmBench) -> None:
    """A job of this box without a run is one that sbatch gave to the cluster after the box had given it up."""
    run = bench.prepare(bench.script('echo up; while ! [ -e "$2/go" ]; do sleep 0.1; done'), "mb-known-1")
    script = bench.place / "stray.sh"
    script.write_text("#!/bin/sh\nsleep 60\n")
    pool, result = in_background(bench, run)
    with pool:
        wait_until(lambda: bool(run.log.exists() and run.log.read_text()))
        shown = bench.cluster.ask("squeue", "-h", "-n", run.name, "-O", "Comment:80").strip()
        for name, comment in (("mb-stray-1", shown), ("mb-spared-1", shown), ("mb-foreign-1", "magickbox-other")):
            bench.cluster.ask("sbatch", f"--job-name={name}", f"--comment={comment}", "-o", "/dev/null", str(script))
        assert bench.engine.sweep({"mb-spared-1"}) == 1
        (run.output / "go").touch()
        assert result() == Ended(0, "up")
    states = bench.cluster.jobs()
    assert states["mb-stray-1"] in ("CANCELLED", "COMPLETING")
    assert {states["mb-spared-1"], states["mb-foreign-1"]} <= {"PENDING", "RUNNING"}
