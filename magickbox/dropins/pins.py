"""Which image each drop-in runs: kept in ``state/images.json``, so that a restart runs the same, and for listings.

What a bucket says of itself in its image (AE title, description, version, switched off), and a MONAI Application
Package (time limit, resources, version), counts where processor.json says nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from magickbox.association import title_problem
from magickbox.convention import Image
from magickbox.dropins.declaration import pattern_of
from magickbox.dropins.folder import Dropins
from magickbox.dropins.monai_package import Package, is_package, read_package
from magickbox.durable import write_atomic
from magickbox.processor import Processor, in_chain

LABEL = "io.magickbox.convention"
CONVENTIONS = ("magickbox", "mercure", "monai", "ror")  # the first is the default
ROR_LABEL = "com.ror.vendor"


@dataclass(frozen=True)
class Pin:
    """What is known of a drop-in's image: ``source`` is what it was asked for, ``problem`` why it is not here (yet),
    or, with an ``image``, why this machine cannot start it.

    ``ours`` says that the box itself brought the image to this machine.
    """

    source: str
    image: Image | None = None
    problem: str | None = None
    ours: bool = False


def source_of(processor: Processor) -> str:
    """What is asked for: the image's name, and its archive with size and time, so that a new file is a new image."""
    if processor.image_archive is None:
        return processor.image or ""
    try:
        told = processor.image_archive.stat()
    except OSError:
        return f"{processor.image} {processor.image_archive.name} missing"
    return f"{processor.image} {processor.image_archive.name} {told.st_size} {told.st_mtime_ns}"


def read_pins(path: Path) -> dict[str, Pin]:
    """The pins that were written, by the drop-in's name; none if the file is missing or damaged: they are made anew."""
    try:
        value: dict[str, dict[str, Any]] = json.loads(path.read_bytes())
        return {name: _pin(each) for name, each in value.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _pin(value: dict[str, Any]) -> Pin:
    told = value["image"]
    return Pin(value["source"], _image(told) if told else None, value["problem"], value["ours"])


def _image(told: dict[str, Any]) -> Image:
    labels = tuple((k, v) for k, v in told["labels"])
    lists = {key: tuple(told.get(key, ())) for key in ("command", "entrypoint", "variables")}
    return Image(**{**told, **lists, "labels": labels})


def write_pins(path: Path, pins: Mapping[str, Pin]) -> None:
    """Write them; raises OSError."""
    write_atomic(path, json.dumps({name: asdict(pin) for name, pin in pins.items()}, indent=1).encode() + b"\n")


def convention_of(processor: Processor, image: Image | None) -> str:
    """Declared, else what the image's label says, else what it certainly is, else the box's own."""
    labels = dict(image.labels) if image is not None else {}
    labelled = labels.get(LABEL)
    if processor.convention or labelled in CONVENTIONS:
        return processor.convention or str(labelled)
    if image is not None and is_package(image.manifests):
        return "monai"
    return "ror" if ROR_LABEL in labels else CONVENTIONS[0]


def package_of(processor: Processor, image: Image | None) -> Package | str | None:
    """What a MONAI Application Package says of itself, or what is wrong with it; None for all other images."""
    if image is None or convention_of(processor, image) != "monai":
        return None
    return read_package(image.manifests)


def why_not(processor: Processor, pins: Mapping[str, Pin]) -> str | None:
    """Why a processor cannot run yet; None if it can, as far as its image goes, or those of its steps."""
    names = tuple(step.label for step in processor.steps)
    for number, step in enumerate(processor.steps, 1):
        if (why := why_not(step.processor, pins)) is not None:
            return f"{in_chain(names, number)}: {why}"
    if processor.image is None:
        return None
    pin = pins.get(processor.name)
    if pin is None:
        return f"the image {processor.image} of processor {processor.name} was not looked for yet"
    if pin.problem is not None and pin.image is not None:
        return f"processor {processor.name} waits: {pin.problem}"
    if pin.problem is not None:
        return f"the image {processor.image} of processor {processor.name} is not here: {pin.problem}"
    if isinstance(wrong := package_of(processor, pin.image), str):
        return f"the image {processor.image} of processor {processor.name} cannot be used: {wrong}"
    return None


def adorn(dropins: Dropins, pins: Mapping[str, Pin]) -> Dropins:
    """The drop-ins, with what their images say of themselves."""
    here = {name: pin.image for name, pin in pins.items()}
    return replace(dropins, good=tuple(_with_steps(one, here) for one in dropins.good))


def _with_steps(one: Processor, here: Mapping[str, Image | None]) -> Processor:
    steps = tuple(replace(s, processor=adorned(s.processor, here.get(s.processor.name))) for s in one.steps)
    return replace(adorned(one, here.get(one.name)), steps=steps)


def with_own_steps(processors: Iterable[Processor]) -> tuple[Processor, ...]:
    """The drop-ins, and those steps of chains that are no drop-ins: all that may have an image of its own."""
    found = tuple(processors)
    return (*found, *(step.processor for one in found for step in one.steps if step.named is None))


def adorned(one: Processor, image: Image | None) -> Processor:
    """The drop-in with what its image says of itself, where processor.json says nothing."""
    if image is None:
        return one
    package = package_of(one, image)
    if isinstance(package, Package):
        return _as_packaged(one, package)
    return _as_bucket(one, image.info) if image.info else one


def _as_packaged(one: Processor, package: Package) -> Processor:
    """Time limit, resources and version of a package; a key of ``resources`` in processor.json wins alone."""
    return replace(
        one,
        timeout=one.timeout or package.timeout,
        version=one.version if "version" in one.declared else package.version,
        resources=tuple({**dict(package.resources), **dict(one.resources)}.items()),
    )


def _as_bucket(one: Processor, info: Mapping[str, Any]) -> Processor:
    told = one.declared
    title = info.get("AETitle")
    if "AETitle" not in told and isinstance(title, str) and (pattern := _pattern(title.strip())) is not None:
        one = replace(one, called_ae=pattern)
    for key in ("description", "version"):
        if key not in told and isinstance(info.get(key), str):
            one = replace(one, **{key: info[key][:1000]})
    if "enabled" not in told and info.get("enabled") in (0, "0", False):
        one = replace(one, enabled=False)
    return one


def _pattern(title: str) -> str | None:
    """A bucket's AETitle is a regular expression, as that of processor.json is; one that is none is meant literally."""
    with suppress(re.error, OverflowError, RecursionError):
        re.compile(title, re.IGNORECASE)
        return title if title and title.isascii() and title.isprintable() else None
    return pattern_of(title) if title_problem(title) is None else None
