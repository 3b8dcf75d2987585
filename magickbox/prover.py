"""The contract of a prover: asks a destination whether it has what was sent to it.

``FakeProver`` is the fake that ships beside the contract.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from magickbox.destination import Destination, Rejected, Retry
from magickbox.proof import NO_PROOF, WORDS, How, Reference, Report, Verify


class Abortable(Protocol):
    """What somebody waits in for a peer."""

    def abort(self) -> None:
        """End it at once, from any thread."""
        ...


@dataclass(frozen=True)
class Question:
    """Whether a destination has these instances; ``uid`` is the Transaction UID. The job is whose delivery it is.

    ``age`` are the seconds since it was asked first.
    """

    uid: str
    instances: tuple[Reference, ...]
    verify: Verify
    job: str
    age: float = 0.0


class Ear(Protocol):
    """Who listens to the answer; what it is told is durable when its methods return."""

    def accepted(self) -> None:
        """The destination has taken the question, and will answer."""
        ...

    def report(self, report: Report) -> int:
        """The answer, or that to another question; the status to answer it with."""
        ...

    @property
    def is_over(self) -> bool:
        """True if nothing more is waited for: the answer has come, also by another way, or the box stops."""
        ...


Watch = Callable[[Abortable | None], None]
Answer = Retry | Rejected | None


class Prover(Protocol):
    """Asks destinations of one kind, in one way."""

    def ask(self, destination: Destination, question: Question, ear: Ear, watch: Watch) -> Answer:
        """Ask; None if the question was taken, else why not. ``watch`` is given what can be aborted.

        Retry: it may be asked another time. Rejected: it does not know such questions.
        """
        ...


def tell_found(question: Question, ear: Ear, found: Collection[str]) -> Answer:
    """What a query found, as an answer: an archive files what it takes some time later, and has ``within`` for that."""
    wanted = [each.sop_instance for each in question.instances]
    lacking = sum(uid not in found for uid in wanted)
    if lacking and question.age < question.verify.within:
        how = WORDS[question.verify.how]
        return Retry(f"{lacking} of {len(wanted)} instances not yet found by {how}", answered=True)
    ear.report(Report(question.uid, tuple(uid for uid in wanted if uid in found)))
    return None


class Provers:
    """One prover for each way of asking; ``now`` says what a destination is at present."""

    def __init__(self, provers: Mapping[How, Prover], now: Callable[[Destination], Destination]) -> None:
        self._provers = provers
        self._now = now

    def wanted(self, destination: Destination) -> Verify:
        """How deliveries to it are to be verified."""
        return getattr(self._now(destination), "verify", NO_PROOF)

    def peer(self, destination: Destination) -> str:
        """The AE title whose reports count."""
        now = self._now(destination)
        return self.wanted(now).reports_from or getattr(now, "called_ae", "")

    def ask(self, destination: Destination, question: Question, ear: Ear, watch: Watch) -> Answer:
        """As the prover does."""
        return self._provers[question.verify.how].ask(self._now(destination), question, ear, watch)


def no_provers() -> Provers:
    """For destinations that nothing is asked of."""
    return Provers({}, lambda destination: destination)


@dataclass
class FakeProver:
    """A prover for tests: it does what ``does`` says, and keeps what it was asked."""

    does: Callable[[Question, Ear], Answer]
    asked: list[Question] = field(default_factory=list)

    def ask(self, _destination: Any, question: Question, ear: Ear, _watch: Watch) -> Answer:
        """What ``does`` says."""
        self.asked.append(question)
        return self.does(question, ear)
