"""What a processor tries that it must not do: each escape is tried for real, in the sandbox, with a witness outside."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from boxprocess import all_jobs, is_quiet, running, send, set_up, until
from sandboxes import groups, living_in, sandbox
from studies import study

from magickbox.cli.main import main
from magickbox.config import load
from magickbox.datafolder import DataFolder
from magickbox.engine import Ended, Run
from magickbox.engines import bubblewrap, etc_files
from magickbox.engines.limits import Limits
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.engines.protection import AUTO, OFF, REQUIRED, Protection, find_out
from magickbox.job import JobState
from magickbox.processor import Processor
from magickbox.run import Limit
from magickbox.service import Places, build
from magickbox.station import Station

MB = 1024 * 1024
LIMITS = Limits(memory=256 * MB, cpus=1.0, processes=60, file_size=8 * MB)


class House:
    """A data folder with two jobs, a ledger, and one processor that tries what a test says."""

    def __init__(self, root: Path, protection: Protection | None = None) -> None:
        self.data, self.processors = root / "data", root / "processors"
        self.other = self.data / "jobs" / "other" / "INPUT" / "1.dcm"
        self.ledger = self.data / "state" / "ledger.sqlite"
        self.secret = self.processors / "neighbour.sh"
        for path in (self.other, self.ledger, self.secret):
            path.parent.mkdir(parents=True)
            path.write_text("secret of the house")
        self.protection = protection or sandbox(self.data, LIMITS)
        self.run = self.prepare("mb-job-1")

    def prepare(self, name: str) -> Run:
        work = self.data / "jobs" / name / "attempts" / "1"
        for folder in ("INPUT", "OUTPUT"):
            (work / folder).mkdir(parents=True)
        (work / "INPUT" / "1.2.dcm").write_text("as received")
        (work / "info.json").write_text("{}")
        processor = Processor("Try", self.processors, (str(self.processors / "Try"),), "Try")
        return Run(name, "job", 1, processor, work, work.parent.parent / "processing.log", 60.0, 0.3, MB)

    def tries(self, text: str, first: str = "#!/bin/sh", **more: object) -> Ended:
        script = self.processors / "Try"
        script.write_text(f"{first}\n{text}\n")
        script.chmod(0o755)
        self.run = replace(self.run, processor=replace(self.run.processor, **more))  # type: ignore[arg-type]
        environment = clean_environment({"PATH": "/usr/bin:/bin"}, Path(sys.executable))
        return LocalEngine(environment, self.data, self.protection).run(self.run, self._write_run)

    def python(self, text: str, **more: object) -> Ended:
        return self.tries(text, first="#!/usr/bin/env python3", **more)

    def _write_run(self, handle: dict[str, object]) -> None:
        (self.run.workdir / "run.json").write_text(json.dumps(handle))

    @property
    def log(self) -> str:
        return self.run.log.read_text("utf-8", "replace")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    assert not living_in(tmp_path)
    found = house.protection.groups
    assert found is None or not any(path.exists() for path in found.of(house.run.name).folders.values())


def test_the_working_directory_looks_like_a_job_folder(house: House) -> None:
    ended = house.tries('ls; cat "$1/1.2.dcm"; echo \'[{"success": "partial"}]\' > proc.json; echo x > "$2/result"')
    assert ended.exit_code == 0
    assert house.log.split() == ["INPUT", "OUTPUT", "info.json", "run.json", "tmp", "as", "received"]
    assert (house.run.workdir / "proc.json").read_text() == '[{"success": "partial"}]\n'
    assert (house.run.output / "result").stat().st_uid == os.geteuid()
    said = json.loads((house.run.workdir / "run.json").read_text())
    assert (said["sandbox"], said["limits"]["processes"]) == ("bubblewrap", 60)


def test_another_job_the_ledger_and_other_dropins_are_not_there(house: House) -> None:
    ended = house.tries(
        f"cat {house.other} {house.ledger} {house.secret} /etc/shadow; ls {house.data}/jobs {house.processors};"
        f"ls -A {Path.home()} /home; exit 7"
    )
    assert ended.exit_code == 7
    assert "secret" not in house.log
    assert house.log.count("No such file or directory") >= 5
    assert set(house.log.split()) >= {"mb-job-1", "Try"}
    assert "other" not in house.log.split()


def test_of_etc_only_what_everybody_may_read_is_there(tmp_path: Path) -> None:
    source, target = tmp_path / "etc", tmp_path / "copy"
    (source / "ssl" / "private").mkdir(parents=True)
    (source / "ssl" / "private" / "key").write_text("secret")
    (source / "ssl" / "private").chmod(0o710)
    (source / "ssl" / "key").write_text("secret")
    (source / "ssl" / "key").chmod(0o640)
    (source / "ssl" / "certificate").write_text("public")
    (source / "ssl" / "link").symlink_to("certificate")
    (source / "shadow").write_text("secret")
    (source / "real").write_text("UTC")
    (source / "localtime").symlink_to("real")
    etc_files.copy_public(target, source)
    etc_files.copy_public(target, source)
    files = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    network = dict.fromkeys(etc_files.NETWORK, "")
    assert files == {"ssl/certificate": "public", "ssl/link": "public", "localtime": "UTC", **network}


@pytest.fixture
def below_etc() -> Iterator[Path]:
    """A folder of our own in /etc."""
    if not os.access("/etc", os.W_OK):
        pytest.skip("only root may put a drop-in below /etc")
    with tempfile.TemporaryDirectory(prefix="magickbox-test-", dir="/etc") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize("kind", ["file", "folder", "shown"])
def test_a_dropin_below_etc_runs_and_changes_nothing_there(tmp_path: Path, below_etc: Path, kind: str) -> None:
    shows = [below_etc] if kind == "shown" else []
    house = House(tmp_path, sandbox(tmp_path / "data", LIMITS, shows))
    if kind != "shown":
        house.processors = below_etc
        house.run = house.prepare("mb-job-2")
    if kind == "folder":
        (below_etc / "processor.json").write_text("{}")
    (below_etc / "model").write_text("weights")
    ended = house.tries(f"touch {below_etc}/new; touch /etc/new; echo mine >/etc/passwd; ls -A {below_etc}; exit 7")
    assert ended.exit_code == 7, (ended.trouble, house.log)
    assert house.log.count("Read-only file system") == 3
    assert house.log.splitlines()[3:] == {"file": ["Try"], "folder": ["Try", "model", "processor.json"]}.get(
        kind, ["model"]
    )
    assert house.tries("exit 0").exit_code == 0


def test_a_data_folder_inside_of_what_is_shown_is_hidden_too(tmp_path: Path) -> None:
    house = House(tmp_path, sandbox(tmp_path / "data", LIMITS, [tmp_path]))
    assert house.tries(f"cat {house.secret} {house.other}; ls {house.data}/jobs").exit_code == 0
    assert "secret of the house" in house.log, "the whole folder is shown"
    assert house.log.count("secret of the house") == 1
    assert "No such file or directory" in house.log


def test_a_server_on_this_machine_is_out_of_reach_without_network(house: House) -> None:
    ask = "import socket, sys\nsocket.create_connection(('127.0.0.1', {}), 5).sendall(b'from inside')"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = server.getsockname()[1]
        assert house.python(ask.format(port)).exit_code == 1
        assert "ConnectionRefused" in house.log
        with pytest.raises(TimeoutError):
            server.accept()
        assert house.python(ask.format(port), network=True).exit_code == 0
        server.settimeout(5)
        assert server.accept()[0].recv(100) == b"from inside"


def test_a_socket_without_a_name_on_disk_is_out_of_reach(house: House) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0magickbox-test-" + str(os.getpid()))
        server.listen()
        name = f"'\\0magickbox-test-{os.getpid()}'"
        assert house.python(f"import socket\nsocket.socket(socket.AF_UNIX).connect({name})").exit_code == 1
    assert "ConnectionRefused" in house.log


@pytest.mark.parametrize(
    "attack",
    [
        'echo x > "$1/1.2.dcm"', 'chmod 666 "$1/1.2.dcm"', 'rm "$1/1.2.dcm"', 'mv "$1" gone', 'echo x > "$1/new"',
        "echo x > info.json", "echo x > run.json", "rm run.json", "echo x > ../../marker", "echo x > /usr/marker",
        'ln -s ../../.. "$2/up" && echo x > "$2/up/marker"', 'ln "$1/1.2.dcm" "$2/same" && echo x > "$2/same"',
        'echo x >> "$0"', 'mknod "$2/disk" b 8 0', "mount -t tmpfs x /tmp",
        "unshare --user --map-root-user true", "chroot / true", "kill -9 -1; kill -9 $PPID",
        'mount -o remount,rw "$1"', 'umount "$1"', "date -s 2000-01-01", "echo h > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/vm/drop_caches", "hostname elsewhere", "echo 1000 > /proc/sys/kernel/pid_max",
        'echo x > "$MAGICKBOX_PROCESSOR/marker" && false', "echo x > /tmp/marker && false",
        "dd if=/dev/vda of=/dev/null count=1",
    ],
)  # fmt: skip
def test_what_must_not_be_changed_is_refused(house: House, attack: str) -> None:
    ended = house.tries(f"( {attack} ) && exit 0; exit 7" if "kill" not in attack else f"{attack}; exit 7")
    assert ended.exit_code in (7, -9), house.log
    assert (house.run.input / "1.2.dcm").read_text() == "as received"
    assert (house.run.workdir / "info.json").read_text() == "{}"
    assert "bubblewrap" in (house.run.workdir / "run.json").read_text()
    assert not list(house.data.parent.rglob("marker"))
    assert house.other.read_text() == "secret of the house"


def test_what_is_set_for_the_inside_does_nothing_outside(house: House) -> None:
    """The library that a processor names in LD_PRELOAD is not for bwrap, which runs outside."""
    trace = house.processors / "trace"
    environment = (("LD_PRELOAD", "/nowhere/evil.so"), ("LD_DEBUG", "files"), ("LD_DEBUG_OUTPUT", str(trace)))
    assert house.tries("exit 0", environment=environment).exit_code == 0
    assert not list(house.processors.glob("trace*"))


def test_no_capability_and_no_way_to_new_privileges(house: House) -> None:
    assert house.tries("grep -E 'CapEff|CapPrm|CapBnd|NoNewPrivs' /proc/self/status").exit_code == 0
    told = dict(line.split(":\t") for line in house.log.splitlines())
    assert {told[name].strip("0") for name in ("CapEff", "CapPrm", "CapBnd")} == {""}
    assert told["NoNewPrivs"] == "1"


def test_it_sees_no_process_but_its_own(house: House) -> None:
    assert house.tries("ls -d /proc/[0-9]*; echo $$").exit_code == 0
    assert len(house.log.splitlines()) <= 5


@pytest.mark.parametrize(
    "daemon",
    [
        "setsid sleep 300 &",
        "(setsid env -i sh -c 'trap \"\" TERM HUP INT; (setsid sleep 300 &) ; sleep 300' &) &",
        "env -i setsid nohup sh -c 'while :; do setsid sleep 300; done' >/dev/null 2>&1 &",
    ],
)
def test_nothing_outlives_its_run(house: House, daemon: str) -> None:
    ended = house.tries(f"{daemon}\nsleep 0.2; exit 3")
    assert ended.exit_code == 3
    assert not living_in(house.data)


def test_sigterm_ignored_ends_at_the_time_limit(house: House) -> None:
    house.run = replace(house.run, timeout=0.5)
    ended = house.tries(
        "trap '' TERM INT HUP; (setsid sh -c 'trap \"\" TERM; sleep 300' &) ; while :; do sleep 1; done"
    )
    assert ended.trouble == "out of time after 0.5 s"
    assert not living_in(house.data)


EAT = "held = []\nwhile True:\n    held.append(bytearray(b'x' * (1 << 24)))"


def needs_groups(house: House) -> None:
    if house.protection.groups is None:
        pytest.skip("control groups cannot be made here")


def test_memory_has_a_limit_of_which_the_message_speaks(house: House) -> None:
    needs_groups(house)
    ended = house.python(EAT)
    assert (ended.trouble, ended.limit) == ("out of memory (limit 256 MB)", Limit.MEMORY)


def test_memory_of_all_its_processes_counts(house: House) -> None:
    needs_groups(house)
    one = "held = bytearray(b'x' * (1 << 27))\nimport time; time.sleep(60)"
    ended = house.python(
        f"import subprocess, sys\nall = [subprocess.Popen([sys.executable, '-c', {one!r}]) for _ in range(4)]\n"
        "sys.exit(min(each.wait() for each in all[:1]) and 1 if False else next(c for c in iter("
        "lambda: next((e.poll() for e in all if e.poll() is not None), None), object()) if c is not None) and 1)"
    )
    assert ended.trouble == "out of memory (limit 256 MB)"


def test_memory_in_temporary_files_of_memory_counts(house: House) -> None:
    needs_groups(house)
    ended = house.tries("for i in 1 2 3 4 5 6 7 8; do for j in 1 2 3 4 5 6 7; do "
                        "head -c 8000000 /dev/zero > /dev/shm/$i-$j || exit 1; done; done")  # fmt: skip
    assert ended.trouble == "out of memory (limit 256 MB)"


def test_whatever_goes_wrong_at_its_start_leaves_nothing(house: House) -> None:
    """The fixture looks for what is left; no processor.json may ask for so much."""
    with pytest.raises(OverflowError):
        house.python("print(1)", resources=(("file_size", "99999999999T"),))


def test_a_limit_of_its_own_wins(house: House) -> None:
    needs_groups(house)
    assert house.python(EAT, resources=(("memory", "64M"),)).trouble == "out of memory (limit 64 MB)"
    assert house.python("x = bytearray(b'x' * (400 << 20))", resources=(("memory", "1G"),)).exit_code == 0


def test_a_fork_bomb_ends_and_says_so(house: House) -> None:
    needs_groups(house)
    house.run = replace(house.run, timeout=20.0)
    ended = house.python("import os\ntry:\n    while True: os.fork()\nexcept OSError: os._exit(1)")
    assert ended.trouble == "too many processes (limit 60)"


@pytest.mark.parametrize("writer", ["dd if=/dev/zero of=$2/big bs=1M count=20", "head -c 20000000 /dev/zero > tmp/big"])
def test_a_file_has_a_largest_size(house: House, writer: str) -> None:
    assert house.tries(f"{writer} || exit 1").trouble == "a file became too large (limit 8 MB)"
    assert max((p.stat().st_size for p in house.run.output.iterdir()), default=0) <= 8 * MB


def test_a_limit_that_was_met_is_told_although_the_script_went_on(house: House) -> None:
    """Its results may lack what did not fit."""
    told = "it ended well, but met a limit: a file became too large (limit 8 MB)"
    assert house.tries("head -c 20000000 /dev/zero > $2/big; exit 0") == Ended(0, ANY, met=told)
    assert house.tries("rm $2/big; head -c 2000000 /dev/zero > $2/small") == Ended(0, ANY)


def test_memory_that_ran_out_within_a_script_that_went_on_is_told(house: House) -> None:
    needs_groups(house)
    inner = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'bytearray(b\"x\") * (400 << 20)'])"
    ended = house.python(inner)
    assert (ended.exit_code, ended.trouble) == (0, None)
    assert ended.met == "it ended well, but met a limit: out of memory (limit 256 MB)"


def test_a_small_trouble_is_not_called_by_a_limit(house: House) -> None:
    ended = house.tries("echo no licence; exit 3")
    assert (ended.exit_code, ended.trouble, ended.last_line) == (3, None, "no licence")


def test_a_program_that_is_only_outside_is_named(house: House, tmp_path: Path) -> None:
    hidden = tmp_path / "tools" / "run"
    hidden.parent.mkdir()
    hidden.write_text("#!/bin/sh\n")
    hidden.chmod(0o755)
    ended = house.tries("", command=(str(hidden),))
    assert ended.trouble == f"could not start: {hidden} is not visible in the sandbox (setting sandbox_shows)"
    house.protection = sandbox(house.data, LIMITS, [hidden.parent])
    assert house.tries("", command=(str(hidden),)) == Ended(0)


# --- without a sandbox ----------------------------------------------------------------------------------------------


def test_a_daemon_that_hides_is_found_by_its_control_group(tmp_path: Path) -> None:
    house = House(tmp_path, groups(tmp_path / "data", LIMITS))
    hides = "env -i setsid sh -c '(setsid sleep 300 &) ; exit 0' & wait"
    assert house.tries(f"{hides}\nsleep 0.1").exit_code == 0
    assert not living_in(house.data)


@pytest.mark.skipif(os.geteuid() != 0, reason="control groups need root here")
def test_leftovers_of_a_killed_box_are_found_by_their_control_group(tmp_path: Path) -> None:
    house = House(tmp_path, groups(tmp_path / "data", LIMITS))
    assert house.protection.groups is not None
    group = house.protection.groups.of("mb-job-1")
    group.make(LIMITS)
    child = os.posix_spawn("/bin/sleep", ["sleep", "300"], {})
    group.add(child)
    engine = LocalEngine({}, house.data, house.protection)
    assert engine.end_leftovers("mb-job-1") == 1
    assert os.waitpid(child, 0)[1] == 9
    assert not any(path.exists() for path in group.folders.values())


def test_limits_without_control_groups(tmp_path: Path) -> None:
    house = House(tmp_path, Protection(limits=LIMITS))
    ended = house.python(EAT)
    assert ended.trouble is not None
    assert ended.trouble.startswith("out of memory (limit 256 MB for each process): ")
    assert (
        house.tries("head -c 20000000 /dev/zero > $2/big || exit 1").trouble == "a file became too large (limit 8 MB)"
    )


# --- the setting ----------------------------------------------------------------------------------------------------


def test_off_is_off_and_says_so(tmp_path: Path) -> None:
    found = find_out(OFF, tmp_path, LIMITS, (), tmp_path / "etc")
    assert (found.sandbox, found.refusal) == (None, None)
    assert found.warning is not None
    assert found.warning.startswith("the sandbox is switched off")


def test_without_bubblewrap_auto_warns_and_required_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    auto, required = (find_out(word, tmp_path, LIMITS, (), tmp_path / "etc") for word in (AUTO, REQUIRED))
    assert auto.warning is not None
    assert "bubblewrap is not installed" in auto.warning
    assert auto.refusal is None
    assert required.refusal is not None
    assert "the sandbox is required, and bubblewrap is not installed" in required.refusal
    processor = Processor("P", tmp_path, ("/bin/true",), "P")
    assert LocalEngine({}, tmp_path, required).refusal(processor) == required.refusal
    assert LocalEngine({}, tmp_path, auto).refusal(processor) is None


def test_a_bubblewrap_that_does_not_work_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where user namespaces are forbidden."""
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said = bubblewrap.probe(tmp_path, Path(sys.executable), (), tmp_path / "etc")
    assert said == "bubblewrap is installed and does not work here: bwrap: setting up uid map: Permission denied"


