"""The command line of a run in a container: what it may see, use and spend. Pure; nothing is started here."""

import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magickbox.convention import Image, Stage
from magickbox.engine import Run
from magickbox.engines.container_cli import ContainerCli
from magickbox.engines.limits import Limits
from magickbox.processor import IN_IMAGE

BOX, RUN, LOOK = "magickbox.box", "magickbox.run", "magickbox.look"  # labels
NOBODY = 65532  # who a processor is in a container if the box is root: no account of the machine
MAPPED = 200000  # the first of the 65536 ids that a bucket's root and users are outside, if the box is root
INFO = "/info.json"
ENOUGH = 16384  # open files of a process; processes of the user: the number of a run's own is limited apart


@dataclass(frozen=True)
class Owner:
    """Who the processor is: ids inside and, as the files in OUTPUT show it, outside; outside None is the box itself."""

    inside: str
    outside: int | None
    options: tuple[str, ...] = ()


def owner(cli: ContainerCli, stage: Stage, uid: int, gid: int) -> Owner:
    """An unprivileged user in every case; ``uid`` and ``gid`` are the box's own.

    Without root the box's own user runs it, inside under its own number, or as root if the image needs that, or if
    podman has no other number to give. With
    root, a number that belongs to nobody; an image that needs its root gets one that is nobody outside, too.
    """
    if cli.rootless and (stage.as_root or cli.alone):
        return Owner("0:0", None)
    if cli.rootless:
        return Owner(f"{uid}:{gid}", None, ("--userns", "keep-id")) if cli.is_podman else Owner("0:0", None)
    if uid != 0:  # docker's daemon is root and the box is not: the files must be the box's
        return Owner("0:0" if stage.as_root else f"{uid}:{gid}", 0 if stage.as_root else None)
    if stage.as_root and cli.is_podman:
        return Owner("0:0", MAPPED, mapped())
    return Owner("0:0", 0) if stage.as_root else Owner(f"{NOBODY}:{NOBODY}", NOBODY)


def mapped() -> tuple[str, ...]:
    """podman's options by which nobody in a container is anybody outside."""
    return ("--uidmap", f"0:{MAPPED}:65536", "--gidmap", f"0:{MAPPED}:65536")


def command_line(
    cli: ContainerCli,
    run: Run,
    image: Image,
    stage: Stage,
    who: Owner,
    box: str,
    memory: Path | None,
    limits: Limits,
) -> list[str]:
    """The whole command that starts a run and waits for its end."""
    told = variables(run, stage, memory)
    return [
        *cli.words, "run", "--name", run.name, "--label", f"{BOX}={box}", "--label", f"{RUN}={run.name}",
        "--pull=never", "--init", "--read-only", "--cap-drop", "all",
        "--security-opt", "no-new-privileges", "--security-opt", "label=disable",
        "--user", who.inside, *who.options,
        *([] if run.processor.network else ["--network", "none"]),
        *_limits(cli, run, limits),
        *(["--http-proxy=false", "--pidfile", pidfile(run).name] if cli.is_podman else []),
        *(["--log-driver", "k8s-file"] if cli.is_podman else ["--log-driver", "json-file"]),
        "--log-opt", f"max-size={max(run.log_limit, 1024)}",
        *(["--mount", "type=tmpfs,dst=/tmp,chown=true,notmpcopyup"] if cli.is_podman
          else ["--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777"]),  # noqa: S108  the container's own
        *_scratch(cli, stage),
        *(part for mount in mounts(run, stage, memory) for part in ("--mount", mount)),
        *(part for key, value in told.items() for part in ("--env", f"{key}={value}")),
        *(["--workdir", stage.workdir] if stage.workdir is not None else []),
        *(["--shm-size", str(stage.shared_memory)] if stage.shared_memory is not None else []),
        *(["--entrypoint", stage.command[0]] if stage.command else []),
        image.id, *(stage.command[1:] or stage.arguments),
    ]  # fmt: skip


