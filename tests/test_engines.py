"""The contract of Engine, against every implementation, with real processes."""

import contextlib
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sandboxes import living_in, sandbox

from magickbox.engine import Ended, Engine, Run
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.processor import Processor
from magickbox.run import Limit

MB = 1024 * 1024


def local_engine(box: Path) -> Engine:
    inherited = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SECRET_OF_THE_BOX": "x", "TZ": "Europe/Berlin"}
    return LocalEngine(clean_environment(inherited, Path(sys.executable)), box)


def sandboxed_engine(box: Path) -> Engine:
    inherited = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SECRET_OF_THE_BOX": "x", "TZ": "Europe/Berlin"}
    return LocalEngine(clean_environment(inherited, Path(sys.executable)), box, sandbox(box))


ENGINES: dict[str, Callable[[Path], Engine]] = {"local": local_engine, "sandboxed": sandboxed_engine}


@dataclass
class Bench:
    """An engine and a place for runs."""

    engine: Engine
    place: Path
    is_sandboxed: bool = False

    def script(self, text: str, name: str = "script.sh", first: str = "#!/bin/sh") -> tuple[str, ...]:
        path = self.place / name
        path.write_text(f"{first}\n{text}\n")
        path.chmod(0o755)
        return (str(path),)

    def prepare(self, command: tuple[str, ...], name: str = "mb-job-1", timeout: float = 30.0) -> Run:
        workdir = self.place / name
        for folder in ("INPUT", "OUTPUT"):
            (workdir / folder).mkdir(parents=True)
        processor = Processor("Test", self.place, command, "Test")
        return Run(name, "job", 1, processor, workdir, workdir / "processing.log", timeout, 0.5, MB)

    @property
    def names(self) -> set[str]:
        """What run.json may call this engine."""
        return set(ENGINES)

    @property
    def tellings(self) -> int:
        """How often there is something new to find a run again by."""
        return 1

    @property
    def soon(self) -> float:
        """Seconds within which a stop takes effect."""
        return 0.4

    @property
    def quick(self) -> float:
        """Seconds for a run that has nothing to wait for."""
        return 3.0

    def survivors(self, run: Run) -> list[int]:
        """What lives of a run."""
        return living_in(run.workdir)

    def shell(self, text: str, **more: float) -> tuple[Ended, Run]:
        run = self.prepare(self.script(text), **more)  # type: ignore[arg-type]  # timeout is the only one used
        return self.engine.run(run, lambda _: None), run


