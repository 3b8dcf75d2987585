"""Storage commitment as SCU: asks a destination to commit to instances, and hears its report (PS3.4 Annex J).

The question goes over an association of its own, on which the report is waited for a while. It may come before the
response to the question (PS3.4 J.3.3 does not forbid it), or later over an association that the peer opens.
"""

import time
from contextlib import suppress
from dataclasses import replace

from magickbox.destination import Destination, Rejected, Retry, judge
from magickbox.dicom.commandset import (
    ANSWERS,
    EVENT_TYPE,
    N_ACTION_RSP,
    N_EVENT_REPORT_RQ,
    STATUS,
    BadCommand,
    Command,
)
from magickbox.dicom.commitment import (
    ALL_COMMITTED,
    INSTANCE,
    LONGEST_REPORT,
    REQUEST_COMMITMENT,
    SOME_FAILED,
    SOP_CLASS,
    SYNTAXES,
    read_report,
    write_request,
)
from magickbox.errors import PeerError, UnreadableHeader
from magickbox.owncalls import OwnCalls
from magickbox.proof import INVALID_ARGUMENT, NO_SUCH_EVENT
from magickbox.prover import Answer, Ear, Question, Watch
from magickbox.scu.asking import Asking
from magickbox.scu.command import n_action_request, n_event_report_response
from magickbox.scu.pdu import Context
from magickbox.scu.upperlayer import Association, Timeouts

_MESSAGE = 1
_LOOK_EVERY = 0.05
CONTEXTS = tuple(Context(SOP_CLASS, syntax) for syntax in SYNTAXES)


class CommitmentProver:
    """Asks by storage commitment; implements ``prover``."""

    def __init__(self, own_calls: OwnCalls, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._asking = Asking("storage commitment", CONTEXTS, own_calls, self._timeouts)

    def ask(self, destination: Destination, question: Question, ear: Ear, watch: Watch) -> Answer:
        """Send the N-ACTION, and wait for the report as long as the destination's ``wait`` says."""
        return self._asking.ask(
            destination,
            question,
            watch,
            lambda association, context: _Inquiry(association, context, ear).hold(question, self._timeouts.response),
        )


class _Inquiry:
    """One question over one association."""

    def __init__(self, association: Association, context: Context, ear: Ear) -> None:
        self._association, self._ear = association, ear
        self._syntax = context.transfer_syntax
        self._number = association.accepted[context]

    def hold(self, question: Question, limit: float) -> Answer:
        """Ask and listen; raises PeerError if it is not clear whether the question was taken."""
        dataset = write_request(question.uid, question.instances, self._syntax)
        command = n_action_request(_MESSAGE, SOP_CLASS, INSTANCE, REQUEST_COMMITMENT)
        self._association.command(self._number, command, dataset)
        deadline, status = time.monotonic() + limit, None
        while status is None:
            status = self._take_message(deadline)
        said = judge(status)
        if isinstance(said, Retry):
            return replace(said, reason=f"storage commitment refused: 0x{status:04X}", answered=True)
        if isinstance(said, Rejected):
            return replace(said, reason=f"storage commitment refused: 0x{status:04X}")
        self._ear.accepted()
        with suppress(PeerError):  # it was taken; the report comes another way
            self._listen(time.monotonic() + question.verify.wait)
        return None

    def _listen(self, until: float) -> None:
        """Take what the peer says until the answer is there or the time is up."""
        while self._association.is_open and not self._ear.is_over and time.monotonic() < until:
            if self._association.is_quiet:
                time.sleep(_LOOK_EVERY)  # the report may come to the box's port meanwhile
            else:
                self._take_message(until + _LOOK_EVERY)

    def _take_message(self, deadline: float) -> int | None:
        """The next message: a report is heard and answered, the response to the question is its status."""
        message = self._association.receive(deadline, LONGEST_REPORT)
        command = message.command
        if command.field == N_EVENT_REPORT_RQ:
            status = self._hear(command, message.dataset)
            self._association.command(self._number, n_event_report_response(command, status))
            return None
        if command.field != N_ACTION_RSP or command.number(ANSWERS) != _MESSAGE:
            raise PeerError("the peer answered something that was not asked")
        return command.number(STATUS)

    def _hear(self, command: Command, dataset: bytes) -> int:
        try:
            if command.number(EVENT_TYPE) not in (ALL_COMMITTED, SOME_FAILED):
                return NO_SUCH_EVENT
            report = read_report(dataset, self._syntax)
        except (BadCommand, UnreadableHeader):
            return INVALID_ARGUMENT
        return self._ear.report(report)
