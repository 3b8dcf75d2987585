"""Storage commitment as the port sees it: the report of a peer that the box has asked (PS3.4 J.3.3).

The peer calls as SCP of the service, since the box is its SCU.
"""

from collections.abc import Iterator

from magickbox.association import Association
from magickbox.dicom.commandset import EVENT_TYPE, N_EVENT_REPORT_RQ, BadCommand
from magickbox.dicom.commitment import ALL_COMMITTED, LONGEST_REPORT, SOME_FAILED, SOP_CLASS, SYNTAXES, read_report
from magickbox.errors import UnreadableHeader
from magickbox.intake import Intake
from magickbox.proof import INVALID_ARGUMENT, NO_SUCH_EVENT
from magickbox.scp.service import Message, Response


class CommitmentReports:
    """Takes N-EVENT-REPORTs; 0x0000 leaves only when the result is durable."""

    sop_classes = frozenset({SOP_CLASS})
    syntaxes = SYNTAXES
    fields = frozenset({N_EVENT_REPORT_RQ})
    longest = LONGEST_REPORT
    peer_is_scp = True

    def answer(self, message: Message, association: Association, intake: Intake) -> Iterator[Response]:
        """One response, when the coordinator has it."""
        try:
            if message.command.number(EVENT_TYPE) not in (ALL_COMMITTED, SOME_FAILED):
                yield Response(NO_SUCH_EVENT, "no such event type")
                return
            report = read_report(message.dataset, message.transfer_syntax)
        except (BadCommand, UnreadableHeader) as exc:
            yield Response(INVALID_ARGUMENT, str(exc))
            return
        yield Response(intake.reported(association, report))
