"""The box's settings: from the command line, the environment, magickbox.toml, and defaults, in this order.

``SETTINGS`` is the table: each key with its default, how it is read, and one sentence for a person.
"""

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from magickbox.access import Caller
from magickbox.disk import Mark, read_mark
from magickbox.errors import ConfigError
from magickbox.hooksetting import masked, read_command, read_webhook
from magickbox.processor import Group, Late
from magickbox.schedule import Hours, read_hours
from magickbox.settingvalues import (
    FOR_EVER,
    Value,
    callers,
    cluster_name,
    duration,
    flag,
    folders,
    hours,
    limited,
    names,
    number,
    one_of,
    size,
    text,
    title,
    whole,
)

PREFIX = "MAGICKBOX_"
PLACES = ("data", "config", "routing", "processors")  # options that are no settings, but have variables too


@dataclass(frozen=True)
class Settings:
    """Every setting of the box, read and checked. Times are seconds; ``FOR_EVER`` is an infinite one."""

    ae_title: str = "MAGICKBOX"
    host: str = "0.0.0.0"  # noqa: S104  # the one port is for the whole network
    port: int = 11112
    tls_port: int | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    client_certificates: str = "off"
    web: bool = True
    web_host: str = "127.0.0.1"
    web_port: int = 8080
    web_certificate: str | None = None
    web_key: str | None = None
    web_names: tuple[str, ...] = ()
    web_ae_title: str = "MAGICKBOX-WEB"
    web_hide_names: str = "none"
    me: str | None = None
    me_port: int | None = None
    group: Group = Group.STUDY
    settle: float = 15.0
    settle_open: float = 30.0
    settle_after_abort: float = 60.0
    max_wait: float = 3600.0
    on_abort: str = "process"
    late: Late = Late.NEW
    unknown_called_ae: str = "accept"
    calling_ae_allowed: tuple[Caller, ...] | None = None
    max_associations: int = 200
    max_per_caller: int | None = None
    max_waiting: int = 10_000
    receivers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    fsync: bool = True
    min_free: Mark = field(default_factory=lambda: Mark(share=0.05))
    slots: int = field(default_factory=lambda: os.cpu_count() or 1)
    cpus: float | None = None
    memory: Mark | None = None
    gpus: int | None = None
    off_peak: Hours = field(default_factory=lambda: read_hours("19:00-06:00"))
    timeout: float = 3600.0
    stop_grace: float = 20.0
    sandbox: str = "auto"
    sandbox_shows: tuple[Path, ...] = ()
    max_memory: Mark = field(default_factory=lambda: Mark(share=0.8))
    max_processes: int = 4096
    max_file_size: Mark = field(default_factory=lambda: Mark(amount=100 << 30))
    container_engine: str | None = None
    engine: str = "local"
    slurm_jobs: int = 200
    slurm_partition: str | None = None
    slurm_account: str | None = None
    slurm_late: float = 90.0
    slurm_containers: str = "podman"
    keep_done: float = 7 * 86400.0
    keep_unrouted: float = FOR_EVER
    alarm_webhook: str | None = field(default=None, repr=False)
    alarm_command: tuple[str, ...] | None = None
    alarm_after: float = 900.0
    alarm_pause: float = 4 * 3600.0


@dataclass(frozen=True)
class Setting:
    """One key: how its value is read (raises ValueError or ConfigError), its default in words, and what it is for.

    ``shown`` is how a value that was given may be told: one that may be a secret is masked.
    """

    read: Callable[[Value], object]
    default: str
    meaning: str
    shown: Callable[[Value], object] = lambda value: value


