"""Who sends in ``magickbox bench send``: this box's programs and others, each sends the files of one folder."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from magickbox.bench.receivers import outside

PDU = 131072
FEW = 100


@dataclass(frozen=True)
class Errand:
    """What to send: all files of ``files``, to ``port`` of this machine; ``folder`` is new, empty and the sender's."""

    files: Path
    port: int
    folder: Path


@dataclass(frozen=True)
class Sender:
    """One that sends. ``command`` is a program that sends and ends; None for the box, which does it by itself.

    ``missing`` says why it cannot be measured here, and is None if it can. ``is_slow`` is True if it gets FEW instances
    at most, lest a run take hours.
    """

    name: str
    words: str
    command: Callable[[Errand], tuple[str, ...]] | None
    missing: str | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: {"TCP_NODELAY": "1"})
    is_slow: bool = False


def magickbox(*arguments: object) -> tuple[str, ...]:
    """A command of this version."""
    return (sys.executable, "-m", "magickbox.cli.main", *map(str, arguments))


def _box() -> Sender:
    return Sender(
        "box", "`magickbox serve`, as it delivers a job: each response committed before the next request", None
    )


def _bare() -> Sender:
    return Sender(
        "box-send",
        "`magickbox send`",
        lambda errand: magickbox("send", "127.0.0.1", errand.port, errand.files),
    )


def _dcmtk(program: str, words: str, *options: str) -> Sender:
    path = outside(program)
    missing = None if path else f"{program} is not installed (Debian: dcmtk)"
    return Sender(
        program,
        words,
        lambda errand: (path or program, *options, "127.0.0.1", str(errand.port), str(errand.files)),
        missing,
    )


def _stock() -> Sender:
    return Sender(
        "pynetdicom",
        "stock: `dcmread` and `send_c_store`",
        lambda errand: (sys.executable, "-m", "magickbox.bench.stocksender", str(errand.port), str(errand.files)),
        environment={},
        is_slow=True,
    )


def senders() -> dict[str, Sender]:
    """All, by their names, in the order of the table."""
    longest = ("--max-send-pdu", str(PDU))
    found = (
        _box(),
        _bare(),
        _dcmtk("dcmsend", "DCMTK, `TCP_NODELAY=1`, `--max-send-pdu 131072`", *longest, "--scan-directories"),
        _dcmtk("storescu", "DCMTK, the same options", *longest, "--scan-directories"),
        _stock(),
    )
    return {each.name: each for each in found}


SENDERS = ("box", "box-send", "dcmsend", "storescu", "pynetdicom")