def test_a_box_that_is_not_root_has_the_same_walls(tmp_path: Path) -> None:
    """Tried as another user where the tests are root; as ourselves all other tests do it."""
    if os.geteuid() != 0:
        pytest.skip("all other tests are this one for a user who is not root")
    sandbox(tmp_path)
    command = [*("bwrap", *bubblewrap.WALLS, bubblewrap.NO_MORE_USERS), "--ro-bind", "/usr", "/usr"]
    command += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--", "/usr/bin/id", "-u"]
    other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = subprocess.run([*other, *command], capture_output=True, text=True, timeout=30)
    if "Permission denied" in done.stderr or "No permissions" in done.stderr:
        pytest.skip(f"user namespaces are for root only here: {done.stderr}")
    assert (done.stdout, done.stderr) == ("65534\n", "")


# --- the whole box --------------------------------------------------------------------------------------------------


def test_a_box_that_requires_a_sandbox_and_has_none_keeps_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    set_up(root, 1, "COPY")
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = load(None, {}, {"host": "127.0.0.1", "port": 0, "settle": 0, "sandbox": "required"}).settings
    box = build(settings, Places(DataFolder(root), root / "routing.json", root / "processors"), {})
    box.start()
    try:
        send(box.receiver.address[1], study(tmp_path / "one", 1), "COPY")
        until(lambda: any("the sandbox is required" in job.reason for job in all_jobs(root)), what="the reason")
        assert [job.state for job in all_jobs(root)] == [JobState.READY]
        assert box.status()["sandbox"] == box.protection.refusal
    finally:
        box.stop()
    assert "WARNING sandbox reason=" in (root / "logs" / "process.log").read_text()
    arguments = ["check", "--data", str(root), "--processors", str(root / "processors")]
    assert main([*arguments, "--sandbox", "required"]) == 1
    assert "PROBLEM  sandbox: the sandbox is required" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "WARNING  sandbox: no sandbox, processors run with the rights of the box" in capsys.readouterr().out