SETTINGS: dict[str, Setting] = {
    "ae_title": Setting(title, "MAGICKBOX", "the box's own AE title; any called AE title is answered"),
    "host": Setting(text, "0.0.0.0", "the address to listen on"),  # noqa: S104
    "port": Setting(whole(0, 65535), "11112", "the one DICOM port; 0 takes a free one"),
    "tls_port": Setting(whole(0, 65535), "unset", "a second DICOM port, with TLS (registered: 2762); 0: a free one"),
    "tls_certificate": Setting(text, "unset", "PEM file with the box's certificate, and those between it and its CA"),
    "tls_key": Setting(text, "unset", "PEM file with the certificate's private key, without a pass phrase"),
    "tls_ca": Setting(text, "unset", "PEM file with the CAs that the certificates of peers may come from"),
    "client_certificates": Setting(
        one_of("off", "optional", "required"), "off", "certificates of peers: off, optional or required"
    ),
    "web": Setting(flag, "true", "serve the window too: a page and an API"),
    "web_host": Setting(text, "127.0.0.1", "the address of the window"),
    "web_port": Setting(whole(0, 65535), "8080", "the port of the window; 0 takes a free one"),
    "web_certificate": Setting(text, "unset", "PEM file with the window's certificate: it is https then"),
    "web_key": Setting(text, "unset", "PEM file with that certificate's private key, without a pass phrase"),
    "web_ae_title": Setting(title, "MAGICKBOX-WEB", "the calling AE title of what people upload in the window"),
    "web_names": Setting(names, "none", "host names under which browsers find the window, beside the machine's own"),
    "web_hide_names": Setting(
        one_of("none", "viewer", "operator"),
        "none",
        "who sees no patient names: none, viewer, operator (and viewer)",
    ),
    "me": Setting(text, "unset", "host of the default PACS; stands for $me in routing rules"),
    "me_port": Setting(whole(1, 65535), "unset", "port of the default PACS; stands for $port in routing rules"),
    "group": Setting(
        lambda v: Group(one_of("study", "association")(v)), "study", "what a job gathers: study or association"
    ),
    "settle": Setting(limited, "15", "seconds to wait after the last association ended; 0: at its release"),
    "settle_open": Setting(limited, "30", "seconds after which an open association that sends nothing lets go"),
    "settle_after_abort": Setting(limited, "60", "seconds to wait after an abort, for the sender's second try"),
    "max_wait": Setting(limited, "3600", "seconds after its first instance at which a job is born in any case"),
    "on_abort": Setting(one_of("process", "hold"), "process", "what becomes of a job whose last end was an abort"),
    "late": Setting(
        lambda v: Late(one_of("new", "rerun")(v)), "new", "what a job of late instances gets: new ones, or all (rerun)"
    ),
    "unknown_called_ae": Setting(
        one_of("accept", "reject"), "accept", "a called AE that no processor serves: accept (and route) or reject"
    ),
    "calling_ae_allowed": Setting(callers, "any", "who may send: any, or a list such as PACS, CT1@10.0.0.0/24"),
    "max_associations": Setting(whole(1, 10000), "200", "associations at once; more are rejected for now"),
    "max_per_caller": Setting(
        whole(1, 10000), "unset", "associations at once of one calling AE title; more are rejected for now"
    ),
    "max_waiting": Setting(
        whole(1, 10_000_000), "10000", "jobs waiting for a processor above which receiving slows; at twice it, no more"
    ),
    "receivers": Setting(whole(0, 64), "2, or 1 on one core", "processes that receive; 0: the box's own process"),
    "fsync": Setting(flag, "true", "false: answer before an image is safe from a power cut (faster, your choice)"),
    "min_free": Setting(
        lambda v: read_mark(str(v)), "5%", "free disk space below which nothing new is taken: a share or a size"
    ),
    "slots": Setting(whole(1, 1024), "number of cores", "processors at once"),
    "cpus": Setting(number(0.01, 100_000), "as found", "processor cores for processors, all together"),
    "memory": Setting(size, "as found", "memory for processors, all together: a share or a size; 0: without bounds"),
    "gpus": Setting(whole(0, 1000), "as found", "graphics cards for processors, all together"),
    "off_peak": Setting(hours, "19:00-06:00", "when jobs that are off-peak start, if their processor does not say"),
    "timeout": Setting(limited, "3600", "seconds that a processor may run, if it does not say otherwise"),
    "stop_grace": Setting(limited, "20", "seconds that a processor gets to end when it is told to"),
    "sandbox": Setting(
        one_of("auto", "required", "off"), "auto", "processors in a sandbox: where it works (auto), always, or off"
    ),
    "sandbox_shows": Setting(folders, "none", "folders that processors see too, read-only: models, programs"),
    "max_memory": Setting(size, "80%", "memory of a processor that does not say otherwise: a share or a size; 0: all"),
    "max_processes": Setting(whole(1, 4194304), "4096", "processes and threads of a processor, likewise"),
    "max_file_size": Setting(size, "100G", "the largest file that a processor may write, likewise; 0: any"),
    "container_engine": Setting(text, "podman, docker", "what runs containers, such as podman --runtime runc"),
    "engine": Setting(
        one_of("local", "slurm"), "local", "where processors run: on this machine (local), or at a cluster (slurm)"
    ),
    "slurm_jobs": Setting(whole(1, 10_000), "200", "with slurm: jobs at the cluster at once, in place of slots"),
    "slurm_partition": Setting(cluster_name, "the cluster's", "with slurm: the partition, if a processor names none"),
    "slurm_account": Setting(cluster_name, "the cluster's", "with slurm: the account, likewise"),
    "slurm_late": Setting(limited, "90", "with slurm: seconds that files of a node may take to be seen by the box"),
    "slurm_containers": Setting(text, "podman", "with slurm: what runs containers on the nodes: podman or apptainer"),
    "keep_done": Setting(duration, "7 days", "how long jobs stay whose deliveries all arrived"),
    "keep_unrouted": Setting(duration, "for ever", "how long jobs stay that were to go nowhere"),
    "alarm_webhook": Setting(read_webhook, "unset", "an http or https URL that is told of trouble", masked),
    "alarm_command": Setting(read_command, "unset", "a program, with arguments, that is told of trouble"),
    "alarm_after": Setting(limited, "15 min", "how long nothing gets through to a destination before that is told"),
    "alarm_pause": Setting(limited, "4 h", "how long before trouble that goes on is told again"),
}