def started_in(run: Run, image: Image, stage: Stage) -> tuple[str, ...]:
    """What a container starts, without INPUT and OUTPUT, for people."""
    if stage.arguments:
        return (*image.entrypoint, *stage.arguments)
    return run.processor.command or stage.command or image.command


def pidfile(run: Run) -> Path:
    """Where podman, started in the run's folder, writes the number of the first process; docker has no such option."""
    return run.workdir.absolute() / "container.pid"


def _limits(cli: ContainerCli, run: Run, limits: Limits) -> list[str]:
    options = _cards(cli, dict(run.processor.resources).get("gpus"))
    if limits.file_size is not None:
        options += ["--ulimit", f"fsize={limits.file_size}:{limits.file_size}"]
    options += ["--ulimit", "core=0:0", *_inherited(cli)]
    if cli.limits and limits.memory is not None:
        options += ["--memory", str(limits.memory), "--memory-swap", str(limits.memory)]
    if cli.limits and limits.processes is not None:
        options += ["--pids-limit", str(limits.processes)]
    if cli.limits and limits.cpus is not None:
        options += ["--cpus", str(limits.cpus)]
    return options


def _inherited(cli: ContainerCli) -> list[str]:
    """The box's own limits: podman forgets those of its configuration when it is given one, and may not raise them."""
    if not cli.is_podman:
        return []
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
    values = {name: ENOUGH if it == resource.RLIM_INFINITY else min(it, ENOUGH) for name, it in hard.items()}
    return [part for name, value in values.items() for part in ("--ulimit", f"{name}={value}:{value}")]


def _cards(cli: ContainerCli, count: object) -> list[str]:
    if not count:
        return []
    return ["--device", "nvidia.com/gpu=all"] if cli.is_podman else ["--gpus", str(count)]


def _scratch(cli: ContainerCli, stage: Stage) -> list[str]:
    """Folders to write into, in memory, with what the image has in them; docker would hide that, so it gets none."""
    if not cli.is_podman:
        return []
    return [part for folder in stage.scratch for part in ("--mount", f"type=tmpfs,dst={folder},chown=true")]


def mounts(run: Run, stage: Stage, memory: Path | None) -> list[str]:
    """What a container shows of a run, each as podman, docker and Apptainer read it."""
    found = [_mount(run.input, stage.input, "ro"), _mount(run.output, stage.output)]
    found += [_mount(run.processor.folder, IN_IMAGE, "ro")]
    if (run.workdir / "info.json").exists():
        found.append(_mount(run.workdir / "info.json", INFO, "ro"))
    if memory is not None and stage.memory is not None:
        found.append(_mount(memory, stage.memory))
    return found


def _mount(source: Path, target: str, *more: str) -> str:
    """As CSV: both engines read it so, and a path may have commas and quotes."""
    return ",".join(_quoted(part) for part in ("type=bind", f"src={source.absolute()}", f"dst={target}", *more))


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"' if any(c in part for c in ',"\n') else part


def variables(run: Run, stage: Stage, memory: Path | None) -> Mapping[str, str]:
    """The environment of a run in a container, beside what its image sets."""
    return {
        **({} if stage.as_root else {"HOME": "/tmp"}),  # noqa: S108
        "TMPDIR": "/tmp",  # noqa: S108
        "PYTHONUNBUFFERED": "1",
        **dict(run.processor.environment),
        **dict(stage.environment),
        "MAGICKBOX_JOB": run.job,
        "MAGICKBOX_RUN": run.name,
        "MAGICKBOX_INPUT": stage.input,
        "MAGICKBOX_OUTPUT": stage.output,
        "MAGICKBOX_INFO": INFO,
        "MAGICKBOX_PROC": f"{stage.output}/proc.json",
        "MAGICKBOX_PROCESSOR": IN_IMAGE,
        **({"MAGICKBOX_MEMORY": stage.memory} if memory is not None and stage.memory else {}),
    }
