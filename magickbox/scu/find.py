"""C-FIND as SCU: looks whether a destination shows every instance that it was sent (PS3.4 Annex C, PS3.7 9.1.2).

For each series it asks for the SOP Instance UIDs at the level IMAGE of the Study Root, which every archive answers. An
archive files what it takes some time later, so what is not there yet is looked for again as long as ``within`` says.
"""

import time
from collections.abc import Iterable
from dataclasses import replace

from magickbox.destination import Destination, DicomDestination, Rejected, Retry, judge
from magickbox.dicom.commandset import ANSWERS, C_FIND_RSP, STATUS
from magickbox.dicom.commitment import SYNTAXES
from magickbox.dicom.find import LONGEST_IDENTIFIER, STUDY_ROOT, found_instance, instances_of_series
from magickbox.dicom.header import identify, read_file_meta
from magickbox.errors import PeerError, UnreadableHeader
from magickbox.owncalls import OwnCalls
from magickbox.proof import Reference, Report
from magickbox.prover import Answer, Ear, Question, Watch
from magickbox.scu.associate import associate
from magickbox.scu.command import c_find_request
from magickbox.scu.pdu import Context
from magickbox.scu.upperlayer import Association, Registry, Timeouts

CONTEXTS = tuple(Context(STUDY_ROOT, syntax) for syntax in SYNTAXES)
PENDING = frozenset({0xFF00, 0xFF01})
MOST_ANSWERS = 1_000_000


class FindProver:
    """Asks by C-FIND; implements ``prover``."""

    def __init__(self, own_calls: OwnCalls, timeouts: Timeouts | None = None) -> None:
        self._own_calls = own_calls
        self._timeouts = timeouts or Timeouts()

    def ask(self, destination: Destination, question: Question, ear: Ear, watch: Watch) -> Answer:
        """Look for every instance; what is lacking is told when its time is up."""
        assert isinstance(destination, DicomDestination)
        registry = Registry(lambda address: self._own_calls.opened(address, question.job), self._own_calls.closed)
        try:
            series = {_series_of(each) for each in question.instances}
        except (OSError, UnreadableHeader):
            return Rejected("a file that was sent cannot be read any more")
        association = associate(destination, CONTEXTS, self._timeouts, registry)
        if isinstance(association, Retry):
            return association
        watch(association)
        try:
            context = next((each for each in CONTEXTS if each in association.accepted), None)
            if context is None:
                return Rejected(f"no C-FIND: {association.refused[CONTEXTS[0]]}")
            return self._tell(question, ear, self._look(association, context, sorted(series)))
        except (PeerError, UnreadableHeader) as exc:
            association.abort()
            return Retry(str(exc), answered=True)
        finally:
            watch(None)
            association.release()

    def _tell(self, question: Question, ear: Ear, found: set[str] | Answer) -> Answer:
        if not isinstance(found, set):
            return found
        wanted = [each.sop_instance for each in question.instances]
        lacking = sum(uid not in found for uid in wanted)
        if lacking and question.age < question.verify.within:
            return Retry(f"{lacking} of {len(wanted)} instances not yet found by C-FIND", answered=True)
        ear.report(Report(question.uid, tuple(uid for uid in wanted if uid in found)))
        return None

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


def _series_of(instance: Reference) -> tuple[str, str]:
    """The study and the series of an instance that was sent."""
    with instance.path.open("rb") as stream:
        meta = read_file_meta(stream)
        stream.seek(meta.offset)
        identity = identify(stream, meta.transfer_syntax)
        return identity.study, identity.series
