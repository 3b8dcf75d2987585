"""A sender for each kind of destination, and what can be asked of them without a box."""

from collections.abc import Callable, Mapping

from magickbox.destination import Destination, DicomDestination, FolderDestination, Retry, StowDestination
from magickbox.dicomweb.query import QidoProver
from magickbox.dicomweb.store import StowSender
from magickbox.folders.store import FolderSender
from magickbox.group import Group
from magickbox.owncalls import OwnCalls
from magickbox.pixels.codecs import can_encode, missing
from magickbox.proof import How
from magickbox.prover import Prover, Provers
from magickbox.routing import Rules
from magickbox.scu.commitment import CommitmentProver
from magickbox.scu.find import FindProver
from magickbox.scu.pool import PoolingSender
from magickbox.scu.store import StoreSender
from magickbox.sender import ByKind, Sender
from magickbox.transcoder import Transcoder


def senders(own_calls: OwnCalls, transcoder: Transcoder | None = None) -> Mapping[type, Sender]:
    """A sender for each kind of destination; with a transcoder they convert what is not taken as stored."""
    return {
        DicomDestination: PoolingSender(StoreSender(own_calls, transcoder=transcoder)),
        StowDestination: StowSender(),
        FolderDestination: FolderSender(),
    }


def provers(own_calls: OwnCalls, now: Callable[[Destination], Destination]) -> Provers:
    """A prover for each way of asking whether a destination has what was sent; ``now`` says what it is at present."""
    by_how: dict[How, Prover] = {
        How.COMMITMENT: CommitmentProver(own_calls),
        How.FIND: FindProver(own_calls),
        How.QIDO: QidoProver(),
    }
    return Provers(by_how, now)


def probe(destination: Destination) -> Retry | None:
    """Ask whether a destination is there; None if it is, or why not."""
    return ByKind(senders(OwnCalls())).probe(destination)


def destination_problems(rules: Rules) -> dict[str, list[str]]:
    """What is wrong with each destination of some rules, as far as can be told without calling it."""
    by_kind = ByKind(senders(OwnCalls()))
    entries = (each.destination for rule in rules.rules for each in rule.endpoints)
    inline = {str(each): each for each in entries if not isinstance(each, Group)}
    every = {**inline, **{str(each): each for each in rules.destinations.values()}}
    return {name: by_kind.problems(each) + _codecs_lacking(each) for name, each in every.items()}


def _codecs_lacking(destination: Destination) -> list[str]:
    """What has to be installed so that instances can be converted to the transfer syntaxes it prefers."""
    preferred = destination.transfer_syntaxes.preferred if isinstance(destination, DicomDestination) else ()
    found = (missing(syntax, encode=True) for syntax in preferred if can_encode(syntax))
    return [f"transfer_syntaxes: {each}" for each in found if each]
