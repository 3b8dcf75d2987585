"""A question to a destination over an association of its own: opened for it, and ended whatever comes of it."""

from collections.abc import Callable, Sequence

from magickbox.destination import Destination, DicomDestination, Rejected, Retry
from magickbox.errors import PeerError, UnreadableHeader
from magickbox.owncalls import OwnCalls
from magickbox.prover import Answer, Question, Watch
from magickbox.scu.associate import associate
from magickbox.scu.pdu import Context
from magickbox.scu.upperlayer import Association, Registry, Timeouts


class Asking:
    """Opens associations for questions; ``what`` is what is asked for, in words."""

    def __init__(self, what: str, contexts: Sequence[Context], own_calls: OwnCalls, timeouts: Timeouts) -> None:
        self._what, self._contexts, self._own_calls, self._timeouts = what, contexts, own_calls, timeouts

    def ask(
        self,
        destination: Destination,
        question: Question,
        watch: Watch,
        talk: Callable[[Association, Context], Answer],
    ) -> Answer:
        """Let ``talk`` ask over the first of the contexts that is accepted, and return what it says."""
        assert isinstance(destination, DicomDestination)
        registry = Registry(lambda address: self._own_calls.opened(address, question.job), self._own_calls.closed)
        association = associate(destination, self._contexts, self._timeouts, registry)
        if isinstance(association, Retry):
            return association
        watch(association)
        try:
            context = next((each for each in self._contexts if each in association.accepted), None)
            if context is None:
                return Rejected(f"no {self._what}: {association.refused[self._contexts[0]]}")
            return talk(association, context)
        except (PeerError, UnreadableHeader) as exc:
            association.abort()
            return Retry(str(exc), answered=True)
        finally:
            watch(None)
            association.release()
