"""Slurm by its command line. Every question has a time limit: they block while the controller is down.

Nothing goes through a shell, and no program gets more of the box's environment than it needs to find its cluster.
"""

import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magickbox.errors import EngineDown

INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SLURM_CONF",
    "SLURM_CLUSTERS",
    "TZ",
    "CONTAINERS_CONF",
    "APPTAINER_CACHEDIR",
)
ANSWER = 20.0  # seconds for a question that costs milliseconds
LONGEST = 300
FIELDS = (
    ("JobID", 12),
    ("State", 24),
    ("Reason", 48),
    ("exit_code", 10),
    ("NodeList", 64),
    ("Name", 128),
    ("Comment", 80),
)
QUEUE = ",".join(f"{name}:{width}" for name, width in FIELDS)
CONFIGURATION = ("partition", "account", "qos", "reservation", "permission", "access", "user", "association", "policy")
NOT_THERE = (
    "node configuration is not available", "memory specification", "cpu count", "node count", "time limit",
    "more processors requested", "generic resource",
)  # fmt: skip
ACTIVE = frozenset({
    "PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING", "STOPPED",
    "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD",
})  # fmt: skip


@dataclass(frozen=True)
class AtCluster:
    """A job as the controller has it: a hint, never the truth. ``exit_code`` is the job script's own."""

    id: str
    state: str
    reason: str
    exit_code: int
    node: str
    name: str
    comment: str

    @property
    def is_active(self) -> bool:
        """True if it waits or runs; False if it is over, in whatever way."""
        return self.state in ACTIVE


class Refused(Exception):
    """sbatch would not take a job; ``lasting`` if no change of the cluster's configuration is likely to help."""

    def __init__(self, why: str, lasting: bool) -> None:
        """Keep what was said."""
        super().__init__(why)
        self.lasting = lasting


class SlurmClient:
    """Asks one cluster; safe from several threads. Every method raises EngineDown if Slurm does not answer in time."""

    def __init__(self, environment: Mapping[str, str], answer: float = ANSWER) -> None:
        """``environment`` is the box's own: PATH and SLURM_CONF are taken from it; ``answer`` is seconds."""
        kept = {key: environment[key] for key in INHERITED if key in environment}
        self._environment = {"PATH": os.defpath, **kept, "LANG": "C.UTF-8"}
        self._answer = answer

    def missing(self) -> str | None:
        """Which program of Slurm's this machine has not got."""
        path = self._environment["PATH"]
        return next((name for name in ("sbatch", "squeue", "scancel") if shutil.which(name, path=path) is None), None)

    def submit(self, options: Sequence[str], script: Path) -> str:
        """Give a job to the cluster and return its id; raises Refused too."""
        code, out, err = self._ask("sbatch", "--parsable", *options, "--", str(script))
        if code != 0:
            raise _refusal(err)
        return out.strip().partition(";")[0]

    def tried(self, options: Sequence[str]) -> str | None:
        """Why the cluster would not take a job with these options now; None if it would. Nothing is submitted."""
        code, _, err = self._ask("sbatch", "--test-only", *options, "--wrap=true")
        return None if code == 0 else str(_refusal(err))

    def queue(self, comment: str) -> list[AtCluster]:
        """All jobs of this user that bear the comment, those that are over too as long as Slurm remembers them."""
        told = self._need("squeue", "--noheader", "--states=all", f"--user={os.getuid()}", "--Format", QUEUE)
        rows = (_row(line) for line in told.splitlines())
        return [row for row in rows if row is not None and row.comment == comment]

    def cancel(self, ids: Collection[str]) -> None:
        """End jobs, waiting or running; one that is over is no error."""
        if ids:
            self._ask("scancel", "--quiet", *ids)

    def tell(self, job: str, what: str) -> None:
        """Signal the script of a running job, and nothing else of it: it ends in its own way."""
        self._ask("scancel", "--quiet", "--batch", f"--signal={what}", job)

    def partitions(self) -> dict[str, tuple[str, ...]]:
        """The names of the partitions, each with its nodes; the default one first."""
        told = self._need("sinfo", "--noheader", "--Node", "--Format", "Partition:64,NodeList:128")
        found: dict[str, list[str]] = {}
        for line in told.splitlines():
            name, node = line[:64].strip(), line[64:].strip()
            found.setdefault(name, []).append(node)
        ordered = sorted(found.items(), key=lambda each: not each[0].endswith("*"))
        return {name.rstrip("*"): tuple(nodes) for name, nodes in ordered}

    def _need(self, *command: str) -> str:
        code, out, err = self._ask(*command)
        if code != 0:
            raise EngineDown(f"Slurm does not answer: {_last(err) or f'{command[0]} ended with {code}'}")
        return out

    def _ask(self, *command: str) -> tuple[int, str, str]:
        try:
            done = subprocess.run(  # noqa: S603  a list of arguments, no shell
                command, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=self._answer,
                check=False, cwd="/",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EngineDown(f"Slurm does not answer: {command[0]} took more than {self._answer:.0f} s") from None
        except OSError as exc:
            raise EngineDown(f"{command[0]} cannot be started: {exc.strerror}") from exc
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def _refusal(err: str) -> Exception:
    """What a failed sbatch means: no answer, a wish that no node can grant, or a cluster that is set up otherwise."""
    said = _last(err)
    low = err.casefold()
    if any(words in low for words in NOT_THERE):
        return Refused(said, lasting=True)
    if any(word in low for word in CONFIGURATION):
        return Refused(said, lasting=False)
    return EngineDown(f"Slurm does not take jobs: {said}")


def _last(err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    said = lines[-1] if lines else ""
    for before in ("sbatch: error: ", "squeue: error: ", "allocation failure: ", "Batch job submission failed: "):
        said = said.removeprefix(before)
    return said.removeprefix("slurm_load_jobs error: ")[:LONGEST]


def _row(line: str) -> AtCluster | None:
    cells, at = [], 0
    for _, width in FIELDS:
        cells.append(line[at : at + width].strip())
        at += width
    if not cells[0].isdigit():
        return None
    status = int(cells[3]) if cells[3].isdigit() else 0
    return AtCluster(cells[0], cells[1], cells[2], os.waitstatus_to_exitcode(status), cells[4], cells[5], cells[6])
