"""Containers of a podman whose user has no further users (/etc/subuid), as a service's user has none."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from containers import CONF, Podman
from test_container_engine import (  # noqa: F401  engine_of_containers is a fixture
    IMAGE,
    ContainerBench,
    engine_of_containers,
    make_bench,
)

from magickbox.engine import Run
from magickbox.engines.container_cli import Finder


@dataclass(frozen=True)
class Lonely(Podman):
    """That podman: it sees itself as user 54321, who is us outside."""

    @property
    def words(self) -> str:
        return f"unshare --user --map-user=54321 --map-group=54321 {super().words}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in super().environment.items() if key != "XDG_RUNTIME_DIR"}
        return {**kept, "HOME": str(self.place / "home")}


@dataclass
class LonelyBench(ContainerBench):
    """The bench, with the image loaded from an archive."""

    def with_image(self, run: Run, image: str, **more: object) -> Run:
        return super().with_image(run, image, image_archive=self.place / "image.tar", **more)


@pytest.fixture
def bench(engine_of_containers: Podman, tmp_path: Path) -> Iterator[LonelyBench]:  # noqa: F811
    place = Path(tempfile.mkdtemp(prefix="mb-"))  # podman takes no longer name than 50 letters
    (place / "home").mkdir(parents=True)
    (place / "containers.conf").write_text(CONF)
    one = Lonely(place)
    done = subprocess.run([*one.words.split(), "info"], env=one.environment, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"podman does not work without root here: {done.stderr.splitlines()[-1]}")
    engine_of_containers.ask("save", "--quiet", "--output", str(tmp_path / "image.tar"), IMAGE)
    yield LonelyBench(**vars(make_bench(one, tmp_path)))
    one.close()
    end_pauses(place / "home")


def end_pauses(home: Path) -> None:
    """End what podman leaves to hold a user namespace: here each call has one of its own."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"HOME={home}".encode() in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)


def test_it_runs_as_the_only_user_that_there_is(bench: LonelyBench) -> None:
    assert Finder(bench.podman.environment, bench.podman.words).get().alone
    ended, run = bench.shell('cp -r "$1/." "$2/"; touch "$2/own"; grep CapEff /proc/self/status; id -u')
    assert (ended.exit_code, ended.last_line) == (0, "0"), ended
    assert run.log.read_text().splitlines()[-2].split() == ["CapEff:", "0" * 16]
    assert (run.output / "own").stat().st_uid == os.getuid()


def test_root_has_further_users(engine_of_containers: Podman) -> None:  # noqa: F811
    assert not Finder(engine_of_containers.environment, engine_of_containers.words).get().alone
