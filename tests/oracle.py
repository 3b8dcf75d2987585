"""What a stream of PDUs on an established association must come to, by pynetdicom's own classes.

PDUs are decoded by pynetdicom's PDU classes, its table of the state machine says what each does to the association, and
its ``DIMSEMessage`` puts messages together. Where the box differs from pynetdicom on purpose there is a rule of its own
(``Difference``), each with its clause; without them (``strictly=False``) this is what stock pynetdicom makes of it.
"""

import struct
import warnings
from dataclasses import dataclass, field
from enum import Enum
from io import BytesIO

import pydicom
from pydicom.uid import UID
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dsutils import decode
from pynetdicom.dul import _PDU_TYPES
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from magickbox.association import End

ESTABLISHED = "Sta6"
STORE, ECHO, CANCEL = 0x0001, 0x0030, 0x0FFF
NOT_RECOGNIZED = 0x0211
MAX_DATA, MAX_REQUEST, MAX_OTHER, MAX_COMMAND = 256 * 1024, 1024 * 1024, 64 * 1024, 64 * 1024
_ENDS = {"AA-8": End.ABORTED, "AA-3": End.ABORTED, "AA-4": End.CLOSED, "AR-2": End.RELEASED}


class Difference(Enum):
    """Where the box and stock pynetdicom differ on purpose, and the clause that the box goes by."""

    INTERLEAVED = "PS3.8 Annex E.1: a message's fragments come in order, not mixed with others, in one context"
    NO_CONTEXT = "PS3.8 Annex E.1, 9.3.5.1: each fragment is in an accepted presentation context, a message's first too"
    DATA_FIRST = "PS3.7 6.3.1: a dataset follows the command that announces it"
    RELEASED_EARLY = "PS3.7 7.2: a release comes when no message is on its way; half an instance is not a good end"
    TWO_IN_ONE = "PS3.8 Annex E.2: what follows a message's last fragment in the same PDU is the next message"
    BAD_COMMAND = "PS3.7 6.3.1: a command set holds whole elements of group 0000, Command Field and Data Set Type too"
    RESPONSE = "PS3.7 6.3.1: nobody is sent a response who asked nothing"
    OTHER_SERVICE = "PS3.7 Annex C.5.17: an operation that is not known is answered with 0x0211, not with an abort"
    TOO_LONG = "PS3.8 Annex D.1: nothing is read that is far beyond the announced maximum length"


@dataclass(frozen=True)
class Answer:
    """A response: its command field, the raw message id, its status."""

    field: int
    message: bytes
    status: int


@dataclass(frozen=True)
class Asked:
    """A C-STORE request that is complete: what the command says, and the dataset's bytes."""

    sop_class: bytes
    sop_instance: bytes
    context: int
    dataset: bytes


@dataclass
class Outcome:
    """What came of a stream: what is stored (SOP Instance UID and dataset), the responses, the end."""

    stored: set[tuple[str, bytes]] = field(default_factory=set)
    answers: list[Answer] = field(default_factory=list)
    end: End = End.CLOSED


class _Aborted(Exception):
    """A rule of the standard is broken."""


