"""The contract of a sender: brings instances to a destination, one at a time, and says what came of each.

Trouble on the way is a value, not an exception. ``FakeSender`` is the fake that ships beside the contract;
``tests/test_senders.py`` holds every implementation to it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from magickbox.destination import Delivered, Destination, Rejected, Result, Retry


@dataclass(frozen=True)
class Item:
    """An instance to send: its Part 10 file, and what the file meta says it is."""

    path: Path
    sop_class: str
    sop_instance: str
    transfer_syntax: str


class Session(Protocol):
    """An open way to a destination; leaving the ``with`` block ends it properly, or aborts it after an exception."""

    def __enter__(self) -> Self:
        """The session itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """End the session."""
        ...

    @property
    def is_open(self) -> bool:
        """False once nothing more can be sent: the peer or the network ended it."""
        ...

    def send(self, item: Item) -> Result:
        """Send one instance and wait for what the destination says; a closed session says Retry."""
        ...

    def abort(self) -> None:
        """End the session at once, from any thread: a ``send`` that waits comes back with Retry."""
        ...


class Sender(Protocol):
    """Opens sessions with destinations of one kind."""

    def split(self, destination: Destination, items: Sequence[Item]) -> list[list[Item]]:
        """The items as they can go together over one session, to be sent one group after another."""
        ...

    def connect(self, destination: Destination, items: Sequence[Item], job: str) -> Session | Retry:
        """Open a session for these items of that job, one group of ``split``, or say why it may work later."""
        ...

    def problems(self, destination: Destination) -> list[str]:
        """What is wrong with a destination as far as this machine can tell without calling it; no secret in it."""
        ...

    def probe(self, destination: Destination) -> Retry | None:
        """Ask whether the destination is there, without sending anything; None if it is, or why not."""
        ...

    def close(self) -> None:
        """End what is kept open for later deliveries."""
        ...


class ByKind:
    """One sender for all kinds of destinations: each goes to the sender of its kind.

    ``named`` gives the destinations that have names as they are now: a delivery to one goes where the name points at
    the time of the attempt, and where it pointed when it was planned if the name is gone.
    """

    def __init__(
        self, senders: Mapping[type, Sender], named: Callable[[], Mapping[str, Destination]] = lambda: {}
    ) -> None:
        self._senders = senders
        self._named = named

    def split(self, destination: Destination, items: Sequence[Item]) -> list[list[Item]]:
        """As the sender of that kind does."""
        now = self.now(destination)
        return self._senders[type(now)].split(now, items)

    def connect(self, destination: Destination, items: Sequence[Item], job: str) -> Session | Retry:
        """As the sender of that kind does."""
        now = self.now(destination)
        return self._senders[type(now)].connect(now, items, job)

    def probe(self, destination: Destination) -> Retry | None:
        """As the sender of that kind does."""
        now = self.now(destination)
        return self._senders[type(now)].probe(now)

    def problems(self, destination: Destination) -> list[str]:
        """As the sender of that kind does."""
        return self._senders[type(destination)].problems(destination)

    def close(self) -> None:
        """As the senders do."""
        for sender in self._senders.values():
            sender.close()

    def now(self, destination: Destination) -> Destination:
        """What a destination is at present, if it has a name."""
        now = self._named().get(destination.name)
        return destination if now is None else destination.as_now(now)


# Who makes a fake knows which kind of destination it is given.
Answer = Callable[[Any, Item], Result]


def _accept(_destination: Destination, _item: Item) -> Result:
    return Delivered()


@dataclass(frozen=True)
class Call:
    """One ``connect`` of a FakeSender."""

    destination: Any
    items: tuple[Item, ...]
    job: str


@dataclass
class FakeSender:
    """A sender without a network, for tests of what stands above it.

    ``answer`` says what each send brings; ``refusal`` may give the reason why a destination cannot be reached. A Retry
    without a status ends the session, as a broken connection does. ``sent`` and ``calls`` tell what happened.
    """

    answer: Answer = _accept
    refusal: Callable[[Any], str | None] = lambda _destination: None
    group: int = 128
    sent: list[tuple[Any, Item]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    probes: list[Any] = field(default_factory=list)

    def split(self, _destination: Destination, items: Sequence[Item]) -> list[list[Item]]:
        """Groups of at most ``group`` items."""
        return [list(items[at : at + self.group]) for at in range(0, len(items), self.group)]

    def connect(self, destination: Destination, items: Sequence[Item], job: str) -> Session | Retry:
        """A session, or the refusal that the test asked for."""
        self.calls.append(Call(destination, tuple(items), job))
        reason = self.refusal(destination)
        return Retry(reason) if reason else FakeSession(self, destination)

    def close(self) -> None:
        """Nothing is kept open."""

    def probe(self, destination: Destination) -> Retry | None:
        """What ``connect`` would meet."""
        self.probes.append(destination)
        reason = self.refusal(destination)
        return Retry(reason) if reason else None

    def problems(self, destination: Destination) -> list[str]:
        """The refusal that the test asked for."""
        reason = self.refusal(destination)
        return [reason] if reason else []


class FakeSession:
    """A session of a FakeSender."""

    def __init__(self, sender: FakeSender, destination: Destination) -> None:
        self._sender = sender
        self._destination = destination
        self._over = threading.Event()

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the session."""
        self._over.set()

    @property
    def is_open(self) -> bool:
        """False once it was ended or aborted."""
        return not self._over.is_set()

    def send(self, item: Item) -> Result:
        """What the test's ``answer`` says."""
        if not self.is_open:
            return Retry("the session is over")
        if not item.path.is_file():
            return Rejected("the file cannot be read: No such file or directory")
        result = self._sender.answer(self._destination, item)
        if isinstance(result, Delivered):
            self._sender.sent.append((self._destination, item))
        if isinstance(result, Retry) and result.status is None:
            self._over.set()
        return result

    def abort(self) -> None:
        """End the session."""
        self._over.set()
