"""Processors in real containers: the contract of Engine, the walls of a container, and what bad images get."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from containers import Podman, podman
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
    test_exit_code_and_last_line_are_told,
    test_input_is_closed_and_no_other_file_is_open,
    test_one_name_runs_once,
    test_output_of_an_earlier_run_stays,
    test_paths_with_blanks_and_letters_of_the_world,
    test_signal_is_a_negative_code,
    test_sigterm_leaves_time_to_clean_up,
    test_started_is_told_once_and_early,
    test_stop_from_another_thread,
    test_stop_of_nothing_is_no_error,
    test_stop_wins_over_an_exit_code,
    test_temporary_files_are_private_and_go,
    test_trouble_in_started_ends_the_run_and_is_passed_on,
    test_two_hundred_megabytes_are_bounded_and_do_not_block,
    wait_until,
)

from magickbox.conventions.magickbox import Magickbox
from magickbox.dropins.folder import BadDropin, Dropins
from magickbox.engine import Ended, Run
from magickbox.engines.container import ContainerEngine
from magickbox.engines.container_cli import ContainerCli, Finder
from magickbox.engines.container_options import command_line
from magickbox.engines.images import Images
from magickbox.engines.limits import Limits, limits_of
from magickbox.engines.survivor import survivor
from magickbox.logs import silent
from magickbox.processor import IN_IMAGE, Processor
from magickbox.run import Limit
from magickbox.runs.cleaning import clean

IMAGE = "test/tools:1"
LIMITS = Limits(memory=8 << 30, processes=1000, file_size=1 << 30)


@pytest.fixture(scope="session")
def engine_of_containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    one = podman(tmp_path_factory.mktemp("podman"))
    one.image(IMAGE, {})
    yield one
    one.close()


@dataclass
class ContainerBench(Bench):
    """The bench, with scripts that run in a container of an image that has tools and nothing else."""

    podman: Podman = field(kw_only=True)
    images: Images = field(kw_only=True)

    def prepare(self, command: tuple[str, ...], name: str = "mb-job-1", timeout: float = 30.0) -> Run:
        inside = tuple(part.replace(str(self.place), IN_IMAGE) for part in command)
        run = super().prepare(inside, name, timeout)
        return self.with_image(run, IMAGE)

    def with_image(self, run: Run, image: str, **more: object) -> Run:
        processor = replace(run.processor, image=image, **more)  # type: ignore[arg-type]  # fields of Processor
        self.images.want(Dropins(good=(processor,)))
        self.images.look_round()
        return replace(run, processor=processor)

    @property
    def names(self) -> set[str]:
        return {"podman"}

    @property
    def soon(self) -> float:
        return 5.0

    @property
    def quick(self) -> float:
        return 20.0

    def survivors(self, run: Run) -> list[int]:
        return [1 for _ in self.podman.ask("ps", "--all", "--quiet", "--filter", f"name={run.name}").split()]


@pytest.fixture
def bench(engine_of_containers: Podman, tmp_path: Path) -> Iterator[ContainerBench]:
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    bench = make_bench(engine_of_containers, tmp_path)
    open_before = open_files()
    yield bench
    assert open_files() == open_before, "the engine left files open"
    assert threading.active_count() == 1
    assert bench.engine.sweep() == 0, "a container is left"


def make_bench(one: Podman, place: Path, box: str = "") -> ContainerBench:
    finder = Finder(one.environment, one.words)
    state = place / "state"
    state.mkdir(exist_ok=True)
    images = Images(finder, place / box, state, lambda: None, silent)
    engine = ContainerEngine(finder, images, lambda _: Magickbox(), place / box, LIMITS)
    return ContainerBench(engine, place, podman=one, images=images)


def test_success_leaves_output_and_log(bench: ContainerBench) -> None:
    ended, run = bench.shell('cp -r "$1/." "$2/"; echo one; echo; echo two; echo done > "$2/result"')
    assert ended == Ended(0, last_line="two")
    assert (run.output / "result").read_text() == "done\n"
    assert run.log.read_text() == "one\n\ntwo\n"
    assert (run.output / "result").stat().st_uid == os.getuid()
    assert not bench.survivors(run)


def test_errors_are_in_the_log_too(bench: ContainerBench) -> None:
    _, run = bench.shell("echo one; echo two >&2")
    assert sorted(run.log.read_text().splitlines()) == ["one", "two"], "two pipes have no order between them"


def test_log_is_live(bench: ContainerBench) -> None:
    run = bench.prepare(bench.script('echo first; while ! [ -e "$2/go" ]; do sleep 0.02; done'))
    pool, result = in_background(bench, run)
    with pool:
        wait_until(lambda: bool(run.log.exists() and run.log.read_text() == "first\n"))
        (run.output / "go").touch()
        assert result() == Ended(0, "first")


def test_many_at_once_do_not_mix(bench: ContainerBench) -> None:
    command = bench.script('echo "$MAGICKBOX_RUN"; setsid sleep 60 & exit $((${MAGICKBOX_RUN##*-} % 200))')
    runs = [bench.prepare(command, f"mb-many-{number}") for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda run: bench.engine.run(run, lambda _: None), runs))
    assert results == [Ended(number, f"mb-many-{number}") for number in range(12)]


HELPER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from containers import Podman
from test_container_engine import make_bench
bench = make_bench(Podman(Path(sys.argv[2])), Path(sys.argv[3]), "box")
run = bench.prepare(("/processor/script.sh",), "mb-killed-1")
print("go", flush=True)
bench.engine.run(run, lambda _: None)
"""


