"""C-STORE as SCU: sends instances in pieces (PS3.7 9.1.1, PS3.4 Annex B), as stored wherever the peer takes that."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from pydicom import config
from pydicom.uid import UID

from magickbox.destination import Destination, DicomDestination, Rejected, Result, Retry, judge
from magickbox.dicom.commandset import C_STORE_RSP
from magickbox.errors import ConfigError, PeerError
from magickbox.owncalls import Address, OwnCalls
from magickbox.scu.ahead import Ahead, Ready
from magickbox.scu.associate import associate
from magickbox.scu.conversions import Conversions
from magickbox.scu.echo import echo
from magickbox.scu.offer import Offer
from magickbox.scu.outgoing import ReadTrouble, Unsendable, Way
from magickbox.scu.pdu import Context
from magickbox.scu.upperlayer import Association, Registry, Timeouts
from magickbox.sender import Item
from magickbox.tlsclient import client_context
from magickbox.transcoder import CannotTranscode, Transcoder


class StoreSender:
    """Sends over DICOM associations; the box's own calls are registered before the first byte leaves.

    With a transcoder, instances that a destination does not take as stored are converted; without, they are rejected.
    """

    def __init__(
        self, own_calls: OwnCalls, timeouts: Timeouts | None = None, transcoder: Transcoder | None = None
    ) -> None:
        self._own_calls = own_calls
        self._timeouts = timeouts or Timeouts()
        self._transcoder = transcoder

    def split(self, destination: Destination, items: Sequence[Item]) -> list[list[Item]]:
        """Groups that need at most 128 contexts each, in the order in which the contexts come up."""
        assert isinstance(destination, DicomDestination)
        return Offer(destination, self._transcoder).split(items)

    def connect(self, destination: Destination, items: Sequence[Item], job: str) -> "StoreSession | Retry":
        """Open an association for these items, or say why it may work later."""
        assert isinstance(destination, DicomDestination)
        offer = Offer(destination, self._transcoder)
        registry = Registry(lambda address: self._own_calls.opened(address, job), self._own_calls.closed)
        timeouts = self._timeouts.on(destination.line)
        association = associate(destination, offer.contexts(items), timeouts, registry)
        if isinstance(association, Retry):
            return association
        return StoreSession(association, offer, items, self._own_calls.met)

    def probe(self, destination: Destination) -> Retry | None:
        """Ask by C-ECHO whether the destination is there; a peer that answers anything is."""
        assert isinstance(destination, DicomDestination)
        said = echo(destination, self._timeouts)
        return said if isinstance(said, Retry) and not said.answered else None

    def close(self) -> None:
        """Nothing is kept open."""

    def problems(self, destination: Destination) -> list[str]:
        """What is wrong with the files of its certificates."""
        try:
            if isinstance(destination, DicomDestination) and destination.tls is not None:
                client_context(destination.tls)
        except ConfigError as exc:
            return [str(exc)]
        return []


class StoreSession:
    """C-STOREs over one association."""

    def __init__(
        self, association: Association, offer: Offer, items: Sequence[Item], met: Callable[[Address], bool]
    ) -> None:
        self._association = association
        self._offer = offer
        self._met = met
        self._agreements: dict[tuple[str, str], tuple[str, ...]] = {}
        self._ways: dict[tuple[str, str], Way] = {}
        self._ahead = Ahead(self._way_as_stored)
        self._ahead.expect(items)
        self._conversions: Conversions | None = None
        if offer.transcoder is not None:
            agreed = ((item, self._agreed(item)) for item in items)
            wanted = ((item, syntaxes) for item, syntaxes in agreed if _is_other(item, syntaxes))
            self._conversions = Conversions(offer.transcoder, wanted)

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the association, or abort it after an exception."""
        self.rest()
        if kind is None:
            self._association.release()
        else:
            self._association.abort()
            self._association.close()

    @property
    def is_open(self) -> bool:
        """False once the association is over."""
        return self._association.is_open

    @property
    def is_keepable(self) -> bool:
        """True if it may bring another job's instances: not to the box itself, which takes it for this job's."""
        return self.is_open and not self._met(self._association.address)

    def serves(self, items: Sequence[Item]) -> bool:
        """True if the peer takes all these items as they are, which is what is wanted most, and is quiet since."""
        accepted = self._association.accepted
        return self._association.is_quiet and all(
            item.transfer_syntax in self._offer.wishes(item)[:1]
            and Context(item.sop_class, item.transfer_syntax) in accepted
            for item in items
        )

    def rest(self) -> None:
        """Let go of all but the association until other items come, which ``serves`` looked at and ``expect`` tells."""
        self._ahead.forget()
        if self._conversions is not None:
            self._conversions.close()
            self._conversions = None

    def expect(self, items: Sequence[Item]) -> None:
        """What will be sent now; only what ``serves`` said yes to."""
        self._ahead.expect(items)

    def abort(self) -> None:
        """Abort the association, from any thread."""
        self._association.abort()
        if self._conversions is not None:
            self._conversions.abort()

    def send(self, item: Item) -> Result:
        """Send one instance and judge the response."""
        if not self.is_open:
            return Retry("the association is over")
        agreed = self._agreed(item)
        if not agreed:
            return Rejected(self._why_not(item))
        if self._conversions is None or not _is_other(item, agreed):
            return self._send_as_it_is(item)
        converted = self._conversions.take(item, agreed)
        if isinstance(converted, CannotTranscode):
            return Retry(converted.reason) if converted.passing else Rejected(self._why_not(item, converted.reason))
        try:
            return self._send_as_it_is(replace(item, path=converted.path, transfer_syntax=converted.transfer_syntax))
        finally:
            converted.path.unlink(missing_ok=True)

    def _agreed(self, item: Item) -> tuple[str, ...]:
        """The transfer syntaxes in which the item may go and that the peer has accepted, the best first."""
        kind = item.sop_class, item.transfer_syntax
        if kind not in self._agreements:
            accepted = self._association.accepted
            wishes = self._offer.wishes(item)
            self._agreements[kind] = tuple(each for each in wishes if Context(item.sop_class, each) in accepted)
        return self._agreements[kind]

    def _way_as_stored(self, item: Item) -> Way | None:
        """How an item goes as it is stored; None if it does not."""
        return self._way(item) if item.transfer_syntax in self._agreed(item) else None

    def _way(self, item: Item) -> Way:
        kind = item.sop_class, item.transfer_syntax
        if kind not in self._ways:
            self._ways[kind] = self._association.way(self._association.accepted[Context(*kind)])
        return self._ways[kind]

    def _why_not(self, item: Item, problem: str = "") -> str:
        """Why an item cannot go; ``problem`` says why it could not be converted."""
        stored = Context(item.sop_class, item.transfer_syntax)
        wishes = self._offer.wishes(item)
        if item.transfer_syntax in wishes:
            refused = self._association.refused.get(stored, "it was not proposed")
            said = f"no acceptable presentation context for {_name(stored)}: {refused}"
        else:
            said = f"{_name(stored)} is not what this destination is to get"
        if problem:
            return f"{said}; it cannot be converted: {problem}"
        others = [_syntax(each) for each in wishes if each != item.transfer_syntax]
        return f"{said}; nor in {', '.join(others)}" if others else said

    def _send_as_it_is(self, item: Item) -> Result:
        ready = self._ahead.take(item, self._way(item))
        try:
            return self._exchange(ready)
        except Unsendable as exc:
            return Rejected(str(exc))
        except (PeerError, ReadTrouble) as exc:
            return Retry(str(exc))
        finally:
            self._ahead.done(ready)

    def _exchange(self, ready: Ready) -> Result:
        """Send the request and judge its response; the next one is made ready while the peer works."""
        if isinstance(ready.trouble, ReadTrouble):
            self._association.abort()
        if ready.trouble is not None:
            raise ready.trouble
        assert ready.message is not None
        self._association.send(ready.message)
        self._ahead.look()
        response = self._association.response(C_STORE_RSP, ready.message_id)
        return judge(response.status, response.comment)


def _is_other(item: Item, agreed: tuple[str, ...]) -> bool:
    """True if something is agreed on, but not the transfer syntax that the item is stored in."""
    return bool(agreed) and item.transfer_syntax not in agreed


def _name(context: Context) -> str:
    """The context in words; a UID that no dictionary knows stays as it is."""
    return f"{UID(context.sop_class, validation_mode=config.IGNORE).name} in {_syntax(context.transfer_syntax)}"


def _syntax(uid: str) -> str:
    return UID(uid, validation_mode=config.IGNORE).name
