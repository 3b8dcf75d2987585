"""A trial of a cluster, for ``check``: can the box submit there, and does each node see what it has to see?"""

import secrets
import shlex
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from magickbox.engines import slurm_order, slurm_request
from magickbox.engines.slurm_client import AtCluster, Refused, SlurmClient
from magickbox.engines.slurm_request import Place
from magickbox.engines.slurm_verdict import UNSEEN
from magickbox.errors import EngineDown
from magickbox.jobfolder import remove_tree

MOST = 64  # nodes that are tried
NEEDED = ("setsid", "grep", "find", "mktemp", "mkfifo", "sync", "head", "tail", "tee", "wc")

SCRIPT = """\
#!/bin/sh
[ -d "$here" ] || exit 71
missing=
for each in {needed}; do command -v "$each" > /dev/null || missing="$missing $each"; done
[ -d "$processors" ] || missing="$missing the_folder_$processors"
walls=no
bwrap --unshare-all --unshare-user --ro-bind / / --dev /dev --proc /proc -- true > /dev/null 2>&1 && walls=yes
name=${{SLURMD_NODENAME:-$(uname -n)}}
printf '%s\\n' "$(id -u) $walls$missing" > "$here/.$name" && mv "$here/.$name" "$here/$name" || exit 73
"""


@dataclass(frozen=True)
class Trial:
    """What is tried: ``here`` is a folder in the data folder, ``processors`` where drop-ins lie; times in seconds."""

    client: SlurmClient
    here: Path
    processors: Path
    sandbox: str
    patience: float = 60.0

    def of(self, places: Iterable[Place]) -> tuple[list[str], list[str]]:
        """What is good and what is wrong, in sentences; blocks for ``patience`` at most, and somewhat more."""
        if (name := self.client.missing()) is not None:
            return [], [f"{name} is not installed on this machine"]
        good: list[str] = []
        wrong: list[str] = []
        try:
            known = self.client.partitions()
            usable = []
            for place in dict.fromkeys(places):
                why = self._why_not(place, known)
                (wrong.append(why) if why else usable.append(place))
            for place in usable:
                told, bad = self._nodes(place, known[place.partition or next(iter(known))])
                good += told
                wrong += bad
        except EngineDown as exc:
            wrong.append(str(exc))
        except OSError as exc:
            wrong.append(f"{self.here} cannot be written: {exc.strerror}")
        return good, wrong

    def _why_not(self, place: Place, known: dict[str, tuple[str, ...]]) -> str | None:
        if not known:
            return "the cluster has no partition for this user"
        if place.partition is not None and place.partition not in known:
            return f"there is no partition {place.partition}; there are {', '.join(known)}"
        return slurm_order.why_not(self.client, place)

    def _nodes(self, place: Place, nodes: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Let a job on each node leave a mark, and read what comes."""
        folder = self.here / f"slurm-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        comment = f"magickbox-check-{folder.name}"
        asked: dict[str, str] = {}
        try:
            script = folder / "trial.sh"
            head = f"here={shlex.quote(str(folder))}\nprocessors={shlex.quote(str(self.processors))}\n"
            body = SCRIPT.format(needed=" ".join(NEEDED)).split("\n", 1)
            script.write_text(f"{body[0]}\n{head}{body[1]}", "utf-8")
            wrong = list(self._submitted(place, nodes[:MOST], comment, script, asked))
            seen = self._waited(folder, asked, comment)
            return self._told(place, folder, asked, seen, wrong)
        finally:
            self.client.cancel(list(asked.values()))
            remove_tree(folder)

    def _submitted(
        self, place: Place, nodes: Iterable[str], comment: str, script: Path, asked: dict[str, str]
    ) -> Iterator[str]:
        for node in nodes:
            options = [f"--nodelist={node}", "--job-name=mb-check", f"--comment={comment}", "--no-requeue", "--time=2"]
            try:
                asked[node] = self.client.submit([*slurm_request.unseen(), *options, *place.options()], script)
            except Refused as exc:
                yield f"node {node} takes no job: {exc}"

    def _waited(self, folder: Path, asked: dict[str, str], comment: str) -> dict[str, AtCluster]:
        """Until each node has left its mark or its job is over for a while; what Slurm says at the end."""
        give_up = time.monotonic() + self.patience
        rows: dict[str, AtCluster] = {}
        while time.monotonic() < give_up:
            rows = {row.id: row for row in self.client.queue(comment)}
            left = [node for node, job in asked.items() if not self._is_over(folder, node, rows.get(job))]
            if not left:
                break
            time.sleep(0.5)
        return rows

    @staticmethod
    def _is_over(folder: Path, node: str, row: AtCluster | None) -> bool:
        names = {each.name for each in folder.iterdir()}
        return node in names or (row is not None and not row.is_active and row.exit_code != 0)

    def _told(
        self, place: Place, folder: Path, asked: dict[str, str], rows: dict[str, AtCluster], wrong: list[str]
    ) -> tuple[list[str], list[str]]:
        good: list[str] = []
        fine: list[str] = []
        for node, job in asked.items():
            row = rows.get(job)
            mark = folder / node
            if mark.exists():
                problem = self._read(node, mark.read_text("utf-8").split())
                (wrong if problem else fine).append(problem or node)
            elif row is not None and row.state == "PENDING":
                good.append(f"note: node {node} was not tried: it has no room now ({row.reason})")
            elif row is not None and row.exit_code == UNSEEN:
                wrong.append(f"node {node} does not see the data folder {self.here.parent}")
            else:
                said = f"Slurm says {row.state}" if row is not None else "Slurm does not know the job"
                wrong.append(f"what node {node} wrote into {self.here.parent} is not seen here ({said})")
        if fine:
            good.insert(0, f"{place}: data folder and processors are seen by {', '.join(fine)}")
        return good, wrong

    def _read(self, node: str, told: list[str]) -> str | None:
        """What is wrong with a node by its own words."""
        if len(told) < 2:
            return f"what node {node} wrote cannot be read"
        if missing := [each.replace("the_folder_", "the folder ") for each in told[2:]]:
            return f"node {node} does not see {', '.join(missing)}"
        if told[1] == "no" and self.sandbox == "required":
            return f"node {node} has no working bubblewrap, and the setting sandbox is required"
        return None
