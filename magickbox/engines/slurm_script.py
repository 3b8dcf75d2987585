"""The job script of a run on a cluster: what is its own, every word of it quoted, before ``slurm_job.sh``.

On the node it is decided whether there is a working bubblewrap: the box does not know its nodes.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from magickbox.engine import Run
from magickbox.engines import etc_files
from magickbox.engines.bubblewrap import SYSTEM, WALLS, Bubblewrap
from magickbox.engines.slurm_container import InContainer
from magickbox.engines.slurm_marks import FOLDER

PRIVATE = {"ssl": ("ssl/certs", "ssl/openssl.cnf"), "pki": ("pki/tls/certs", "pki/ca-trust")}  # keys lie beside these
CARDS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")  # set by Slurm, of the job's own cards
TRY = "--ro-bind / / --dev /dev --proc /proc -- true > /dev/null 2>&1"
GRAPHICS = """\
    for each in /dev/nvidia* /dev/nvidia-caps /dev/dri /dev/kfd; do
        [ ! -e "$each" ] || set -- "$@" --dev-bind "$each" "$each"
    done
    set -- --ro-bind /sys /sys "$@"
"""


@dataclass(frozen=True)
class NodeSandbox:
    """What processors see of a node: ``shows`` are folders, ``setting`` is auto, required or off."""

    setting: str
    box: Path
    shows: tuple[Path, ...] = ()

    def arguments(self, run: Run, environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """What bwrap is told, before and after the place of graphics cards."""
        etc = self.box / "state" / "etc"
        shows = tuple(p for p in dict.fromkeys(self.shows) if not any(p.is_relative_to(each) for each in SYSTEM))
        bare = replace(run, processor=replace(run.processor, network=False, resources=()))
        told = Bubblewrap("bwrap", self.box.absolute(), shows, (), etc).arguments(bare, environment)
        at = told.index(str(etc)) - 1
        network = ["--share-net", *_etc(etc_files.NETWORK)] if run.processor.network else []
        marks = str(run.workdir.absolute() / FOLDER)
        before = [*told[:at], *network, *_etc(part for name in etc_files.SEEN for part in PRIVATE.get(name, (name,)))]
        return before, [*told[at + 3 :], "--tmpfs", marks, "--remount-ro", marks]


def text(run: Run, frame: Sequence[str], box: str, beat: float) -> str:
    """The whole script, around a ``frame`` from below; raises ValueError for what cannot stand in one.

    ``box`` tells this box's processes from another's, ``beat`` is seconds between signs of life.
    """
    values: dict[str, object] = {
        "work": run.workdir.absolute(), "name": run.name, "box": box, "limit": run.timeout,
        "grace": run.stop_grace, "most": max(run.log_limit - 8192, 0), "beat": beat,
        "processor": run.processor.folder.absolute(),
    }  # fmt: skip
    head = [f"{key}={_quoted(str(value))}" for key, value in values.items()]
    common = resources.files("magickbox").joinpath("engines", "slurm_job.sh").read_text("utf-8")
    return "\n".join(
        ["#!/bin/sh", "# Written by magickbox; what this leaves beside OUTPUT it reads.", *head, *frame, common]
    )


def of_script(
    run: Run, command: Sequence[str], environment: Mapping[str, str], sandbox: NodeSandbox
) -> list[str]:  # fmt: skip
    """What of the script is its own if a program of the node runs, in a sandbox or not."""
    return ["container= ", "bring() { :; }", *_sandbox(sandbox.setting), *_function(run, command, environment, sandbox)]


def of_container(inside: InContainer) -> list[str]:
    """The same if it runs in a container."""
    start = f"command_line() {{ exec setsid {_words(inside.command)}; }}"
    return ["sandboxed= required= container= ", *inside.lines, start]


def _sandbox(setting: str) -> list[str]:
    walls = " ".join(WALLS)
    if setting == "off":
        return ["sandboxed= required="]
    return [
        f"sandboxed= required={'1' if setting == 'required' else ''} userns=",
        f"if bwrap {walls} {TRY}; then sandboxed=1; fi",
        f"if bwrap {walls} --disable-userns {TRY}; then userns=--disable-userns; fi",
    ]


def _function(run: Run, command: Sequence[str], environment: Mapping[str, str], sandbox: NodeSandbox) -> list[str]:
    cards = bool(dict(run.processor.resources).get("gpus"))
    bare = {key: value for key, value in environment.items() if key not in CARDS}
    lines = ["command_line() {"]
    if sandbox.setting != "off":
        before, after = sandbox.arguments(run, bare)
        visible = " ".join(f'${{{key}:+--setenv {key} "${key}"}}' for key in CARDS) if cards else ""
        lines += ["    set --", GRAPHICS.rstrip() if cards else "", '    if [ -n "$sandboxed" ]; then']
        lines += [f'        exec setsid bwrap --json-status-fd 4 {" ".join(WALLS)} $userns {_words(before)} "$@" \\']
        lines += [f'            {_words(after)} {visible} -- {_words(command)} 4> "$status"', "    fi"]
    visible = " ".join(f'${{{key}:+"{key}=${key}"}}' for key in CARDS) if cards else ""
    plain = _words(f"{key}={value}" for key, value in bare.items())
    return [line for line in lines if line] + [f"    exec setsid env -i {plain} {visible} {_words(command)}", "}"]


def _words(parts: Iterable[str]) -> str:
    return " ".join(_quoted(part) for part in parts)


def _quoted(part: str) -> str:
    if "\0" in part:
        raise ValueError("embedded null byte")
    return shlex.quote(part)


def _etc(names: Iterable[str]) -> list[str]:
    return [part for name in names for part in ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")]
