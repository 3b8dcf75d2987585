"""What happens next with a delivery, in words: pure."""

from datetime import datetime

from magickbox.clock import to_text
from magickbox.delivery import Delivery, DeliveryState
from magickbox.job import JobState
from magickbox.queueing import Mode, QueueState

S = DeliveryState
_OVER = {
    S.DELIVERED: "nothing: it has arrived",
    S.REPLACED: "nothing: the entry behind it has taken over",
    S.SKIPPED: "nothing: the entry before it has delivered",
    S.CANCELLED: "nothing: it was taken back; 'magickbox deliveries retry {id}' tries it again",
    S.DEAD: "nothing until a person asks for it: 'magickbox deliveries retry {id}'",
}


def what_next(delivery: Delivery, job: JobState, queue: QueueState, tried_since: datetime | None) -> str:
    """A sentence; ``tried_since`` is when the attempt under way began, if one is. Times are UTC, as in the logs."""
    if delivery.state in _OVER:
        return _OVER[delivery.state].format(id=delivery.id)
    if delivery.state is S.WAITING:
        return f"it waits for delivery {delivery.waits_for}: it begins if that one fails, and is skipped if not"
    if tried_since is not None:
        return f"it is being tried since {to_text(tried_since)}"
    if job is not JobState.DELIVERING:
        return f"it waits: its job is {job}"
    return _of_queue(delivery, queue) or f"it is tried at {_when(delivery.next_try)}{_else(delivery)}"


def _of_queue(delivery: Delivery, queue: QueueState) -> str:
    if queue.mode is Mode.PAUSED:
        return "it waits: its destination is paused"
    if queue.opened_until and delivery.opened and delivery.opened > queue.opened_until:
        return "it waits: its destination is draining, and it came later"
    if queue.circuit.is_open:
        asked = _when(queue.circuit.next_probe)
        return f"its destination is unreachable, and is asked again at {asked}; once it answers, it is tried at once"
    return ""


def _when(moment: datetime | None) -> str:
    return to_text(moment) if moment else "the next look"


def _else(delivery: Delivery) -> str:
    return "; if it fails for good, the entry behind it takes over" if delivery.has_fallback else ""