@dataclass(frozen=True)
class Loaded:
    """The settings, and where each came from: ``default``, a file, an environment variable, an option."""

    settings: Settings
    sources: Mapping[str, str]
    values: Mapping[str, Value] = field(default_factory=dict)  # as they were given, of those that were


def load(file: Path | None, environment: Mapping[str, str], options: Mapping[str, Value | None]) -> Loaded:
    """Read the settings; raises ConfigError that names every wrong value, where it stands, and what was expected.

    ``file`` may not exist only if it is None. ``options`` are those of the command line, None where not given.
    """
    values: dict[str, tuple[Value, str]] = {}
    problems: list[str] = []
    if file is not None:
        values.update(_from_file(file, problems))
    for name in SETTINGS:
        variable = PREFIX + name.upper()
        if environment.get(variable):
            values[name] = (environment[variable], variable)
    for name, value in options.items():
        if value is not None:
            values[name] = (value, f"--{name.replace('_', '-')}")
    read = _read(values, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    sources = {name: values[name][1] if name in values else "default" for name in SETTINGS}
    given = {name: value for name, (value, _) in values.items()}
    return Loaded(Settings(**read), sources, given)  # type: ignore[arg-type]  # the table's readers give the fields' types


def stray_variables(environment: Mapping[str, str]) -> list[str]:
    """Environment variables that are called like the box's, but are none of them, with what may be meant."""
    if PREFIX + "RUN" in environment:
        return []  # called by a processor, which gets variables of its own
    known = [PREFIX + name.upper() for name in (*SETTINGS, *PLACES)]
    stray = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return [f"{name}: there is no such environment variable{_nearest(name, known)}" for name in stray]


def _from_file(file: Path, problems: list[str]) -> dict[str, tuple[Value, str]]:
    try:
        text = file.read_text("utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{file}: {exc}") from exc
    found: dict[str, tuple[Value, str]] = {}
    for name, value in table.items():
        where = f"{file}:{_line_of(text, name)}"
        if name in SETTINGS:
            found[name] = (value, where)
        else:
            problems.append(f"{where}: there is no setting '{name}'{_nearest(name)}")
    return found


def _line_of(text: str, name: str) -> int:
    lines = (n for n, line in enumerate(text.splitlines(), 1) if line.strip(" \"'[").startswith(name))
    return next(lines, 1)


def _nearest(name: str, known: Iterable[str] = SETTINGS) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def _read(values: Mapping[str, tuple[Value, str]], problems: list[str]) -> dict[str, object]:
    read: dict[str, object] = {}
    for name, (value, source) in values.items():
        try:
            read[name] = SETTINGS[name].read(value)
        except (ValueError, ConfigError) as exc:
            problems.append(f"{source}: {name} = {SETTINGS[name].shown(value)!r}: {exc}")
    return read
