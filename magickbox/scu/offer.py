"""What the box offers a destination for each instance: its SOP class as stored, and what it can be converted to."""

from collections.abc import Sequence
from dataclasses import dataclass

from magickbox.destination import DicomDestination
from magickbox.scu.pdu import MAX_CONTEXTS, Context
from magickbox.sender import Item
from magickbox.transcoder import Transcoder


@dataclass(frozen=True)
class Offer:
    """The presentation contexts for one destination, one transfer syntax each; without a transcoder only as stored."""

    destination: DicomDestination
    transcoder: Transcoder | None = None

    def wishes(self, item: Item) -> tuple[str, ...]:
        """The transfer syntaxes in which the item may go there, the best first."""
        convertible = self.transcoder.targets(item.transfer_syntax) if self.transcoder else ()
        return self.destination.transfer_syntaxes.wishes(item.transfer_syntax, convertible)

    def contexts(self, items: Sequence[Item]) -> list[Context]:
        """The contexts that these items need, each once, in the order in which they come up."""
        one_of_a_kind = {_kind(item): item for item in items}.values()
        wanted = (Context(item.sop_class, syntax) for item in one_of_a_kind for syntax in self.wishes(item))
        return list(dict.fromkeys(wanted))

    def split(self, items: Sequence[Item]) -> list[list[Item]]:
        """Groups of items that need at most 128 contexts each."""
        group_of: dict[tuple[str, str], int] = {}
        contexts: list[set[Context]] = []
        for item in items:
            if _kind(item) not in group_of:
                needed = {Context(item.sop_class, syntax) for syntax in self.wishes(item)}
                if not contexts or len(contexts[-1] | needed) > MAX_CONTEXTS:
                    contexts.append(set())
                contexts[-1] |= needed
                group_of[_kind(item)] = len(contexts) - 1
        groups: list[list[Item]] = [[] for _ in contexts]
        for item in items:
            groups[group_of[_kind(item)]].append(item)
        return groups


def _kind(item: Item) -> tuple[str, str]:
    return item.sop_class, item.transfer_syntax