def open_files() -> int:
    """How many this process has open, without those that an earlier test has let go of."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(ENGINES[request.param](tmp_path), tmp_path, request.param == "sandboxed")
    open_before = open_files()
    yield bench
    assert open_files() == open_before, "the engine left files open"
    assert threading.active_count() == 1


def in_background(bench: Bench, run: Run) -> tuple[ThreadPoolExecutor, Callable[[], Ended]]:
    pool = ThreadPoolExecutor(1)
    return pool, pool.submit(bench.engine.run, run, lambda _: None).result


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.005)


def pids_in(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in sorted(folder.glob("*.pid"))]


# --- ends ---------------------------------------------------------------------------------------------------------


def test_success_leaves_output_and_log(bench: Bench) -> None:
    ended, run = bench.shell('cp -r "$1/." "$2/"; echo one; echo two >&2; echo; echo done > "$2/result"')
    assert ended == Ended(0, last_line="two")
    assert (run.output / "result").read_text() == "done\n"
    assert run.log.read_text() == "one\ntwo\n\n"


@pytest.mark.parametrize("code", [1, 3, 255])
def test_exit_code_and_last_line_are_told(bench: Bench, code: int) -> None:
    ended, _ = bench.shell(f"echo 'no license'; echo; exit {code}")
    assert ended == Ended(code, last_line="no license")


def test_signal_is_a_negative_code(bench: Bench) -> None:
    assert bench.shell("kill -SEGV $$")[0].exit_code == -signal.SIGSEGV


def test_started_is_told_once_and_early(bench: Bench) -> None:
    told: list[dict[str, object]] = []
    run = bench.prepare(bench.script("sleep 0.1"))
    bench.engine.run(run, told.append)
    assert 1 <= len(told) <= bench.tellings
    assert json.dumps(told[-1])
    assert told[0]["engine"] in bench.names


def test_trouble_in_started_ends_the_run_and_is_passed_on(bench: Bench) -> None:
    def full(_: dict[str, object]) -> None:
        raise OSError("no room for run.json")

    run = bench.prepare(bench.script('echo $$ > "$2/a.pid"; sleep 60'))
    with pytest.raises(OSError, match="no room"):
        bench.engine.run(run, full)
    assert not bench.survivors(run)


def test_out_of_time(bench: Bench) -> None:
    ended, run = bench.shell("echo working; exec sleep 60", timeout=0.3)
    assert (ended.trouble, ended.interrupted, ended.last_line) == ("out of time after 0.3 s", None, "working")
    assert ended.exit_code == -signal.SIGTERM
    assert run.log.read_text() == "working\n[magickbox: out of time after 0.3 s]\n"


def test_out_of_time_with_sigterm_ignored(bench: Bench) -> None:
    began = time.monotonic()
    ended, _ = bench.shell("trap '' TERM; while :; do sleep 0.05; done", timeout=0.3)
    assert (ended.trouble, ended.exit_code) == ("out of time after 0.3 s", -signal.SIGKILL)
    assert ended.limit is Limit.TIME
    assert 0.75 < time.monotonic() - began < 3.0


def test_sigterm_leaves_time_to_clean_up(bench: Bench) -> None:
    ended, run = bench.shell("trap 'echo tidy > \"$2/tidy\"; exit 4' TERM; while :; do sleep 0.02; done", timeout=0.3)
    assert (ended.exit_code, (run.output / "tidy").read_text()) == (4, "tidy\n")


def test_stop_from_another_thread(bench: Bench) -> None:
    run = bench.prepare(bench.script('echo $$ > "$2/a.pid"; echo up; exec sleep 60'))
    pool, result = in_background(bench, run)
    with pool:
        wait_until(lambda: bool(run.log.exists() and run.log.read_text()))
        began = time.monotonic()
        bench.engine.stop(run.name, "the box stops")
        ended = result()
    assert (ended.interrupted, ended.trouble) == ("the box stops", None)
    assert time.monotonic() - began < bench.soon
    assert not bench.survivors(run)


def test_stop_wins_over_an_exit_code(bench: Bench) -> None:
    run = bench.prepare(bench.script("trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"))
    pool, result = in_background(bench, run)
    with pool:
        wait_until(lambda: bool(run.log.exists() and run.log.read_text()))
        bench.engine.stop(run.name, "the box stops")
        bench.engine.stop(run.name, "a second time")
        ended = result()
    assert (ended.exit_code, ended.trouble, ended.interrupted) == (0, None, "the box stops")


def test_stop_of_nothing_is_no_error(bench: Bench) -> None:
    bench.engine.stop("mb-nobody-1", "the box stops")
    assert bench.engine.end_leftovers("mb-nobody-1") == 0


def test_a_run_that_never_was_cannot_be_taken_up(bench: Bench) -> None:
    run = bench.prepare(("/bin/true",))
    run.log.write_text("kept\n")
    assert bench.engine.rejoin(run) is None
    assert run.log.read_text() == "kept\n"


# --- what it started ends with it ---------------------------------------------------------------------------------

DAEMONS = {
    "background": "sleep 60 & echo $! > $2/a.pid",
    "own session": "setsid sh -c 'echo $$ > $0/a.pid; exec sleep 60' $2 &",
    "forked twice": "(setsid sh -c 'echo $$ > $0/a.pid; exec sleep 60' $2 &) &",
    "deaf": "setsid sh -c 'trap \"\" TERM HUP; echo $$ > $0/a.pid; while :; do sleep 1; done' $2 &",
    "no environment": "env -i sh -c 'echo $$ > $0/a.pid; exec sleep 60' $2 &",
    "child of a daemon": "setsid sh -c 'env -i setsid sh -c \"echo \\$\\$ > $0/a.pid; exec sleep 60\"; :' $2 &",
}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_is_gone_and_holds_nothing_up(bench: Bench, daemon: str) -> None:
    began = time.monotonic()
    ended, run = bench.shell(f"{DAEMONS[daemon]}\nwhile ! [ -s $2/a.pid ]; do sleep 0.01; done; echo end")
    assert ended == Ended(0, "end")
    assert time.monotonic() - began < bench.quick
    assert pids_in(run.output)
    assert not bench.survivors(run)


def test_a_crowd_is_gone(bench: Bench) -> None:
    crowd = "i=0; while [ $i -lt 150 ]; do setsid sleep 60 & echo $! > $2/$i.pid; i=$((i+1)); done; exit 2"
    ended, run = bench.shell(crowd)
    assert ended.exit_code == 2
    assert len(pids_in(run.output)) == 150
    assert not bench.survivors(run)


def test_children_end_with_a_timeout(bench: Bench) -> None:
    _, run = bench.shell("trap '' TERM; sleep 60 & echo $! > $2/a.pid; setsid sleep 60 & wait; wait", timeout=0.3)
    assert not bench.survivors(run)


HELPER = """
import sys
from pathlib import Path
from magickbox.engine import Run
from magickbox.engines.local import LocalEngine
from magickbox.engines.limits import Limits
from magickbox.engines.protection import find_out
from magickbox.processor import Processor
script, work, box, setting = sys.argv[1:]
run = Run("mb-killed-1", "job", 1, Processor("T", Path(box), (script,), "T"), Path(work), Path(work, "log"), 60.0)
found = find_out("auto", Path(box), Limits(), (), Path(box, "etc")) if setting == "sandboxed" else None
LocalEngine({"PATH": "/usr/bin:/bin"}, Path(box), found).run(run, lambda _: None)
"""


@contextlib.contextmanager
def killed_box(bench: Bench, setting: str) -> Iterator[Run]:
    """A run that a box in a process of its own began, and the box killed."""
    run = bench.prepare(bench.script("echo $$ > $2/a.pid; setsid sleep 60 & echo $! > $2/b.pid; sleep 60"))
    command = [sys.executable, "-c", HELPER, run.processor.command[0], str(run.workdir), str(bench.place), setting]
    box = subprocess.Popen(command)
    wait_until(lambda: len([path for path in run.output.glob("*.pid") if path.read_text()]) == 2)
    assert len(living_in(run.workdir)) >= 3
    box.kill()
    box.wait()
    yield run


@pytest.mark.kill
def test_leftovers_of_a_killed_box_are_found_and_ended(bench: Bench) -> None:
    with killed_box(bench, "local") as run:
        survivors = living_in(run.workdir)
        assert len(survivors) == 3, "a kill of the box does not reach what it started"
        assert bench.engine.end_leftovers("mb-killed") == 0, "only the whole name counts"
        other = ENGINES["local"](bench.place / "other")
        assert other.end_leftovers("mb-killed-1") == 0, "another box's run is its own"
        assert bench.engine.end_leftovers("mb-killed-1") == 3
        assert not living_in(run.workdir)
        assert bench.engine.end_leftovers("mb-killed-1") == 0


@pytest.mark.kill
def test_a_sandbox_ends_with_its_box(bench: Bench) -> None:
    sandbox(bench.place)
    with killed_box(bench, "sandboxed") as run:
        wait_until(lambda: not living_in(run.workdir))
        assert sandboxed_engine(bench.place).end_leftovers("mb-killed-1") == 0, "takes its control group away"


# --- output -------------------------------------------------------------------------------------------------------


def test_log_is_live(bench: Bench) -> None:
    python = bench.script("import pathlib, sys, time\nprint('first')\np = pathlib.Path(sys.argv[2], 'go')\n"
                          "while not p.exists(): time.sleep(0.01)", first="#!/usr/bin/env python3")  # fmt: skip
    run = bench.prepare(python)
    pool, result = in_background(bench, run)
    with pool:
        wait_until(lambda: bool(run.log.exists() and run.log.read_text() == "first\n"))
        (run.output / "go").touch()
        assert result() == Ended(0, "first")


def test_binary_output_is_kept_as_it_is(bench: Bench) -> None:
    ended, run = bench.shell(r"printf '\000\377\376bad\033[31m red\007\r\n'; exit 1")
    assert run.log.read_bytes() == b"\0\xff\xfebad\x1b[31m red\x07\r\n"
    assert ended.last_line == "\ufffd\ufffdbad red"


def test_two_hundred_megabytes_are_bounded_and_do_not_block(bench: Bench) -> None:
    ended, run = bench.shell("head -c 200000000 /dev/zero | tr '\\0' x; echo; echo the end")
    assert ended == Ended(0, "the end")
    assert run.log.stat().st_size < MB + 200
    assert run.log.read_bytes().endswith(b"x\nthe end\n")
    assert b"\n[magickbox: the log is full; of " in run.log.read_bytes()


def test_output_of_an_earlier_run_stays(bench: Bench) -> None:
    run = bench.prepare(bench.script("echo second"))
    run.log.write_text("first\n")
    bench.engine.run(run, lambda _: None)
    assert run.log.read_text() == "first\nsecond\n"


def test_closed_output_is_not_the_end(bench: Bench) -> None:
    ended, run = bench.shell('echo bye; exec >&- 2>&-; sleep 0.3; touch "$2/later"; exit 5')
    assert ended == Ended(5, "bye")
    assert (run.output / "later").exists()


def test_a_full_disk_loses_log_lines_only(bench: Bench) -> None:
    run = replace(bench.prepare(bench.script("head -c 3000000 /dev/zero; echo; echo kept going; exit 7")),
                  log=Path("/dev/full"))  # fmt: skip
    assert bench.engine.run(run, lambda _: None) == Ended(7, "kept going")


def test_a_log_that_cannot_be_made_stops_nothing(bench: Bench) -> None:
    run = replace(bench.prepare(bench.script("echo fine")), log=bench.place / "nowhere" / "log")
    assert bench.engine.run(run, lambda _: None) == Ended(0, "fine")


# --- what it gets -------------------------------------------------------------------------------------------------


def test_environment(bench: Bench) -> None:
    show = 'import json, os, sys\njson.dump([dict(os.environ), os.getcwd(), sys.argv[1:]], open("seen", "w"))'
    run = bench.prepare(bench.script(show, first="#!/usr/bin/env python3"))
    processor = replace(run.processor, environment=(("MODEL", "läuft"), ("HOME", "/opt/model")))
    run = replace(run, processor=processor)
    assert bench.engine.run(run, lambda _: None).exit_code == 0
    seen, where, arguments = json.loads((run.workdir / "seen").read_text())
    work = str(run.workdir)
    assert (where, arguments) == (work, [f"{work}/INPUT", f"{work}/OUTPUT"])
    path = seen.pop("PATH")
    assert path.split(":")[0] == str(Path(sys.executable).parent)
    seen.pop("LC_CTYPE", None)  # Python adds it to its own environment
    assert seen.pop("PWD", work) == work, "bubblewrap sets it"
    assert seen == {
        "LANG": "C.UTF-8",
        "TZ": "Europe/Berlin",
        "PYTHONUNBUFFERED": "1",
        "HOME": "/opt/model",
        "TMPDIR": f"{work}/tmp",
        "MODEL": "läuft",
        "MAGICKBOX_JOB": "job",
        "MAGICKBOX_INPUT": f"{work}/INPUT",
        "MAGICKBOX_OUTPUT": f"{work}/OUTPUT",
        "MAGICKBOX_INFO": f"{work}/info.json",
        "MAGICKBOX_PROC": f"{work}/proc.json",
        "MAGICKBOX_PROCESSOR": str(bench.place),
        "MAGICKBOX_RUN": run.name,
        "MAGICKBOX_BOX": str(bench.place),
    }


def test_temporary_files_are_private_and_go(bench: Bench) -> None:
    ended, run = bench.shell('mktemp -d; touch "$TMPDIR/x"; ls -A "$TMPDIR" | wc -l')
    assert ended.last_line == "2"
    assert not (run.workdir / "tmp").exists()


def test_input_is_closed_and_no_other_file_is_open(bench: Bench) -> None:
    ended, run = bench.shell("cat; exec env ls /proc/self/fd")
    assert ended.exit_code == 0
    assert run.log.read_text() == "0\n1\n2\n3\n", "stdin, stdout, stderr and the folder that ls reads"


def test_paths_with_blanks_and_letters_of_the_world(bench: Bench, tmp_path: Path) -> None:
    place = tmp_path / "Schädel MRT 頭 'q' \"q\" $x"
    place.mkdir()
    other = replace(bench, place=place)
    ended, run = other.shell('cd "$1" && echo ok > "$2/läuft"; echo "$MAGICKBOX_JOB läuft"')
    assert ended == Ended(0, "job läuft"), ended.interrupted
    assert (run.output / "läuft").exists()


# --- could not start ----------------------------------------------------------------------------------------------


def test_what_could_not_start_says_why(bench: Bench) -> None:
    def trouble(command: tuple[str, ...], name: str) -> str:
        ended = bench.engine.run(bench.prepare(command, name), lambda _: None)
        assert (ended.exit_code, ended.interrupted) == (None, None)
        assert ended.trouble is not None
        assert ended.trouble.startswith("could not start: ")
        log = (bench.place / name / "processing.log").read_text().splitlines()
        assert log[-1] == f"[magickbox: {ended.trouble}]"
        assert bench.is_sandboxed or len(log) == 1
        return ended.trouble

    missing = str(bench.place / "missing")
    assert trouble((missing,), "a") == f"could not start: {missing}: No such file or directory"
    assert "no program 'fslmaths-9' is installed" in trouble(("fslmaths-9",), "b")
    assert "the interpreter '/opt/none/python' named" in trouble(bench.script("", first="#!/opt/none/python -u"), "c")
    assert "'/bin/sh\\r'" in trouble(bench.script("", first="#!/bin/sh\r"), "d")
    assert "must begin with #!" in trouble(bench.script("echo", first="no first line"), "e")
    plain = bench.script("echo")
    Path(plain[0]).chmod(0o644)
    assert "chmod +x" in trouble(plain, "f")
    assert "is a folder" in trouble((str(bench.place),), "g")
    assert "could not start" in trouble(("echo", "x" * 300_000), "h")
    assert "null byte" in trouble(("echo", "a\0b"), "i")


def test_trouble_of_the_machine_is_not_the_processors(bench: Bench) -> None:
    run = bench.prepare(bench.script("echo"))
    gone = replace(run, workdir=bench.place / "gone")
    ended = bench.engine.run(gone, lambda _: None)
    assert ended == Ended(None, interrupted="the machine could not start it: No such file or directory")


def test_without_file_handles_a_run_is_interrupted(bench: Bench) -> None:
    command = bench.script("echo ran")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    runs = [bench.prepare(command, f"mb-few-{spare}") for spare in range(16)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        results = [bench.engine.run(runs[0], lambda _: None)]
        for run in runs[1:]:
            os.close(taken.pop())
            results.append(bench.engine.run(run, lambda _: None))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert results[0].interrupted == "the machine could not start it: Too many open files"
    assert results[-1] == Ended(0, "ran")
    assert all(ended.interrupted or ended.exit_code == 0 for ended in results)


# --- many and fast ------------------------------------------------------------------------------------------------


def test_many_at_once_do_not_mix(bench: Bench) -> None:
    command = bench.script('echo "$MAGICKBOX_RUN"; setsid sleep 60 & exit $((${MAGICKBOX_RUN##*-} % 200))')
    runs = [bench.prepare(command, f"mb-many-{number}") for number in range(80)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda run: bench.engine.run(run, lambda _: None), runs))
    assert results == [Ended(number, f"mb-many-{number}") for number in range(80)]


def test_one_name_runs_once(bench: Bench) -> None:
    run = bench.prepare(bench.script("echo up; exec sleep 60"))
    pool, result = in_background(bench, run)
    with pool:
        wait_until(lambda: bool(run.log.exists() and run.log.read_text()))
        with pytest.raises(ValueError, match="running already"):
            bench.engine.run(run, lambda _: None)
        bench.engine.stop(run.name, "enough")
        assert result().interrupted == "enough"


def test_the_first_line_comes_soon(bench: Bench) -> None:
    command = bench.script("date +%s%N")
    waits = []
    for number in range(9):
        run = bench.prepare(command, f"mb-fast-{number}")
        asked = time.time_ns()
        ended = bench.engine.run(run, lambda _: None)
        waits.append((int(ended.last_line) - asked) / 1e6)
    assert sorted(waits)[4] < 100, f"milliseconds from the call to the first line: {waits}"
