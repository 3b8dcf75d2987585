"""The next instance of a session, made ready while the peer still works on the one before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from magickbox.scu.command import c_store_request
from magickbox.scu.outgoing import InstanceFile, Outgoing, ReadTrouble, Unsendable, Way, new_buffer
from magickbox.sender import Item

WayOf = Callable[[Item], Way | None]
"""How an item goes as it is stored; None if it does not."""


@dataclass(frozen=True)
class Ready:
    """A request that can go out, with its message id; or the ``trouble`` with its file."""

    item: Item
    message_id: int
    file: InstanceFile | None
    message: Outgoing | None
    trouble: Unsendable | ReadTrouble | None = None


class Ahead:
    """Makes requests, each of the items it was told of before it is asked for; used by one thread."""

    def __init__(self, way_of: WayOf) -> None:
        self._way_of = way_of
        self._items: Sequence[Item] = ()
        self._at = 0
        self._message_id = 0
        self._buffers: list[bytearray] = []
        self._next: Ready | None = None

    def expect(self, items: Sequence[Item]) -> None:
        """What will be asked for, in this order as far as it can be told."""
        self.forget()
        self._items, self._at = items, 0

    def take(self, item: Item, way: Way) -> Ready:
        """The request that brings an item; it is ready if it was the one to expect. ``done`` ends it."""
        self._at = self._position(item) + 1
        ready, self._next = self._next, None
        if ready is not None and ready.item is not item:
            self.done(ready)
            ready = None
        return ready or self._make(item, way)

    def _position(self, item: Item) -> int:
        return self._at if self._at < len(self._items) and self._items[self._at] is item else len(self._items)

    def look(self) -> None:
        """Make the next one ready, while there is nothing else to do."""
        if self._next is None and self._at < len(self._items):
            item = self._items[self._at]
            way = self._way_of(item)
            self._next = None if way is None else self._make(item, way)

    def _make(self, item: Item, way: Way) -> Ready:
        self._message_id = self._message_id % 0xFFFF + 1
        number = self._message_id
        try:
            file = InstanceFile(item)
        except Unsendable as exc:
            return Ready(item, number, None, None, exc)
        buffer = self._buffers.pop() if self._buffers else new_buffer()
        message = Outgoing(file, c_store_request(number, item.sop_class, item.sop_instance), way, buffer)
        try:
            message.begin()
        except ReadTrouble as exc:
            return Ready(item, number, file, message, exc)
        return Ready(item, number, file, message)

    def done(self, ready: Ready) -> None:
        """Close its file, and use its buffer for another."""
        if ready.file is not None:
            ready.file.close()
        if ready.message is not None:
            self._buffers.append(ready.message.buffer)

    def forget(self) -> None:
        """Let go of what was made ready and is not asked for, and of the buffers."""
        if self._next is not None:
            self.done(self._next)
            self._next = None
        self._items = ()
        self._buffers.clear()