def test_a_box_takes_what_is_good_of_a_hostile_output(tmp_path: Path) -> None:
    """Many files, odd names, traps, a flood of log, a daemon: the result goes out, and the box goes on."""
    sandbox(tmp_path)
    root = tmp_path / "data"
    station = Station(tmp_path / "station", "STATION")
    set_up(root, station.start(), "COPY")
    script = root / "processors" / "HOSTILE"
    script.write_text(
        "#!/bin/sh\n(setsid env -i sleep 300 &)\nhead -c 100000000 /dev/zero | tr '\\0' x\n"
        'cp "$1"/* "$2"/\nmkdir "$2/many"\ncd "$2/many"\nseq 1 5000 | xargs touch\n'
        "mkfifo pipe\nln -s /etc/passwd link\ntouch \"$(printf 'a\\377\\nb')\"\nchmod 0 1 2 3\nchmod 0 .\nexit 0\n"
    )
    script.chmod(0o755)
    try:
        with running(root) as box:
            assert box.port is not None
            for called in ("HOSTILE", "COPY"):
                send(box.port, study(tmp_path / called, 1), called)
                until(lambda: is_quiet(root), 60, "the box is at rest")
    finally:
        station.stop()
    hostile, copied = sorted(all_jobs(root), key=lambda job: job.called_ae == "COPY")
    assert (hostile.state, copied.state) == (JobState.DONE, JobState.DONE), (hostile.reason, copied.reason)
    assert (
        "OUTPUT: 1 pipe, socket or device node and 1 link that leads elsewhere or nowhere (many/link)"
        in hostile.message
    )
    assert len(os.listdir(root / "jobs" / hostile.id / "OUTPUT" / "many")) == 5001
    assert len(station.received) == 2
    assert not living_in(root)
