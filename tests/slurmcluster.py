"""A real Slurm as tests use it: Debian's controller and two of its node daemons, on this machine and for one test run.

Everything of it lies in one folder and listens on free ports of this machine: munged, slurmctld, slurmd for n1 and n2.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PATIENCE = 60.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CONFIG = """\
ClusterName=mbtest
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
GresTypes=gpu
SlurmdParameters=config_overrides
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=10
InactiveLimit=0
KillWait=5
MinJobAge=30
MaxArraySize=2
MaxJobCount=5000
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=1000,batch_sched_delay=0,sched_interval=1,defer_batch=0
{nodes}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=small Nodes=n2 MaxTime=10 State=UP
"""
NODE = (
    "NodeName={name} NodeHostName={host} NodeAddr=127.0.0.1 Port={port} CPUs=40 RealMemory=64000 Gres={gres} "
    "State=UNKNOWN"
)


@dataclass
class Cluster:
    """A Slurm that runs; its programs find it by ``environment``."""

    place: Path
    environment: dict[str, str]
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def ask(self, *command: str, patience: float = 20.0) -> str:
        """What a program of Slurm's prints."""
        done = subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, check=False,
            cwd=self.place,
        )  # fmt: skip
        return (done.stdout + done.stderr).decode()

    def start(self, *names: str, hidden: Path | None = None) -> None:
        """Start daemons by their names: munged, slurmctld, n1, n2; what a node does not see is ``hidden`` (as root)."""
        if hidden is not None and os.getuid() != 0:
            pytest.skip("only root can take a folder out of a node's sight")
        hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden)]
        for name in names:
            with open(self.place / f"{name}.out", "ab") as out:
                command = [*(hide if hidden is not None else []), *self._command(name)]
                self.processes[name] = subprocess.Popen(
                    command, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    start_new_session=True, cwd=self.place,
                )  # fmt: skip

    def kill(self, name: str) -> None:
        """End a daemon with SIGKILL."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def pause(self, name: str) -> None:
        """Keep a daemon from answering, until ``go_on``."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """Let a daemon answer again."""
        self.processes[name].send_signal(signal.SIGCONT)

    def steps(self) -> list[psutil.Process]:
        """The step daemons of jobs that run now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name() == "slurmstepd" and self._is_ours(process):
                    found.append(process)
        return found

    def _scripts(self) -> list[psutil.Process]:
        """Job scripts that go on though their step daemon is gone."""
        spools = tuple(str(self.place / f"spool-{node}") for node in ("n1", "n2"))
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(part.startswith(spools) for part in process.cmdline()):
                    found.append(process)
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        return Path(process.cwd()).is_relative_to(self.place)

    def _command(self, name: str) -> list[str]:
        conf = str(self.place / "slurm.conf")
        if name == "munged":
            files = (f"--{what}={self.place}/munge.{what.split('-')[0]}" for what in ("pid-file", "log-file"))
            return ["munged", "--foreground", "--force", f"--key-file={self.place}/munge.key",
                    f"--socket={self.place}/munge.socket", f"--seed-file={self.place}/munge.seed", *files]  # fmt: skip
        if name == "slurmctld":
            return ["slurmctld", "-D", "-f", conf]
        return ["slurmd", "-D", "-f", conf, "-N", name]

    def wait_ready(self) -> None:
        """Until the controller answers and both nodes can take jobs."""
        wait_for(lambda: self.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle", "idle"],
                 lambda: self.ask("sinfo", "-N", "-l") + self.logs())  # fmt: skip

    def jobs(self) -> dict[str, str]:
        """Each job that Slurm still knows: its name and state."""
        told = self.ask("squeue", "-h", "-t", "all", "-o", "%j %T").splitlines()
        return dict(line.split(" ", 1) for line in told if " " in line)

    def logs(self) -> str:
        """The last lines of what the daemons said."""
        files = [*sorted(self.place.glob("*.log")), *sorted(self.place.glob("*.out"))]
        return "\n".join(f"--- {each.name}\n{each.read_text(errors='replace')[-2000:]}" for each in files)

    def clear(self) -> None:
        """End every job and wait for that; start what a test has killed."""
        for name in ("munged", "slurmctld", "n1", "n2"):
            if name in self.processes and self.processes[name].poll() is None:
                self.go_on(name)
            else:
                self.start(name)
        wait_for(lambda: "UP" in self.ask("scontrol", "ping"), self.logs)
        self.ask("scancel", f"--user={os.getuid()}")
        wait_for(lambda: not self.ask("squeue", "-h"), lambda: self.ask("squeue") + self.logs())
        for name in ("n1", "n2"):
            if "idle" not in self.ask("sinfo", "-h", "-n", name, "-o", "%T"):
                self.ask("scontrol", "update", f"NodeName={name}", "State=RESUME")
        self.wait_ready()

    def stop(self) -> None:
        """End all of it: each process that was started, and what the nodes started."""
        left = [*self.steps()]
        left += [child for step in left for child in _children(step)]
        for name in ("n1", "n2", "slurmctld", "munged"):
            if name in self.processes:
                self.go_on(name)
                self.processes[name].terminate()
        for process in (*left, *self._scripts()):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for daemon in self.processes.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def wait_for(true: Callable[[], bool], told: Callable[[], str] = str, seconds: float = PATIENCE) -> None:
    """Wait until something is so; fail with what ``told`` says if that takes too long."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, f"waited in vain: {told()}"
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing() -> str | None:
    """Which program of Slurm's is not installed."""
    return next((name for name in PROGRAMS if shutil.which(name, path=PATH) is None), None)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A Slurm with two nodes; without its programs skip, but fail in CI."""
    if (name := missing()) is not None:
        if os.environ.get("CI", "").casefold() == "true":
            pytest.fail(f"CI has to have Slurm: {name} is not installed")
        pytest.skip(f"{name} is not installed (Debian's slurmctld, slurmd, munge, slurm-client)")
    with tempfile.TemporaryDirectory(prefix="mb-slurm-", ignore_cleanup_errors=True) as folder:
        made = _made(Path(folder))
        try:
            made.start("munged")
            wait_for((made.place / "munge.socket").exists, made.logs)
            made.start("slurmctld", "n1", "n2")
            made.wait_ready()
            yield made
        finally:
            made.stop()


def _made(place: Path) -> Cluster:
    host, user = socket.gethostname().split(".")[0], pwd.getpwuid(os.getuid()).pw_name
    ports = {name: _free_port() for name in ("slurmctld", "n1", "n2")}
    place.chmod(0o755)
    (place / "state").mkdir()
    (place / "munge.key").write_bytes(os.urandom(1024))
    (place / "munge.key").chmod(0o400)
    nodes = [NODE.format(name=n, host=host, port=ports[n], gres="gpu:1" if n == "n1" else "") for n in ("n1", "n2")]
    (place / "slurm.conf").write_text(
        CONFIG.format(place=place, host=host, user=user, port=ports["slurmctld"], nodes="\n".join(nodes)).replace(
            "Gres= ", ""
        )
    )
    (place / "gres.conf").write_text("NodeName=n1 Name=gpu File=/dev/null\n")
    environment = {"PATH": PATH, "SLURM_CONF": str(place / "slurm.conf"), "LANG": "C.UTF-8", "HOME": str(place)}
    return Cluster(place, environment, ports)


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Cluster]:
    """One Slurm for all tests of the session."""
    with cluster() as made:
        yield made


@pytest.fixture
def slurm(slurm_cluster: Cluster) -> Iterator[Cluster]:
    """That Slurm, with no job and all daemons up before and after the test."""
    yield slurm_cluster
    slurm_cluster.clear()