class Oracle:
    """Interprets one stream; ``contexts`` are the accepted ones: SOP class and transfer syntax by id."""

    def __init__(self, contexts: dict[int, tuple[str, str]], strictly: bool = True) -> None:
        self.contexts, self.strictly = contexts, strictly
        self.outcome = Outcome()
        self._message = DIMSEMessage()
        self._begun_in: int | None = None
        self._command_is_whole = False
        self._length = 0

    def interpret(self, stream: bytes) -> Outcome:
        """All of it, and then the connection's end."""
        view, over = stream, False
        while not over:
            try:
                view, over = self._next(view)
            except _Aborted:
                self.outcome.end, over = End.ABORTED, True
        return self.outcome

    def _next(self, stream: bytes) -> tuple[bytes, bool]:
        """One PDU; what is left behind it, and whether the association is over."""
        if len(stream) < 6:
            return b"", self._act("Evt17")  # the connection's end
        kind, length = struct.unpack_from(">BxI", stream)
        if bytes((kind,)) not in _PDU_TYPES:
            return b"", self._act("Evt19")
        limit = {1: MAX_REQUEST, 4: MAX_DATA}.get(kind, MAX_OTHER)
        self._rule(length <= limit, Difference.TOO_LONG)
        raw, rest = stream[: 6 + length], stream[6 + length :]
        if len(raw) < 6 + length:
            return b"", self._act("Evt17")
        pdu_class, event = _PDU_TYPES[bytes((kind,))]
        if event == "Evt12":
            self._rule(self._begun_in is None, Difference.RELEASED_EARLY)
        pdu = pdu_class()
        try:
            pdu.decode(raw)
            pdu.to_primitive()
        except Exception:  # noqa: BLE001  # whatever its decoder raises
            return b"", self._act("Evt19")
        over = self._act(event)
        if not over:
            assert isinstance(pdu, P_DATA_TF)
            self._take(raw, pdu.to_primitive())
        return rest, over

    def _act(self, event: str) -> bool:
        """Let the state machine say what an event does; True if the association is over."""
        action = TRANSITION_TABLE[event, ESTABLISHED]
        if action in _ENDS:
            self.outcome.end = _ENDS[action]
        return action in _ENDS

    def _rule(self, kept: bool, rule: Difference) -> None:
        """A rule of the box; stock pynetdicom does not have it."""
        if self.strictly and not kept:
            raise _Aborted(rule)

    def _take(self, raw: bytes, data: P_DATA) -> None:
        values = data.presentation_data_value_list
        whole = P_DATA_TF(data).encode()  # what was decoded, coded again: damaged lengths show
        if whole[2:] != raw[2:] or not all(piece for _, piece in values):
            raise _Aborted  # PS3.8 9.3.5.1
        if not self.strictly:
            self._decode(values)
        else:
            for context, piece in values:
                self._check(context, piece)
                self._decode([(context, piece)])

    def _check(self, context: int, piece: bytes) -> None:
        """What the standard says of a fragment, in the state of the message."""
        is_command = bool(piece[0] & 1)
        self._rule(context in self.contexts, Difference.NO_CONTEXT)
        if is_command:
            self._rule(not self._command_is_whole, Difference.INTERLEAVED)
        else:
            self._rule(self._command_is_whole, Difference.DATA_FIRST)
        self._rule(self._begun_in in (None, context), Difference.INTERLEAVED)
        self._begun_in = context
        if is_command:
            self._length += len(piece) - 1
            self._rule(self._length <= MAX_COMMAND, Difference.BAD_COMMAND)
            if piece[0] & 2:
                self._command_is_whole = True
                self._check_command(self._message.encoded_command_set.getvalue() + piece[1:])

    def _check_command(self, raw: bytes) -> None:
        """A command set as it must be, so that pynetdicom reads it as it stands."""
        at, values = 0, dict[int, bytes]()
        while at < len(raw):
            self._rule(at + 8 <= len(raw), Difference.BAD_COMMAND)
            group, number, length = struct.unpack_from("<HHI", raw, at)
            at += 8 + length
            self._rule(at <= len(raw) and group == 0, Difference.BAD_COMMAND)
            values[number] = raw[at - length : at]
        for number in (0x0100, 0x0800):
            self._rule(len(values.get(number, b"")) == 2, Difference.BAD_COMMAND)
        command = int.from_bytes(values[0x0100], "little")
        self._rule(not command & 0x8000, Difference.RESPONSE)

    def _decode(self, values: list[tuple[int, bytes]]) -> None:
        data = P_DATA()
        data.presentation_data_value_list = []
        data.presentation_data_value_list.extend(values)  # as its own to_primitive does
        try:
            is_whole = self._message.decode_msg(data)
        except KeyError as exc:  # a command that pynetdicom does not know
            if not self.strictly:
                raise _Aborted from exc
            is_whole = self._message.command_set.CommandDataSetType == 0x0101
        except Exception as exc:
            raise _Aborted from exc
        if is_whole:
            message, self._message = self._message, DIMSEMessage()
            self._begun_in, self._command_is_whole, self._length = None, False, 0
            self._serve(message)

    def _serve(self, message: DIMSEMessage) -> None:
        """Store, and answer."""
        found = _elements(message)
        if len(found.get(0x0100, b"")) != 2 or message.context_id not in self.contexts:
            raise _Aborted
        command = int.from_bytes(found[0x0100], "little")
        identity = found.get(0x0110, b"\0\0")
        context = message.context_id
        if command & 0x8000:
            return  # stock pynetdicom: a warning
        if command == STORE:
            assert message.data_set is not None
            asked = Asked(
                found.get(0x0002, b"").rstrip(b"\0 "), found.get(0x1000, b"").rstrip(b"\0 "), context,
                message.data_set.getvalue(),
            )  # fmt: skip
            status = self.judge(asked)  # without a dataset: 0xC000, there is nothing in it
            if status == 0:
                self.outcome.stored.add((asked.sop_instance.decode(), asked.dataset))
            self.outcome.answers.append(Answer(STORE | 0x8000, identity, status))
        elif command == ECHO:
            self.outcome.answers.append(Answer(ECHO | 0x8000, identity, 0))
        elif command != CANCEL:
            self._other(command, identity)

    def _other(self, command: int, identity: bytes) -> None:
        if not self.strictly:
            raise _Aborted(Difference.OTHER_SERVICE)
        self.outcome.answers.append(Answer(command | 0x8000, identity, NOT_RECOGNIZED))

    def judge(self, asked: Asked) -> int:
        """The status that the contracts (section 2) give an instance, with pydicom to say what is in it."""
        sop_class, syntax = self.contexts[asked.context]
        if asked.sop_class != sop_class.encode():
            return 0xA900
        if not asked.sop_instance:
            return 0xC000
        coding = UID(syntax)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ds = pydicom.filereader.read_dataset(
                    BytesIO(asked.dataset), coding.is_implicit_VR, coding.is_little_endian
                )
                said = str(ds.get("SOPInstanceUID", "")), str(ds.get("SOPClassUID", ""))
                study = str(ds.get("StudyInstanceUID", ""))
            except Exception:  # noqa: BLE001  # whatever pydicom raises over what is no dataset
                return 0xC000
        if (said[0] and said[0].encode() != asked.sop_instance) or (said[1] and said[1] != sop_class):
            return 0xA900
        return 0 if said[0] and study else 0xC000


def _elements(message: DIMSEMessage) -> dict[int, bytes]:
    """The command set's raw values: what pynetdicom has turned into numbers and UIDs does not show every byte."""
    command = decode(BytesIO(message.encoded_command_set.getvalue()), True, True)
    return {int(tag) & 0xFFFF: command.get_item(tag).value or b"" for tag in list(command.keys())}
