"""Changes of the processors folder are found: soon by the kernel's events, and without them by looking."""

import contextlib
import logging
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from magickbox.dropins.folder import Dropins
from magickbox.dropins.template import new
from magickbox.dropins.watch import MOST_WATCHED, DropinWatch

SLOW, QUICK = 60.0, 0.05  # seconds between looks: events alone, and looks alone


class Told:
    """What a watch told, and a way to wait for it."""

    def __init__(self) -> None:
        self.dropins: list[Dropins] = []
        self.warnings: list[str] = []

    def waits_for(self, true: Callable[[Dropins], bool], seconds: float = 10.0) -> float:
        began = time.monotonic()
        while not (self.dropins and true(self.dropins[-1])):
            assert time.monotonic() - began < seconds, f"waited in vain, the last was {self.dropins[-1:]}"
            time.sleep(0.005)
        return time.monotonic() - began


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watching(tmp_path: Path, told: Told) -> Iterator[Callable[[float], DropinWatch]]:
    started: list[DropinWatch] = []

    def watch(rescan: float) -> DropinWatch:
        started.append(DropinWatch(tmp_path / "processors", told.dropins.append, told.warnings.append, rescan))
        started[-1].start()
        return started[-1]

    yield watch
    for one in started:
        one.stop()
    assert threading.active_count() == 1


@contextlib.contextmanager
def no_file_handles() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


def names(dropins: Dropins) -> list[str]:
    return [one.name for one in dropins.good]


def script(path: Path, text: str = "#!/bin/sh\n") -> None:
    path.write_text(text)
    path.chmod(0o755)


Watching = Callable[[float], DropinWatch]


def test_what_is_there_at_the_start_is_known_at_once(tmp_path: Path, watching: Watching, told: Told) -> None:
    new(tmp_path / "processors", "ProcRSI")
    assert names(watching(SLOW).current) == ["ProcRSI"]
    assert len(told.dropins) == 1


def test_events_tell_soon(tmp_path: Path, watching: Watching, told: Told) -> None:
    place = tmp_path / "processors"
    place.mkdir()
    watch = watching(SLOW)
    assert watch.current == Dropins()

    script(place / "Lone.sh")
    soon = told.waits_for(lambda d: names(d) == ["Lone"])
    made = new(place, "ProcRSI")
    soon = max(soon, told.waits_for(lambda d: names(d) == ["Lone", "ProcRSI"]))
    before = watch.current.good[1].digest
    (made / "run.py").write_text("#!/usr/bin/env python3\n")
    soon = max(soon, told.waits_for(lambda d: d.good[1].digest != before))
    (made / "run.py").chmod(0o644)
    (made / "processor.json").write_text('{"command": ["./run.py"]}')
    soon = max(soon, told.waits_for(lambda d: [bad.name for bad in d.bad] == ["ProcRSI"]))
    (made / "run.py").chmod(0o755)
    soon = max(soon, told.waits_for(lambda d: not d.bad))
    made.rename(place / "Renamed")
    soon = max(soon, told.waits_for(lambda d: names(d) == ["Lone", "Renamed"]))
    shutil.rmtree(place / "Renamed")
    soon = max(soon, told.waits_for(lambda d: names(d) == ["Lone"]))
    assert soon < 2.0
    assert told.warnings == []


def test_a_drop_in_made_anew_is_watched_anew(tmp_path: Path, watching: Watching, told: Told) -> None:
    made = new(tmp_path / "processors", "ProcRSI")
    watching(SLOW)
    for version in range(3):
        shutil.rmtree(made)
        told.waits_for(lambda d: names(d) == [])
        new(tmp_path / "processors", "ProcRSI")
        told.waits_for(lambda d: names(d) == ["ProcRSI"])
        before = told.dropins[-1].good[0].digest
        (made / "run.py").write_text(f"#!/usr/bin/env python3\n# {version}\n")
        told.waits_for(lambda d, before=before: d.good[0].digest != before)  # type: ignore[misc]  # bound now


