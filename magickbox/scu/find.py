"""C-FIND as SCU: looks whether a destination shows every instance that it was sent (PS3.4 Annex C, PS3.7 9.1.2).

For each series it asks for the SOP Instance UIDs at the level IMAGE of the Study Root, which every archive answers. An
archive files what it takes some time later, so what is not there yet is looked for again as long as ``within`` says.
"""

import time
from collections.abc import Iterable
from dataclasses import replace

from magickbox.destination import Destination, Rejected, Retry, judge
from magickbox.dicom.commandset import ANSWERS, C_FIND_RSP, STATUS
from magickbox.dicom.commitment import SYNTAXES
from magickbox.dicom.find import LONGEST_IDENTIFIER, STUDY_ROOT, found_instance, instances_of_series, series_of
from magickbox.errors import PeerError, UnreadableHeader
from magickbox.owncalls import OwnCalls
from magickbox.prover import Answer, Ear, Question, Watch, tell_found
from magickbox.scu.asking import Asking
from magickbox.scu.command import c_find_request
from magickbox.scu.pdu import Context
from magickbox.scu.upperlayer import Association, Timeouts

CONTEXTS = tuple(Context(STUDY_ROOT, syntax) for syntax in SYNTAXES)
PENDING = frozenset({0xFF00, 0xFF01})
MOST_ANSWERS = 1_000_000


class FindProver:
    """Asks by C-FIND; implements ``prover``."""

    def __init__(self, own_calls: OwnCalls, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._asking = Asking("C-FIND", CONTEXTS, own_calls, self._timeouts)

    def ask(self, destination: Destination, question: Question, ear: Ear, watch: Watch) -> Answer:
        """Look for every instance; what is lacking is told when its time is up."""
        try:
            series = sorted({series_of(each.path) for each in question.instances})
        except (OSError, UnreadableHeader):
            return Rejected("a file that was sent cannot be read any more")

        def talk(association: Association, context: Context) -> Answer:
            found = self._look(association, context, series)
            return tell_found(question, ear, found) if isinstance(found, set) else found

        return self._asking.ask(destination, question, watch, talk)

    def _look(self, association: Association, context: Context, series: Iterable[tuple[str, str]]) -> set[str] | Answer:
        """The SOP Instance UIDs that the destination has of these series, or why it does not say."""
        found, number = set[str](), association.accepted[context]
        for message_id, (study, uid) in enumerate(series, 1):
            identifier = instances_of_series(study, uid, context.transfer_syntax)
            association.command(number, c_find_request(message_id & 0xFFFF, STUDY_ROOT), identifier)
            status = self._take_answers(association, message_id & 0xFFFF, context, found)
            said = judge(status)
            if isinstance(said, Rejected):
                return replace(said, reason=f"C-FIND refused: 0x{status:04X}")
            if status != 0x0000:
                return Retry(f"C-FIND refused: 0x{status:04X}", answered=True)
        return found

    def _take_answers(self, association: Association, message_id: int, context: Context, found: set[str]) -> int:
        """Take the answers to one request into ``found``; the final status."""
        for _ in range(MOST_ANSWERS):
            message = association.receive(time.monotonic() + self._timeouts.response, LONGEST_IDENTIFIER)
            if message.command.field != C_FIND_RSP or message.command.number(ANSWERS) != message_id:
                raise PeerError("the peer answered something that was not asked")
            status = message.command.number(STATUS)
            if status not in PENDING:
                return status
            found.add(found_instance(message.dataset, context.transfer_syntax))
        raise PeerError("the peer's answers to C-FIND do not end")
