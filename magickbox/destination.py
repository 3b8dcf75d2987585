"""Where results go, and what came of bringing one instance there."""

from dataclasses import dataclass, replace

from magickbox.association import sendable_title
from magickbox.proof import NO_PROOF, Verify
from magickbox.transfersyntax import AS_STORED, TransferSyntaxes

SENDER, CALLER, CALLED = "$sender", "$caller", "$called"  # the original's address, and its calling and called AE title
_TITLES = (CALLER, CALLED)


@dataclass(frozen=True)
class Secret:
    """Where a secret is found, never what it is: ``env:NAME`` or ``file:/path``."""

    source: str


@dataclass(frozen=True)
class Tls:
    """How a destination proves who it is, and how the box does; files in PEM, read anew for each connection.

    Without ``ca`` the system's authorities count. ``server_name`` is the name that the destination's certificate must
    be for, the host if empty; ``check_name`` False leaves that check out, which needs a ``ca`` of one's own.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    key_password: Secret | None = None
    server_name: str = ""
    check_name: bool = True


@dataclass(frozen=True)
class Line:
    """What the way to a destination has to keep up with; None leaves it to the box.

    It may take nothing, or answer nothing, for ``stall`` seconds; what takes longer has to go at ``least_speed``
    bytes/s on average.
    """

    stall: float | None = None
    least_speed: float | None = None


@dataclass(frozen=True)
class DicomDestination:
    """A C-STORE SCP: its host and port, the AE title the box calls itself, and the AE title it calls.

    ``host`` and ``calling_ae`` may be placeholders until ``for_job`` has filled them in; ``to_sender`` then says that
    the host was one. ``name`` is the name that the rules give it, empty if it stands in the rule itself.
    """

    host: str
    port: int
    calling_ae: str
    called_ae: str
    name: str = ""
    tls: Tls | None = None
    to_sender: bool = False
    transfer_syntaxes: TransferSyntaxes = AS_STORED
    line: Line = Line()
    verify: Verify = NO_PROOF

    def __str__(self) -> str:
        """As a person writes it: ``PACS@10.0.0.5:104``, after its name if it has one."""
        return _named(self.name, f"{self.called_ae}@{self.host}:{self.port}")

    def for_job(self, caller: str, called: str, sender: str) -> "DicomDestination":
        """Itself with the original's calling and called AE title, and its address, in place of the placeholders."""
        titles = {CALLER: caller, CALLED: called}
        calling_ae = sendable_title(titles[self.calling_ae]) if self.calling_ae in titles else self.calling_ae
        if self.host != SENDER:
            return replace(self, calling_ae=calling_ae)
        return replace(self, host=sender, calling_ae=calling_ae, to_sender=True)

    def as_now(self, now: "Destination") -> "Destination":
        """What its name means now; what a placeholder stands for stays as it was filled in for the job."""
        if not isinstance(now, DicomDestination):
            return now
        if now.host == SENDER and not self.to_sender:
            return self
        host = self.host if now.host == SENDER else now.host
        calling_ae = self.calling_ae if now.calling_ae in _TITLES else now.calling_ae
        return replace(now, host=host, calling_ae=calling_ae, to_sender=now.host == SENDER)


@dataclass(frozen=True)
class FolderDestination:
    """A folder of this machine or a share: ``path`` must be there; ``pattern`` says where below it an instance goes."""

    path: str
    pattern: str
    name: str = ""

    def __str__(self) -> str:
        """Its name and where it is."""
        return _named(self.name, self.path)

    def for_job(self, _caller: str, _called: str, _sender: str) -> "FolderDestination":
        """Itself: it has no placeholders for a job's titles."""
        return self

    def as_now(self, now: "Destination") -> "Destination":
        """What its name means now; itself if that needs what was never filled in for the job."""
        return self if needs_job(now) else now


@dataclass(frozen=True)
class StowDestination:
    """A DICOMweb service that takes instances by STOW-RS (PS3.18 10.5).

    ``url`` is its root, to which ``/studies`` is added. It is told who we are by a bearer token, or by user and
    password, or not at all.
    """

    url: str
    name: str = ""
    bearer: Secret | None = None
    user: str = ""
    password: Secret | None = None
    tls: Tls | None = None
    line: Line = Line()
    verify: Verify = NO_PROOF

    def __str__(self) -> str:
        """Its name and URL."""
        return _named(self.name, self.url)

    def for_job(self, _caller: str, _called: str, _sender: str) -> "StowDestination":
        """Itself: it has no placeholders for a job's titles."""
        return self

    def as_now(self, now: "Destination") -> "Destination":
        """What its name means now; itself if that needs what was never filled in for the job."""
        return self if needs_job(now) else now


Destination = DicomDestination | StowDestination | FolderDestination


def needs_job(destination: Destination) -> bool:
    """True if it has placeholders that only a job can fill in."""
    return isinstance(destination, DicomDestination) and (
        destination.host == SENDER or destination.calling_ae in _TITLES
    )


def _named(name: str, place: str) -> str:
    return f"{name} ({place})" if name else place


@dataclass(frozen=True)
class Delivered:
    """The destination has the instance; ``status`` is 0x0000 or the warning it answered with (PS3.4 B.2.3)."""

    status: int = 0x0000
    reason: str = ""


@dataclass(frozen=True)
class Retry:
    """It may work at another time: network trouble, an association reject, out of resources.

    ``answered`` says that somebody was there, though with a no: the destination is not unreachable. ``after`` are the
    seconds that it asked to wait, if it did.
    """

    reason: str
    status: int | None = None
    answered: bool = False
    after: float | None = None


@dataclass(frozen=True)
class Rejected:
    """The destination refuses this instance for good; ``reason`` names the status or the missing context."""

    reason: str
    status: int | None = None


Result = Delivered | Retry | Rejected

# Warnings of the Storage Service Class (PS3.4 Table B.2-1): the instance is stored.
WARNINGS = frozenset({0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007})
# Failures that another day may mend: refused (out of resources), processing failure, not authorized, resource limit.
PASSING = frozenset({0x0110, 0x0124, 0x0213})
# General failures of PS3.7 Annex C that lie in the request itself, so that asking again is of no use.
FOR_GOOD = frozenset({0x0105, 0x0106, 0x0111, 0x0112, 0x0115, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121, 0x0122, 0x0211})


def judge(status: int, comment: str = "") -> Result:
    """Read a C-STORE response status (PS3.7 9.1.1.1.9, Annex C; PS3.4 B.2.3) as a result.

    0xB000 to 0xBFFF and the general warnings count as stored; 0xA7xx passes; 0xA9xx, 0xCxxx and the failures that lie
    in the request are for good. A status that no standard names is tried again: losing an image to a guess is worse.
    """
    said = f"0x{status:04X}" + (f" {comment}" if comment else "")
    if status == 0x0000:
        return Delivered()
    if status in WARNINGS or status & 0xF000 == 0xB000:
        return Delivered(status, said)
    if status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000 or status in FOR_GOOD:
        return Rejected(said, status)
    return Retry(said, status)
