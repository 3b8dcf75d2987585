"""What the end of a delivery means for the others of its rule: the pure rule that ``ledger.endings`` keeps to."""

from collections.abc import Sequence
from dataclasses import dataclass

from magickbox.decision import PlannedDelivery


@dataclass(frozen=True)
class Following:
    """What the end of a delivery means for others: those to start and those to skip."""

    start: tuple[PlannedDelivery, ...]
    skip: tuple[PlannedDelivery, ...]


def follow(deliveries: Sequence[PlannedDelivery], ended: PlannedDelivery, delivered: bool) -> Following:
    """What the end of one delivery starts and skips; ``delivered`` says that all its instances arrived."""
    waiting = tuple(each for each in deliveries if each.rule == ended.rule and each.waits_for is not None)
    direct = tuple(each for each in waiting if each.waits_for == ended.entry)
    if not delivered:
        return Following(direct, ())
    skipped = {ended.entry}
    for each in sorted(waiting, key=lambda planned: planned.entry):
        if each.waits_for in skipped:
            skipped.add(each.entry)
    return Following((), tuple(each for each in waiting if each.entry in skipped - {ended.entry}))