@pytest.mark.kill
def test_leftovers_of_a_killed_box_are_found_and_ended(bench: ContainerBench) -> None:
    bench.script('echo up > "$2/up"; trap "" TERM; while :; do sleep 1; done')
    arguments = [str(Path(__file__).parent), str(bench.podman.place), str(bench.place)]
    box = subprocess.Popen([sys.executable, "-c", HELPER, *arguments], stdout=subprocess.DEVNULL)
    output = bench.place / "mb-killed-1" / "OUTPUT"
    wait_until(lambda: (output / "up").exists(), 20)
    box.send_signal(signal.SIGKILL)
    box.wait()
    here, other = (make_bench(bench.podman, bench.place, box).engine for box in ("box", "other"))

    def running() -> str:
        return bench.podman.ask("ps", "--quiet", "--filter", "name=mb-killed-1")

    assert running(), "a kill of the box does not reach its container"
    assert here.end_leftovers("mb-killed") == 0, "only the whole name counts"
    assert other.end_leftovers("mb-killed-1") == 0, "another box's run is its own"
    assert other.sweep() == 0
    assert running()
    assert here.end_leftovers("mb-killed-1") >= 1
    assert not running()
    assert here.end_leftovers("mb-killed-1") == 0


STARTED = "2001-01-05T10:00:00.123456789Z"
ENDED = "2001-01-05T10:00:09.5+00:00"
RUNS: dict[str, object] = {
    "Status": "running",
    "ExitCode": 0,
    "StartedAt": STARTED,
    "FinishedAt": "0001-01-01T00:00:00Z",
}
LABELS = {"magickbox.box": "/box", "magickbox.run": "mb-a-1"}


@pytest.mark.parametrize(
    ("labels", "state", "told"),
    [
        (LABELS, RUNS, True),
        ({**LABELS, "magickbox.box": "/other"}, RUNS, False),
        ({**LABELS, "magickbox.run": "mb-a-2"}, RUNS, False),
        (LABELS, {**RUNS, "Status": "created", "StartedAt": "0001-01-01T00:00:00Z"}, False),
        (LABELS, {**RUNS, "Status": "exited", "FinishedAt": ENDED, "ExitCode": 3}, True),
        (LABELS, {**RUNS, "Status": "exited"}, False),  # the machine was switched off: podman shows a 0
        (LABELS, {**RUNS, "Status": "exited", "FinishedAt": "now", "ExitCode": 255}, False),  # the same, of docker
        (LABELS, {**RUNS, "Status": "stopped", "FinishedAt": ENDED, "ExitCode": -1}, False),  # its monitor was killed
    ],
)
def test_whose_end_can_be_told(tmp_path: Path, labels: object, state: dict[str, object], told: bool) -> None:
    if state["FinishedAt"] == "now":
        state = {**state, "FinishedAt": datetime.now(UTC).isoformat()}
    (tmp_path / "answer").write_text(json.dumps([{"Config": {"Labels": labels}, "State": state}]))
    (tmp_path / "engine").write_text(f"#!/bin/sh\ncat {tmp_path}/answer\n")
    (tmp_path / "engine").chmod(0o755)
    found = survivor(ContainerCli((f"{tmp_path}/engine",), {}, True, False, True, ""), "mb-a-1", "/box")
    assert (found is not None) == told
    if found is not None:
        assert (found.running, found.exit_code) == (state["Status"] == "running", state["ExitCode"])
        assert found.age > 0


