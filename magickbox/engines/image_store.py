"""Brings an image to this machine and looks into it, without running anything of it."""

import json
import lzma
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from magickbox.convention import Image
from magickbox.dropins.monai_package import MANIFESTS
from magickbox.engines.container_cli import ContainerCli, told_by
from magickbox.engines.container_options import BOX, LOOK, mapped
from magickbox.jobfolder import remove_tree
from magickbox.processor import Processor

BRINGING = 6 * 3600.0  # seconds; images of 20 GB come through thin lines
SEEN = 1  # raised when more of an image is looked at: images pinned before are then looked at again
WORK, STORAGE = "/root/work.sh", "/root/storage"
LONGEST = 1024 * 1024
WITHOUT_REGISTRY = "image_archive in processor.json names a file to load it from"
LOADED = re.compile(r"^Loaded image(?:\(s\)| ID)?: (.+)$", re.MULTILINE)


class NotBrought(Exception):
    """The image is not here and cannot be had now; the text says why."""


def known(cli: ContainerCli, name: str) -> dict[str, Any] | None:
    """What the engine says of an image that is on this machine; None if it is not."""
    return told_by(cli.ask("image", "inspect", "--format", "{{json .}}", name)) or None


def bring(cli: ContainerCli, processor: Processor) -> bool:
    """Have the image on this machine, by its archive or from its registry; True if it had to be brought.

    An image that is here already is taken as it is, but an archive is always loaded: it may be a new one. Raises
    NotBrought or EngineDown.
    """
    name = processor.image or ""
    if processor.image_archive is not None:
        answer = cli.ask("load", "--input", str(processor.image_archive), seconds=BRINGING)
        if answer.code != 0:
            why = answer.why if _is_whole(processor.image_archive) else "it is cut short; is it still being copied?"
            raise NotBrought(f"{processor.image_archive.name} cannot be loaded: {why}")
        _refuse_other(cli, name, processor.image_archive.name, answer.out)
        return True
    if known(cli, name) is not None:
        return False
    answer = cli.ask("pull", "--quiet", name, seconds=BRINGING)
    if answer.code != 0:
        raise NotBrought(f"it cannot be pulled: {answer.why} ({WITHOUT_REGISTRY})")
    return True


def _refuse_other(cli: ContainerCli, name: str, archive: str, said: str) -> None:
    """Raise NotBrought if what was loaded is not what ``name`` means, also if that was here before."""
    loaded = [each.strip() for line in LOADED.findall(said) for each in line.split(",")]
    ids = {told.get("Id") for each in loaded if (told := known(cli, each)) is not None}
    told = known(cli, name)
    if told is None or (ids and told.get("Id") not in ids):
        held = ", ".join(loaded) or "none that has a name"
        raise NotBrought(f"{archive} holds another image: {held}; image in processor.json says {name}")


def _is_whole(archive: Path) -> bool:
    """False if an archive ends before its end."""
    try:
        with tarfile.open(archive) as tar:
            return bool(tar.getmembers())
    except EOFError:
        return False
    except tarfile.ReadError as exc:
        return "unexpected end" not in str(exc)
    except (OSError, zlib.error, lzma.LZMAError, ValueError):
        return True


def look_into(cli: ContainerCli, name: str, box: str, memory: Path) -> Image:
    """What there is to know of an image that is here, by name or id; a bucket's kept folder gets its first content.

    Raises NotBrought or EngineDown.
    """
    told = known(cli, name)
    if told is None:
        raise NotBrought("it is gone")
    config = told.get("Config") or {}
    image = Image(
        name=name,
        id=str(told["Id"]),
        digest=next((str(each).partition("@")[2] for each in told.get("RepoDigests") or ()), ""),
        architecture=str(told.get("Architecture", "")),
        has_command=bool(config.get("Cmd") or config.get("Entrypoint")),
        command=tuple(str(part) for key in ("Entrypoint", "Cmd") for part in config.get(key) or ()),
        entrypoint=tuple(str(part) for part in config.get("Entrypoint") or ()),
        variables=tuple(str(each).partition("=")[0] for each in config.get("Env") or ()),
        seen=SEEN,
        labels=tuple(sorted((str(k), str(v)) for k, v in (config.get("Labels") or {}).items())),
    )
    with _opened(cli, image.id, box) as container, tempfile.TemporaryDirectory() as place:
        is_bucket = _copied(cli, container, WORK, Path(place, "work.sh"))
        manifests = _manifests(cli, container, Path(place))
        info = _read(cli, container, f"{STORAGE}/info.json", Path(place)) or {}
        info, problem = (info, "") if isinstance(info, dict) else ({}, info)
        if is_bucket and not memory.exists():
            memory.mkdir(parents=True)
            _copied(cli, container, f"{STORAGE}/memory/.", memory)
    if is_bucket and cli.is_podman and not cli.rootless:
        with _opened(cli, image.id, box, *mapped()):
            pass  # makes the copy of its files that belongs to the mapped users: now, not when a job runs
    return replace(image, is_bucket=is_bucket, info=info, info_problem=problem, manifests=manifests)


@contextmanager
def _opened(cli: ContainerCli, image: str, box: str, *options: str) -> Iterator[str]:
    """A container of the image that is never started, to look into."""
    answer = cli.ask("create", "--pull=never", "--network", "none", "--label", f"{BOX}={box}",
                     "--label", LOOK, *options, image, "none", seconds=BRINGING)  # fmt: skip
    if answer.code != 0:
        raise NotBrought(f"it cannot be opened: {answer.why}")
    container = answer.out.split()[-1]
    try:
        yield container
    finally:
        cli.ask("rm", "--force", "--volumes", container)


def close_all(cli: ContainerCli, box: str) -> None:
    """Remove the containers that a killed box had opened to look into."""
    answer = cli.ask(
        "ps", "--all", "--filter", f"label={LOOK}", "--filter", f"label={BOX}={box}", "--format", "{{.ID}}"
    )
    if found := answer.out.split():
        cli.ask("rm", "--force", "--volumes", *found)


def _copied(cli: ContainerCli, container: str, source: str, target: Path) -> bool:
    return cli.ask("cp", f"{container}:{source}", str(target), seconds=BRINGING).code == 0


def _manifests(cli: ContainerCli, container: str, place: Path) -> dict[str, dict[str, Any] | str]:
    """The files in which a package describes itself, those that there are."""
    found = {path: _read(cli, container, path, place) for path in MANIFESTS}
    return {path: value for path, value in found.items() if value is not None}


def _read(cli: ContainerCli, container: str, name: str, place: Path) -> dict[str, Any] | str | None:
    """The object in a JSON file of an image, a sentence that says why it cannot be used, or None without a file."""
    path = place / "read.json"
    if not _copied(cli, container, name, path):
        return None
    try:
        return _object(path, name)
    finally:
        remove_tree(path)


def _object(path: Path, name: str) -> dict[str, Any] | str:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LONGEST:
        return f"{name} is no file of at most 1 MiB"
    try:
        value = json.loads(path.read_bytes())
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair could not be passed on
    except (OSError, ValueError, RecursionError) as exc:
        return f"{name} cannot be read: {str(exc)[:200]}"
    return value if isinstance(value, dict) else f"{name} is no JSON object"
