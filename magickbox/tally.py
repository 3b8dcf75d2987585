"""What an attempt at a delivery brought, and what a destination said, in words that anybody may read."""

from dataclasses import dataclass

from magickbox.delivery import DeliveryItem, ItemState
from magickbox.destination import Result, Retry

# What a destination says, in words (PS3.7 Annex C, PS3.4 B.2.3). Its own comment is kept with the instance and never
# logged: it may name a patient.
_WORDS = {
    0x0110: "processing failure",
    0x0122: "SOP class not supported",
    0x0124: "not authorized",
}
_RANGES = {0xA700: "out of resources", 0xA900: "dataset does not match its SOP class"}


def words_for(result: Result | DeliveryItem) -> str:
    """What is said of a result where anybody may read it."""
    status = result.status
    if status is None:
        return result.reason
    words = _WORDS.get(status) or _RANGES.get(status & 0xFF00) or ("cannot understand" if status >> 12 == 0xC else "")
    return f"0x{status:04X} {words}".rstrip()


@dataclass
class Tally:
    """What an attempt brought so far; ``cut_short`` says that it ended through nobody's fault and does not count.

    ``answered`` says whether anybody was there; None if nobody was asked. ``asked`` says that the destination was asked
    to verify what it has.
    """

    sent: int = 0
    refused: int = 0
    trouble: str = ""
    cut_short: str = ""
    answered: bool | None = None
    after: float = 0.0
    asked: bool = False

    def count(self, state: ItemState, result: Result) -> None:
        self.sent += state is ItemState.SENT
        self.refused += state is ItemState.REFUSED and not isinstance(result, Retry)
        if isinstance(result, Retry):
            self.trouble = words_for(result)
            self.after = max(self.after, result.after or 0.0)