def test_a_folder_that_comes_later_and_goes_and_comes(tmp_path: Path, watching: Watching, told: Told) -> None:
    watching(QUICK)
    for _ in range(2):
        new(tmp_path / "processors", "ProcRSI")
        told.waits_for(lambda d: names(d) == ["ProcRSI"])
        shutil.rmtree(tmp_path / "processors")
        told.waits_for(lambda d: names(d) == [])


def test_a_linked_folder_is_watched(tmp_path: Path, watching: Watching, told: Told) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "processors").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "Linked").symlink_to(new(tmp_path / "elsewhere", "ProcRSI"))
    watching(SLOW)
    told.waits_for(lambda d: names(d) == ["Linked"])
    (tmp_path / "elsewhere" / "ProcRSI" / "processor.json").write_text("{}")
    told.waits_for(lambda d: names(d) == [])


def test_more_than_can_be_watched_is_found_by_looking(tmp_path: Path, watching: Watching, told: Told) -> None:
    for number in range(MOST_WATCHED + 3):
        new(tmp_path / "processors", f"P{number:03}")
    watch = watching(QUICK)
    assert threading.active_count() < MOST_WATCHED + 10
    last = watch.current.good[-1]
    (last.folder / "run.py").write_text("#!/usr/bin/env python3\n")
    told.waits_for(lambda d: d.good[-1].digest != last.digest)


def test_without_file_handles_it_warns_once_and_keeps_what_it_knew(tmp_path: Path, told: Told) -> None:
    place = tmp_path / "processors"
    new(place, "ProcRSI")
    knowing = DropinWatch(place)
    knowing.refresh()
    watch = DropinWatch(place, told.dropins.append, told.warnings.append, QUICK)
    with no_file_handles():
        watch.start()
        assert names(watch.current) == []
        assert names(knowing.refresh()) == ["ProcRSI"]
    told.waits_for(lambda d: names(d) == ["ProcRSI"])
    new(place, "Second")
    told.waits_for(lambda d: names(d) == ["ProcRSI", "Second"])
    watch.stop()
    assert len(told.warnings) == 1
    assert told.warnings[0].startswith("changes of processors are found late, file events cannot be had: ")


def test_what_a_listener_breaks_does_not_end_the_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Dropins] = []

    def listener(dropins: Dropins) -> None:
        heard.append(dropins)
        if len(heard) == 1:
            raise ValueError("planted")

    watch = DropinWatch(tmp_path / "processors", listener, rescan_seconds=QUICK)
    watch.start()
    try:
        for name in ("First", "Second"):
            new(tmp_path / "processors", name)
            deadline = time.monotonic() + 10
            while name not in names(watch.current):
                assert time.monotonic() < deadline
                time.sleep(0.005)
    finally:
        watch.stop()
    assert [names(dropins) for dropins in heard] == [["First"], ["First", "Second"]]
    assert [record.levelno for record in caplog.records if record.name == "magickbox.dropins.watch"] == [logging.ERROR]


def test_refresh_is_at_once_and_needs_no_start(tmp_path: Path, told: Told) -> None:
    watch = DropinWatch(tmp_path / "processors", told.dropins.append)
    assert watch.refresh() == Dropins(away=True)
    new(tmp_path / "processors", "ProcRSI")
    assert names(watch.refresh()) == ["ProcRSI"]
    assert watch.refresh() is watch.current
    assert len(told.dropins) == 1
    watch.stop()


def test_a_look_without_a_change_is_cheap(tmp_path: Path) -> None:
    for number in range(20):
        new(tmp_path / "processors", f"P{number}")
    watch = DropinWatch(tmp_path / "processors")
    watch.refresh()
    began = time.process_time()
    for _ in range(20):
        watch.refresh()
    assert (time.process_time() - began) / 20 < 0.02