def test_out_of_time(bench: ContainerBench) -> None:
    run = replace(bench.prepare(bench.script("echo working; exec sleep 60"), timeout=2.0), stop_grace=5.0)
    ended = bench.engine.run(run, lambda _: None)
    assert (ended.trouble, ended.interrupted, ended.last_line) == ("out of time after 2 s", None, "working")
    assert ended.limit is Limit.TIME
    assert ended.exit_code == -signal.SIGTERM
    assert run.log.read_text() == "working\n[magickbox: out of time after 2 s]\n"


def test_out_of_time_with_sigterm_ignored(bench: ContainerBench) -> None:
    ended, run = bench.shell("trap '' TERM; while :; do sleep 0.05; done", timeout=2.0)
    assert (ended.trouble, ended.exit_code) == ("out of time after 2 s", -signal.SIGKILL)
    assert not bench.survivors(run)


# --- the walls ----------------------------------------------------------------------------------------------------


def test_it_sees_and_changes_nothing_but_its_own(bench: ContainerBench) -> None:
    secret = bench.place / "mb-other-1"
    secret.mkdir()
    run = bench.prepare(bench.script(f"""
        exec 2>&1
        echo x > "$1/new" && echo wrote INPUT
        rm -f "$1/1.dcm" && echo removed INPUT
        echo x > /anywhere && echo wrote root
        echo x > /processor/script.sh && echo wrote the drop-in
        [ -e {secret} ] && echo saw another job
        ip -o addr | grep -v ' lo ' | grep -q . && echo has a network
        grep -q 'CapEff:.*[1-9a-f]' /proc/self/status && echo has capabilities
        grep -q 'NoNewPrivs:.*1' /proc/self/status || echo may gain privileges
        [ "$(id -u)" = 0 ] && echo is root
        mount -t tmpfs x /tmp && echo mounts
        mknod "$2/node" b 1 1 && echo makes devices
        chown 0 "$2" && echo changes owners
        echo end"""))  # fmt: skip
    (run.input / "1.dcm").write_text("x")
    (run.input / "1.dcm").chmod(0o400)
    assert bench.engine.run(run, lambda _: None) == Ended(0, "end")
    allowed = ("can't", "not permitted", "denied", "Read-only", "end")
    assert [line for line in run.log.read_text().splitlines() if not any(word in line for word in allowed)] == []
    assert (run.input / "1.dcm").read_text() == "x"


def test_a_network_only_if_asked_for(bench: ContainerBench) -> None:
    look = bench.script("ip -o addr | grep -cv ' lo '; true")
    run = bench.prepare(look, "mb-without-1")
    assert bench.engine.run(run, lambda _: None).last_line == "0"
    assert "--network" not in command_of(bench, replace(run, processor=replace(run.processor, network=True)))
    assert "--network" in command_of(bench, run)


def command_of(bench: ContainerBench, run: Run) -> list[str]:
    engine = bench.engine
    assert isinstance(engine, ContainerEngine)
    cli, image, stage, who = engine._within(run, bench.images.image_of(run.processor))
    return command_line(cli, run, image, stage, who, "box", None, limits_of(run.processor, LIMITS))


def test_resources_become_limits(bench: ContainerBench) -> None:
    run = bench.prepare(("/bin/true",))
    told = (("cpus", 1.5), ("memory", "2G"), ("gpus", 1), ("processes", 50))
    command = command_of(bench, replace(run, processor=replace(run.processor, resources=told)))
    for option, value in (("--cpus", "1.5"), ("--memory", str(2 * 1024**3)), ("--pids-limit", "50")):
        assert command[command.index(option) + 1] == value
    assert command[command.index("--device") + 1] == "nvidia.com/gpu=all"
    assert "--device" not in command_of(bench, run)


