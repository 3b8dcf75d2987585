"""What the coordinator and a receiver process say to each other: a JSON array each, its kind first.

*Orders* go to the receiver over a socket that keeps messages apart and carries descriptors; *reports* come back as
lines over another. A connected socket travels beside the order ``take``.
"""

import json
import socket as sockets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from magickbox.association import Association
from magickbox.incoming.quarantine import Quarantine
from magickbox.incoming.record import association_from_json, association_to_json
from magickbox.instance import Instance
from magickbox.intake import Refusal, Request
from magickbox.proof import Report
from magickbox.scp.connection import Port
from magickbox.scp.upper import Timeouts
from magickbox.steps import unwatched
from magickbox.tlsfiles import TlsFiles

MOST_WORDS = 8000
_LONGEST_ORDER = 64 * 1024


def pack(kind: str, *values: object) -> bytes:
    """A message; what is no text, number, boolean, None or array of these is the caller's mistake (TypeError)."""
    return json.dumps([kind, *values], separators=(",", ":")).encode()


def unpack(data: bytes) -> tuple[str, list[Any]]:
    """The kind of a message and its values."""
    kind, *values = json.loads(data)
    return kind, values


def receive_order(orders: sockets.socket) -> tuple[str, list[Any], list[int]]:
    """The next order, with the descriptors that came with it; raises EOFError if the coordinator is gone."""
    data, descriptors, _, _ = sockets.recv_fds(orders, _LONGEST_ORDER, 1)
    if not data:
        raise EOFError
    return *unpack(data), descriptors


def from_request(request: Request) -> list[object]:
    """A request as values; the inverse of ``to_request``."""
    return [request.calling_ae, request.called_ae, *request.address, request.tls, request.certificate]


def to_request(values: list[Any]) -> Request:
    """A request from its values."""
    calling_ae, called_ae, host, port, tls, certificate = values
    return Request(calling_ae, called_ae, (host, port), tls, certificate)


def from_verdict(verdict: Association | Refusal) -> list[object]:
    """An admission's answer as values; the inverse of ``to_verdict``."""
    if isinstance(verdict, Association):
        return [association_to_json(verdict)]
    return [verdict.result, verdict.source, verdict.reason, verdict.why]


def to_verdict(values: list[Any]) -> Association | Refusal:
    """An admission's answer from its values."""
    return association_from_json(values[0]) if len(values) == 1 else Refusal(*values)


def from_instance(i: Instance) -> list[object]:
    """An instance as values; the inverse of ``Instance(*values)``."""
    return [
        i.sop_class, i.sop_instance, i.study, i.series, i.modality, i.transfer_syntax, i.size, i.checksum, i.file,
        i.arrived, i.took,
    ]  # fmt: skip


def from_report(report: Report) -> list[object]:
    """A report of storage commitment as values; the inverse of ``to_report``."""
    return [report.transaction, list(report.committed), [list(each) for each in report.failed]]


def to_report(values: list[Any]) -> Report:
    """A report from its values."""
    transaction, committed, failed = values
    return Report(transaction, tuple(committed), tuple((uid, reason) for uid, reason in failed))


def from_port(port: Port) -> dict[str, object]:
    """What a receiver process needs of a Port; the inverse of ``to_port``."""
    return {
        "incoming": str(port.incoming),
        "quarantine": str(port.quarantine.folder),
        "ae_title": port.ae_title,
        "fsync": port.fsync,
        "timeouts": asdict(port.timeouts),
        "tls": asdict(port.tls) if port.tls else None,
        "watched": port.reached is not unwatched,
    }


def to_port(values: dict[str, Any]) -> Port:
    """A Port from what a receiver process was told; nobody watches its steps."""
    return Port(
        incoming=Path(values["incoming"]),
        quarantine=Quarantine(Path(values["quarantine"])),
        ae_title=values["ae_title"],
        fsync=values["fsync"],
        timeouts=Timeouts(**values["timeouts"]),
        tls=TlsFiles(**values["tls"]) if values["tls"] else None,
    )
