"""The contract between a receiver and the coordinator.

A receiver writes only its own association folder and never opens the ledger. It asks once per association, and
reports what is durable; an acknowledgement depends on the filesystem alone. ``RecordingIntake`` is the fake that
ships beside the contract.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from magickbox.association import Association, End
from magickbox.clock import now
from magickbox.instance import Instance
from magickbox.proof import TAKEN, Report


@dataclass(frozen=True)
class Request:
    """What a peer asks for when it opens an association. ``address`` is (IP, port) as the socket has it.

    ``tls`` is the version of TLS, and ``certificate`` the name in the peer's verified certificate, where there are any.
    """

    calling_ae: str
    called_ae: str
    address: tuple[str, int]
    tls: str | None = None
    certificate: str | None = None


@dataclass(frozen=True)
class Refusal:
    """An A-ASSOCIATE-RJ: result, source and reason (PS3.8 9.3.4), and why in words for the log."""

    result: int
    source: int
    reason: int
    why: str


CALLING_NOT_RECOGNIZED = (1, 1, 3)
CALLED_NOT_RECOGNIZED = (1, 1, 7)
LIMIT_EXCEEDED = (2, 3, 2)


class Intake(Protocol):
    """The coordinator as a receiver sees it; every call is quick and may come from any thread."""

    def admit(self, request: Request) -> Association | Refusal:
        """Decide on an association; an admitted one has its id, and must be reported as ended, once."""

    def stored(self, association: Association, instance: Instance) -> None:
        """An instance is durable in the association's folder and was answered with 0x0000."""

    def refused(self, association: Association, sop_instance: str, status: int, why: str) -> None:
        """An instance was answered with a failure."""

    def ended(self, association: Association, how: End) -> None:
        """The association is over; nothing more will be written into its folder."""

    def reported(self, association: Association, report: Report) -> int:
        """A destination says which instances it commits to; the status to answer, once the result is durable."""
        ...

    def has_room(self) -> bool:
        """False below the free-space mark: no instance is taken then."""
        ...

    def pause(self) -> float:
        """Seconds to wait before an instance is answered: jobs pile up, and the sender shall go slower."""
        ...


def _admit_all(_request: Request) -> Refusal | None:
    return None


@dataclass
class RecordingIntake:
    """An intake that keeps what it was told, for tests of receivers.

    ``verdict`` may refuse a request, ``room`` may be taken away; ``before_report`` is called before each ``stored``.
    """

    verdict: Callable[[Request], Refusal | None] = _admit_all
    room: bool = True
    delay: float = 0.0
    before_report: Callable[[], None] = lambda: None
    requests: list[Request] = field(default_factory=list)
    instances: list[tuple[Association, Instance]] = field(default_factory=list)
    refusals: list[tuple[Association, str, int, str]] = field(default_factory=list)
    ends: list[tuple[Association, End]] = field(default_factory=list)
    reports: list[tuple[Association, Report]] = field(default_factory=list)
    report_status: int = TAKEN

    def admit(self, request: Request) -> Association | Refusal:
        """What ``verdict`` says; the id counts the requests."""
        self.requests.append(request)
        peer = request.address[0]
        association = Association(f"a{len(self.requests):05d}", request.calling_ae, request.called_ae, peer, now())
        return self.verdict(request) or association

    def stored(self, association: Association, instance: Instance) -> None:
        """Keep it."""
        self.before_report()
        self.instances.append((association, instance))

    def refused(self, association: Association, sop_instance: str, status: int, why: str) -> None:
        """Keep it."""
        self.refusals.append((association, sop_instance, status, why))

    def ended(self, association: Association, how: End) -> None:
        """Keep it."""
        self.ends.append((association, how))

    def reported(self, association: Association, report: Report) -> int:
        """Keep it, and answer what the test said."""
        self.reports.append((association, report))
        return self.report_status

    def has_room(self) -> bool:
        """What the test said."""
        return self.room

    def pause(self) -> float:
        """What the test said."""
        return self.delay