def test_output_is_the_boxs_own_and_has_only_files(bench: ContainerBench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    outside.chmod(0o600)
    ended, run = bench.shell(f"""mkdir -p "$2/a/b"; echo x > "$2/a/b/file"; chmod 000 "$2/a/b/file"
        ln -s {outside} "$2/link"; ln -s /etc "$2/etc"; mkfifo "$2/pipe" "$2/a/b/pipe" "$2/a/pipe"; chmod 0 "$2/a" """)
    assert ended.exit_code == 0
    assert outside.stat().st_mode & 0o777 == 0o600
    assert outside.stat().st_uid == os.getuid()
    assert all(path.lstat().st_uid == os.getuid() for path in run.output.rglob("*"))
    told = clean(run.output, run.input).remark
    assert told.startswith("left out of OUTPUT: 3 pipes, sockets or device nodes and 2 links that lead elsewhere")
    assert sorted(path.name for path in run.output.iterdir()) == ["a"]
    shutil.rmtree(run.output)


# --- bad images ---------------------------------------------------------------------------------------------------


def test_an_image_that_does_not_exist_waits_with_its_reason(bench: ContainerBench) -> None:
    run = bench.prepare(("/bin/true",))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a registry that refuses
        run = bench.with_image(run, f"127.0.0.1:{taken.getsockname()[1]}/none:1")
        why = bench.images.why_not(run.processor)
    assert why is not None
    assert "is not here: it cannot be pulled: " in why
    ended = bench.engine.run(run, lambda _: None)
    assert (ended.trouble, ended.interrupted) == (None, why)


@pytest.mark.parametrize("bad", [(), (BadDropin("Other", Path("Other"), ("half copied",)),)])
def test_off_and_on_takes_the_new_image_of_a_tag(bench: ContainerBench, bad: tuple[BadDropin, ...]) -> None:
    """Also if both come between two looks, and if another drop-in is bad; without it the pin stays."""
    bench.podman.image("test/tag:1", {"x": "old"})
    one = Processor("Tagged", bench.place, (), "Tagged", image="test/tag:1")
    seen = []
    for switched in ((one,), (one,), (replace(one, enabled=False), one)):
        for each in switched:
            bench.images.want(Dropins(good=(each,), bad=bad))
        bench.images.look_round()
        image = bench.images.image_of(one)
        assert image is not None
        seen.append(image.id)
        bench.podman.image("test/tag:1", {"x": "new"})
    assert seen[0] == seen[1] != seen[2]


def test_an_archive_that_is_still_being_copied_is_told(bench: ContainerBench) -> None:
    bench.podman.image("test/cut:1", {"x": "cut"})
    archive = bench.place / "cut.tar"
    bench.podman.ask("save", "--quiet", "--output", str(archive), "test/cut:1")
    other = Processor("Other", bench.place, (), "Other", image=IMAGE, image_archive=archive)
    bench.images.want(Dropins(good=(other,)))
    bench.images.look_round()
    told = f"cut.tar holds another image: localhost/test/cut:1; image in processor.json says {IMAGE}"
    assert told in (bench.images.why_not(other) or ""), "also if that is on this machine"
    os.truncate(archive, archive.stat().st_size // 2)
    one = Processor("Cut", bench.place, (), "Cut", image="test/cut:1", image_archive=archive)
    bench.images.want(Dropins(good=(one,)))
    bench.images.look_round()
    why = bench.images.why_not(one)
    assert why is not None
    assert why.endswith("cut.tar cannot be loaded: it is cut short; is it still being copied?")


def test_an_image_that_is_taken_away_is_looked_for_again(bench: ContainerBench) -> None:
    bench.podman.image("test/gone:1", {"x": "gone"})
    run = bench.with_image(bench.prepare(("/bin/true",)), "test/gone:1")
    bench.podman.ask("rmi", "test/gone:1")
    ended = bench.engine.run(run, lambda _: None)
    assert ended.trouble is None
    assert ended.interrupted is not None
    assert bench.images.why_not(run.processor) is not None


def test_an_image_for_another_machine(bench: ContainerBench) -> None:
    elf = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(200)
    bench.podman.image("test/arm:1", {"program": elf}, 'CMD ["/program"]', architecture="arm64")
    run = bench.with_image(replace(bench.prepare(()), processor=Processor("Arm", bench.place, (), "Arm")), "test/arm:1")
    ended = bench.engine.run(run, lambda _: None)
    assert ended.trouble == "could not start: the image is for arm64 machines, this one is amd64"


def test_a_command_that_is_not_in_the_image(bench: ContainerBench) -> None:
    ended = bench.engine.run(bench.prepare(("/bin/fslmaths",)), lambda _: None)
    assert ended.interrupted is None
    assert (ended.trouble or "").startswith("could not start: /bin/fslmaths: No such file")


def test_memory_that_runs_out(bench: ContainerBench) -> None:
    run = bench.prepare(bench.script("exec tail /dev/zero"))
    run = replace(run, processor=replace(run.processor, resources=(("memory", "64M"),)))
    ended = bench.engine.run(run, lambda _: None)
    assert (ended.exit_code, ended.interrupted) == (-9, None)
    assert ended.trouble is not None
    assert ended.trouble == "out of memory (limit 64 MB)"
    assert ended.limit is Limit.MEMORY


def test_a_fork_bomb_meets_its_limit(bench: ContainerBench) -> None:
    run = bench.prepare(bench.script("i=0; while [ $i -lt 500 ]; do sleep 30 & i=$((i+1)); done; echo made them"))
    run = replace(run, processor=replace(run.processor, resources=(("processes", 40),)))
    ended = bench.engine.run(run, lambda _: None)
    assert ended.last_line != "made them"
    assert ended.trouble == "too many processes (limit 40)"
    assert not bench.survivors(run)


def test_one_that_met_its_limit_of_processes_and_ends_well_says_so(bench: ContainerBench) -> None:
    """Its script hides what the forks came to, and waits until the box has had time to look."""
    run = bench.prepare(bench.script("(for i in $(seq 60); do sleep 3 & done) 2>/dev/null; sleep 4 || sleep 1; exit 0"))
    run = replace(run, processor=replace(run.processor, resources=(("processes", 40),)))
    ended = bench.engine.run(run, lambda _: None)
    assert (ended.exit_code, ended.trouble) == (0, None)
    assert ended.met == "it ended well, but met a limit: too many processes (limit 40)"


def test_an_engine_that_can_start_nothing_keeps_jobs_waiting_until_it_can(bench: ContainerBench) -> None:
    """It answers, but its runtime does not work: no attempt counts, and a trial finds out when it does again."""
    switch = bench.place / "works"
    broken = bench.place / "engine"
    words = bench.podman.words
    broken.write_text(f'#!/bin/sh\nif [ "$1" = run ] && ! [ -e {switch} ]; then\n'
                      f'  exec {words} --runtime /bin/false "$@"\nfi\nexec {words} "$@"\n')  # fmt: skip
    broken.chmod(0o755)
    run = bench.prepare(bench.script("echo started"))
    finder = Finder(bench.podman.environment, str(broken))
    images = Images(finder, bench.place, bench.place / "state", lambda: None, silent)
    engine = ContainerEngine(finder, images, lambda _: Magickbox(), bench.place, LIMITS)
    images.want(Dropins(good=(run.processor,)))
    images.look_round()
    assert engine.refusal(run.processor) is None
    ended = engine.run(run, lambda _: None)
    assert (ended.trouble, ended.not_begun) == (None, True)
    assert f"(setting container_engine: {broken})" in (ended.interrupted or "")
    told = set()
    for _ in range(3):
        told.add(why := engine.refusal(run.processor))
        assert (why or "").startswith(f"processor {run.processor.name} waits: podman could not start it: ")
        images.look_round()
    assert len(told) == 1, "the same trouble is told once"
    assert engine.refusal(run.processor) is not None
    switch.touch()
    images.look_round()
    assert engine.refusal(run.processor) is None
    assert engine.run(run, lambda _: None) == Ended(0, "started")


def test_cards_that_are_not_there_are_no_fault_of_the_processor(bench: ContainerBench) -> None:
    run = bench.prepare(bench.script("echo started"))
    run = replace(run, processor=replace(run.processor, resources=(("gpus", 1),)))
    ended = bench.engine.run(run, lambda _: None)
    assert (ended.trouble, ended.not_begun) == (None, True)
    assert "resources.gpus asks for graphics cards" in (bench.engine.refusal(run.processor) or "")


def test_too_much_output_ends_the_run(bench: ContainerBench) -> None:
    run = bench.prepare(bench.script('exec dd if=/dev/zero of="$2/big" bs=1M count=100 2>/dev/null; sleep 30'))
    run = replace(run, processor=replace(run.processor, resources=(("output", "20M"),)))
    ended = bench.engine.run(run, lambda _: None)
    assert ended.trouble == "wrote more into OUTPUT than 20M (resources.output)"


def test_without_an_engine_a_run_is_interrupted(bench: ContainerBench, tmp_path: Path) -> None:
    run = bench.prepare(("/bin/true",))
    broken = tmp_path / "podman"
    broken.write_text("#!/bin/sh\necho 'Error: the storage is broken' >&2; exit 125\n")
    broken.chmod(0o755)
    for words, said in ((str(broken), "does not work: the storage is broken"), ("no-engine", "is not installed")):
        finder = Finder(bench.podman.environment, words)
        engine = ContainerEngine(finder, bench.images, lambda _: Magickbox(), bench.place, LIMITS)
        ended = engine.run(run, lambda _: None)
        assert ended.trouble is None
        assert said in (ended.interrupted or "")
        assert engine.end_leftovers(run.name) == 0


def test_a_client_that_is_killed_interrupts_the_run_and_ends_the_container(bench: ContainerBench) -> None:
    told: list[dict[str, object]] = []
    run = bench.prepare(bench.script("echo up; exec sleep 60"))
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(bench.engine.run, run, told.append)
        wait_until(lambda: bool(run.log.exists() and run.log.read_text()))
        os.kill(int(str(told[0]["pid"])), signal.SIGKILL)
        assert result.result().interrupted == "podman was killed (signal 9)"
    assert not bench.survivors(run)


@pytest.mark.parametrize(("content", "said"), [("[]", "is no JSON object"), ("{", "cannot be read: Expecting")])
def test_a_bucket_that_says_nothing_useful_of_itself_is_told(bench: ContainerBench, content: str, said: str) -> None:
    bench.podman.image("odd/bucket", {"/root/work.sh": "#!/bin/sh\n", "/root/storage/info.json": content})
    told: list[tuple[str, str]] = []
    state = bench.place / "other"
    state.mkdir()
    finder = Finder(bench.podman.environment, bench.podman.words)
    images = Images(finder, bench.place, state, lambda: None, lambda level, _, facts: told.append((level, str(facts))))
    images.want(Dropins(good=(Processor("Odd", bench.place, (), "Odd", image="odd/bucket"),)))
    images.look_round()
    assert [level for level, _ in told] == ["info", "warning"]
    assert f"passed over: /root/storage/info.json {said}" in told[1][1]
    assert images.pins["Odd"].problem is None, "it runs all the same"


def test_a_bucket_of_the_original_box(bench: ContainerBench) -> None:
    work = '#!/bin/sh\nls "$1" > "$2/seen"; id -u; cat /memory/start >> /memory/all; cat /memory/all | wc -l'
    info = '{"name": "b", "description": "old", "version": "0.3", "AETitle": "OldBucket", "enabled": 1}'
    files = {"/root/work.sh": work, "/root/storage/info.json": info, "/root/storage/memory/start": "line\n"}
    bench.podman.image("old/bucket", files)
    processor = Processor("Bucket", bench.place, (), "Bucket", image="old/bucket")
    for number in (1, 2):
        run = replace(bench.prepare((), f"mb-old-{number}"), processor=processor)
        run = bench.with_image(run, "old/bucket")
        (run.input / "1.2.dcm").write_text("x")
        ended = bench.engine.run(run, lambda _: None)
        assert ended == Ended(0, str(number)), run.log.read_text()
        assert (run.output / "seen").read_text() == "1.2.dcm\n"
        assert (run.output / "seen").stat().st_uid == os.getuid()
