"""What a MONAI Application Package says of itself: its application manifest and its package manifest, as values.

The manifests are those of version 1.0 (``/etc/holoscan/``, keys in camelCase) and of 0.1 (``/etc/monai/``, keys with
hyphens). What is there and makes no sense is told, and the package then does not run: a limit or a folder that was
guessed would be another one than its maker meant.
"""

import math
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from magickbox.processor import IN_IMAGE

NEW, OLD = "/etc/holoscan", "/etc/monai"
PLACES = (NEW, OLD)  # the newer one counts if there are both
MANIFESTS = tuple(f"{place}/{name}.json" for place in PLACES for name in ("app", "pkg"))
WORKDIRS = {NEW: "/var/holoscan", OLD: "/var/monai"}
MODELS = {NEW: "/opt/holoscan/models", OLD: "/opt/monai/models"}
LONGEST_TIMEOUT = 31536000
LONGEST = 4096  # characters of a path; of a command it is LONGEST_COMMAND
LONGEST_COMMAND = 100_000
MOST_CPUS, MOST_BYTES = 100_000, 1 << 60
SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([KMGT]i?B?|B)?")
UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
NAME = re.compile(r"(?!MAGICKBOX_)[A-Za-z_][A-Za-z0-9_]*")
SYSTEM = ("/proc", "/sys", "/dev")
TAKEN = ("/tmp", "/info.json", IN_IMAGE)  # noqa: S108  where a container has something of the box's


class Senseless(Exception):
    """A manifest has something that cannot be used; the text says what."""


@dataclass(frozen=True)
class Package:
    """A package that can be run. Paths are absolute; ``timeout`` is seconds, ``shared_memory`` bytes.

    ``resources`` are as those of processor.json; ``memory_needed`` among them is what it needs at least, which is no
    limit. ``is_old`` tells version 0.1 from 1.0.
    """

    command: str
    workdir: str
    input: str
    output: str
    models: str
    environment: tuple[tuple[str, str], ...] = ()
    timeout: float | None = None
    resources: tuple[tuple[str, object], ...] = ()
    shared_memory: int | None = None
    version: str = ""
    is_old: bool = False


def is_package(manifests: Mapping[str, Any]) -> bool:
    """True if an image has an application manifest, good or bad: then it is such a package."""
    return any(f"{place}/app.json" in manifests for place in PLACES)


def read_package(manifests: Mapping[str, Any]) -> Package | str:
    """The package, or a sentence that says what is wrong; ``manifests`` is as ``Image.manifests``."""
    place = next((place for place in PLACES if f"{place}/app.json" in manifests), None)
    if place is None:
        return f"the image has no {NEW}/app.json, so it is no MONAI application package"
    for name in ("app", "pkg"):
        if isinstance(said := manifests.get(f"{place}/{name}.json"), str):
            return said
    try:
        return _package(place, manifests[f"{place}/app.json"], manifests.get(f"{place}/pkg.json", {}))
    except Senseless as exc:
        return f"{place}/{exc}"


def _package(place: str, app: dict[str, Any], pkg: dict[str, Any]) -> Package:
    if app.get("type") == "service":
        raise Senseless("app.json: type is service; a processor is an application that ends")
    workdir = _folder("app.json", app, ("workingDirectory", "working-directory"), "/", WORKDIRS[place])
    source = _folder("app.json", _object("app.json", app, "input"), ("path",), workdir, "input", "input.path")
    target = _folder("app.json", _object("app.json", app, "output"), ("path",), workdir, "output", "output.path")
    if _holds(source, target) or _holds(target, source):
        raise Senseless(f"app.json: input.path ({source}) and output.path ({target}) must not lie in each other")
    resources = _object("pkg.json", pkg, "resources")
    return Package(
        command=_command(app),
        workdir=workdir,
        input=source,
        output=target,
        models=_folder("pkg.json", pkg, ("modelRoot", "model-root"), "/", MODELS[place]),
        environment=_environment(app),
        timeout=_timeout(app),
        resources=tuple(_resources(resources)),
        shared_memory=_bytes(resources, "sharedMemory"),
        version=str(app.get("version", ""))[:1000],
        is_old=place == OLD,
    )


