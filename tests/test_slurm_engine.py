"""Processors as jobs of a real Slurm: the contract of Engine."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from slurmcluster import Cluster, slurm, slurm_cluster  # noqa: F401  fixtures
from test_engines import (  # noqa: F401  the contract suite, collected here with this module's bench
    Bench,
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
from magickbox.engines.slurm_client import SlurmClient
from magickbox.engines.slurm_verdict import Patience
from magickbox.engines.slurm_watch import Rhythm

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
    client = SlurmClient(cluster.environment, answer=5.0)
    return SlurmEngine(client, environment, place, lambda name: place / name, settings, told.append)


def python() -> tuple[Path, ...]:
    """Where this Python lies: nodes on this machine have it."""
    return (Path(sys.executable).parent.parent, Path(sys.prefix), Path(sys.base_prefix))


@pytest.fixture
def bench(slurm: Cluster, tmp_path: Path) -> Iterator[SlurmBench]:  # noqa: F811  the fixture
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
