"""Destinations: how their queues stand, whether they answer, pausing them, and sending again what was given up."""

import time
from collections.abc import Mapping
from typing import Literal

from fastapi import APIRouter, Request

from magickbox.delivery import Delivery, DeliveryState
from magickbox.destination import (
    Destination,
    DicomDestination,
    FolderDestination,
    Rejected,
    Retry,
    StowDestination,
    needs_job,
)
from magickbox.errors import MagickboxError, NotFound
from magickbox.group import Group
from magickbox.ledger import Transaction, queues
from magickbox.ledger.listings import DeliveryFilter, page_of_deliveries
from magickbox.ledger.queues import QueueLine
from magickbox.queueing import lane_of
from magickbox.routing import Rules
from magickbox.scu.echo import echo
from magickbox.senders import probe
from magickbox.web.acting import act, note
from magickbox.web.api.rules import in_force
from magickbox.web.context import Context
from magickbox.web.models.destinations import DestinationModel, EchoModel, SaidModel, SentAgain
from magickbox.web.problems import Problem
from magickbox.web.security import In, Operator, Viewer

router = APIRouter(prefix="/destinations", tags=["destinations"])

MOST_AGAIN = 500
KINDS: Mapping[type, str] = {DicomDestination: "dicom", StowDestination: "stow", FolderDestination: "folder"}
Verb = Literal["pause", "drain", "resume", "ask"]


def _of_rules(rules: Rules) -> dict[str, Destination]:
    """Every destination that a rule or a name in the rules means, by its queue; without those that need a job."""
    inline = (each.destination for rule in rules.rules for each in rule.endpoints)
    plain = [each for each in (*rules.destinations.values(), *inline) if not isinstance(each, Group)]
    return {lane_of(each): each for each in plain if not needs_job(each)}


@router.get("", summary="Every destination that the rules name, or that anything was ever to go to")
def list_destinations(box: In, _who: Viewer) -> list[DestinationModel]:
    rules = in_force(box)
    known = _of_rules(rules)
    with box.ledger.reading() as tx:
        lines = {line.name: line for line in queues.overview(tx)}
        was = {name: _newest(tx, name) for name in lines if name not in known}
    groups = [_group(each, lines) for each in rules.groups.values()]
    found = [_line(line, known.get(name) or was[name], rules, name in known) for name, line in lines.items()]
    unused = [_unused(name, each) for name, each in known.items() if name not in lines]
    return [*groups, *sorted([*found, *unused], key=lambda each: each.name)]


def _newest(tx: Transaction, lane: str) -> Destination | None:
    try:
        return queues.newest_destination(tx, lane)
    except NotFound:
        return None


def _line(line: QueueLine, destination: Destination | None, rules: Rules, in_rules: bool) -> DestinationModel:
    of_sender = line.name.rpartition("@")[0] in rules.destinations
    return DestinationModel(
        name=line.name, kind=KINDS.get(type(destination), ""), where=_where(destination) or line.name,
        state=line.state.word, since=line.since, open=line.open, dead=line.dead, oldest=line.oldest,
        next_try=line.next_try, reason=line.reason, in_rules=in_rules or of_sender,
    )  # fmt: skip


def _unused(name: str, destination: Destination) -> DestinationModel:
    return DestinationModel(
        name=name, kind=KINDS[type(destination)], where=_where(destination), state="UNUSED", used=False
    )  # fmt: skip


def _where(destination: Destination | None) -> str:
    if isinstance(destination, DicomDestination):
        return f"{destination.called_ae}@{destination.host}:{destination.port}{' with TLS' if destination.tls else ''}"
    if isinstance(destination, StowDestination):
        return destination.url
    return destination.path if isinstance(destination, FolderDestination) else ""


def _group(group: Group, lines: Mapping[str, QueueLine]) -> DestinationModel:
    own = [lines[name] for name in group.names if name in lines]
    return DestinationModel(
        name=group.name, kind="group", where=group.policy.value.replace("_", " "), state="GROUP", used=False,
        open=sum(line.open for line in own), dead=sum(line.dead for line in own), members=list(group.names),
    )  # fmt: skip


def one_destination(box: Context, who: Viewer, name: str) -> DestinationModel:
    """One of them; raises NotFound."""
    found = next((each for each in list_destinations(box, who) if each.name == name), None)
    if found is None:
        raise NotFound(f"there is no destination '{name[:100]}'")
    return found


def deliveries_to(box: Context, name: str, *states: DeliveryState, limit: int = 50) -> list[Delivery]:
    """The newest deliveries to a destination, of these states."""
    with box.ledger.reading() as tx:
        return page_of_deliveries(tx, DeliveryFilter(states, name), None, limit)


@router.post("/{name:path}/echo", summary="Ask a destination whether it is there, as the box would")
def echo_destination(request: Request, box: In, who: Operator, name: str) -> EchoModel:
    """By C-ECHO; of a DICOMweb service and of a folder, what their kind offers."""
    destination, is_open = _asked(box, name)
    began = time.monotonic()
    with box.workbench.echoes.one():
        result = echo(destination) if isinstance(destination, DicomDestination) else probe(destination)
    said = result.reason if isinstance(result, Retry | Rejected) else ""
    note(request, who, "echo", name, said or "it answers")
    if not said and is_open:
        box.ask("ask", name, who.name)
    return EchoModel(answers=not said, said=said, seconds=round(time.monotonic() - began, 3))


def _asked(box: Context, name: str) -> tuple[Destination, bool]:
    """What is to be asked, and whether the box counts it as unreachable; raises NotFound, or Problem 409."""
    known = _of_rules(in_force(box)).get(name)
    with box.ledger.reading() as tx:
        line = next((each for each in queues.overview(tx) if each.name == name), None)
        found = known or (_newest(tx, name) if line else None)
    if found is None:
        raise NotFound(f"there is no destination '{name[:100]}', or it is a group")
    if needs_job(found):
        raise Problem(409, "Conflict", f"{name} has placeholders that only a job fills in")
    return found, line is not None and line.state.circuit.is_open


@router.post("/{name:path}/retry", summary="Send again all that is dead for a destination")
def retry_dead(request: Request, box: In, who: Operator, name: str) -> SentAgain:
    """Of the newest 500; `left` says how many there are still."""
    with box.ledger.reading() as tx:
        name = queues.find(tx, name).name
        dead = page_of_deliveries(tx, DeliveryFilter((DeliveryState.DEAD,), name), None, MOST_AGAIN)
    refused = []
    for each in dead:
        try:
            box.ask("retry", str(each.id), who.name)
        except MagickboxError as exc:
            refused.append(f"{each.id}: {exc}")
    again = len(dead) - len(refused)
    note(request, who, "retry", name, f"{again} dead deliveries are tried again, {len(refused)} were refused")
    with box.ledger.reading() as tx:
        return SentAgain(again=again, refused=refused[:20], left=queues.find(tx, name).dead)


@router.post("/{name:path}/{verb}", summary="Pause a destination, drain it, resume it, or have it asked at once")
def steer(request: Request, who: Operator, name: str, verb: Verb) -> SaidModel:
    return SaidModel(said=act(request, who, verb, name))