def _object(file: str, value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key, {})
    if not isinstance(found, dict):
        raise Senseless(f"{file}: {key} is no object")
    return found


def _command(app: dict[str, Any]) -> str:
    command = app.get("command")
    if command is None:
        raise Senseless("app.json: command is missing")
    if not isinstance(command, str) or not command.strip() or "\0" in command or len(command) > LONGEST_COMMAND:
        raise Senseless("app.json: command is no shell command")
    return command


def _folder(
    file: str, value: dict[str, Any], keys: tuple[str, ...], base: str, default: str, shown: str | None = None
) -> str:
    """A folder of the image, absolute; raises Senseless if nothing could be shown there."""
    key = next((key for key in keys if key in value), keys[0])
    said = value.get(key, default)
    if not isinstance(said, str) or not said.strip() or len(said) > LONGEST or not said.isprintable():
        raise Senseless(f"{file}: {shown or key} is no path")
    path = posixpath.normpath(posixpath.join(base, said))
    path = "/" + path.lstrip("/")
    taken = path == "/" or any(_holds(each, path) for each in SYSTEM) or any(_holds(path, each) for each in TAKEN)
    if keys == ("path",) and taken:
        raise Senseless(f"{file}: {shown or key} ({path}) cannot be a folder of its own")
    return path


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _environment(app: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    found = app.get("environment") or {}
    if not isinstance(found, dict):
        raise Senseless("app.json: environment is no object")
    for name, value in found.items():
        if NAME.fullmatch(name) is None:
            raise Senseless(f"app.json: environment has {name[:100]!r}, which is no name of a variable")
        if not isinstance(value, str | int | float) or isinstance(value, bool) or "\0" in str(value):
            raise Senseless(f"app.json: environment.{name[:100]} is no text")
    return tuple((name, str(value)) for name, value in found.items())


def _timeout(app: dict[str, Any]) -> float | None:
    """Seconds; None if it says none, or 0, which means none."""
    value = app.get("timeout", 0)
    if not _is_number(value) or not 0 <= value <= LONGEST_TIMEOUT:
        raise Senseless(f"app.json: timeout is no number of seconds up to {LONGEST_TIMEOUT}")
    return float(value) or None


def _resources(told: dict[str, Any]) -> "list[tuple[str, object]]":
    """As processor.json has them: limits where limits are said, and what is needed at least."""
    found: list[tuple[str, object]] = []
    if cpus := _count(told, "cpuLimit"):
        found.append(("cpus", cpus))
    _count(told, "cpu")
    cards = _count(told, "gpuLimit") or _count(told, "gpu")
    _count(told, "gpu")
    if cards:
        found.append(("gpus", math.ceil(cards)))
    if (memory := _bytes(told, "memoryLimit")) is not None:
        found.append(("memory", str(memory)))
    if (memory := _bytes(told, "memory")) is not None:
        found.append(("memory_needed", str(memory)))
    return found


def _count(told: dict[str, Any], key: str) -> float | None:
    value = told.get(key)
    if value is not None and (not _is_number(value) or not 0 <= value <= MOST_CPUS):
        raise Senseless(f"pkg.json: resources.{key} is no number of them")
    return value


def _bytes(told: dict[str, Any], key: str) -> int | None:
    value = told.get(key)
    if value is None:
        return None
    found = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise Senseless(f'pkg.json: resources.{key} is no size such as "1.5Gi"')
    size = int(float(found[1]) * UNITS[(found[2] or "")[:1]])
    if not 0 < size <= MOST_BYTES:
        raise Senseless(f'pkg.json: resources.{key} is no size such as "1.5Gi"')
    return size


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
