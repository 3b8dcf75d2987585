"""What an image archive says that it holds, read without an engine: ``podman save`` and ``docker save`` make them."""

import json
import tarfile
from pathlib import Path
from typing import Any

LONGEST = 4 * 1024 * 1024
REGISTRIES = ("localhost/", "docker.io/library/", "docker.io/")
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
NAME = "org.opencontainers.image.ref.name"


def other_image(archive: Path, wanted: str) -> str | None:
    """A sentence if the archive holds other images than ``wanted``, or cannot be used; None if nothing speaks against.

    A compressed archive is not read: that may take minutes. Neither is one that names its images by no name at all.
    """
    try:
        names = _names(archive)
    except FileNotFoundError:
        return f"{archive.name} is not there"
    except tarfile.ReadError as exc:
        if _is_compressed(archive):
            return None
        cut = "unexpected end" in str(exc)
        return f"{archive.name} is {'cut short; is it still being copied?' if cut else 'no archive of an image'}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as exc:
        return f"{archive.name} cannot be read: {exc}"
    if not names or _plain(wanted) in {_plain(name) for name in names}:
        return None
    return f"{archive.name} holds another image: {', '.join(names)}; image in processor.json says {wanted}"


def _is_compressed(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(6).startswith(COMPRESSED)


def _names(archive: Path) -> list[str]:
    with tarfile.open(archive, "r:") as tar:
        known = {member.name: member for member in tar.getmembers()}
        if (found := known.get("manifest.json")) is not None:
            return [str(name) for each in _json(tar, found) for name in each.get("RepoTags") or ()]
        if (found := known.get("index.json")) is not None:
            told = [each.get("annotations") or {} for each in _json(tar, found)["manifests"]]
            return [str(each[NAME]) for each in told if "/" in each.get(NAME, "")]
    raise ValueError("it is no archive of an image")


def _json(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    file = tar.extractfile(member)
    if file is None or member.size > LONGEST:
        raise ValueError(f"{member.name} in it is no small file")
    return json.loads(file.read())


def _plain(name: str) -> str:
    """A name as both engines mean it: without what they add to it by themselves."""
    for registry in REGISTRIES:
        if name.startswith(registry):
            name = name.removeprefix(registry)
            break
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"
