"""C-STORE and C-ECHO as SCP: fragments go to disk as they come, and an answer leaves only when it is true.

This takes the place of pynetdicom's DIMSE provider on the box's associations. It runs in the association's one
thread, so that while an instance is written and fsynced nothing more is read: memory does not grow, neither with the
object nor with a peer that does not wait for answers. Other services are refused; one to come has its branch in
``_begin``.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pynetdicom.association import Association as Connection
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from magickbox.dicom.commandset import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_ECHO_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
    RESPONSE,
    BadCommand,
    Command,
    read_command,
)
from magickbox.incoming.folder import (
    CANNOT_UNDERSTAND,
    DISAGREES,
    OUT_OF_RESOURCES,
    SUCCESS,
    AssociationFolder,
    IncomingInstance,
    Stored,
)
from magickbox.scp.command import as_pdus, response
from magickbox.steps import Reached, Step

if TYPE_CHECKING:
    from magickbox.intake import Intake

MAX_COMMAND = 64 * 1024
_UNRECOGNIZED = 0x0211  # unrecognized operation (PS3.7 Annex C.5.17)


class StoreProvider(DIMSEServiceProvider):
    """The DIMSE provider of one association. ``busy`` is True between a command and its answer."""

    def __init__(self, connection: Connection, abort: Callable[[str], None], reached: Reached) -> None:
        super().__init__(connection)
        self._abort_connection = abort
        self._reached = reached
        self._intake: Intake | None = None
        self._folder: AssociationFolder | None = None
        self._sop_classes: dict[int, str] = {}
        self._command = bytearray()
        self._command_context = 0
        self._request: tuple[int, Command] | None = None
        self._incoming: IncomingInstance | None = None
        self._over = False

    def serve(self, intake: "Intake", folder: AssociationFolder, sop_classes: dict[int, str]) -> None:
        """Begin: the association was admitted; ``sop_classes`` are those of its contexts, as they were proposed."""
        self._intake, self._folder, self._sop_classes = intake, folder, sop_classes

    @property
    def busy(self) -> bool:
        """True if a message has begun that is not yet answered."""
        return self._request is not None or bool(self._command)

    def drop(self) -> None:
        """The association is over: what is half received goes away."""
        self._over = True
        if self._incoming is not None:
            self._incoming.drop()
            self._incoming = None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA indication: any number of fragments of commands and datasets (PS3.8 Annex E.2)."""
        for context_id, value in primitive.presentation_data_value_list:
            if self._over:
                return
            if not value or context_id not in self.assoc._accepted_cx:
                self._abort("a fragment for a presentation context that was not accepted")
            elif value[0] & 1:
                self._take_command(context_id, value)
            else:
                self._take_dataset(context_id, value)

    def _take_command(self, context_id: int, value: bytes) -> None:
        if self._request is not None or (self._command and context_id != self._command_context):
            self._abort("a command in the middle of another message")
            return
        self._command += memoryview(value)[1:]
        self._command_context = context_id
        if len(self._command) > MAX_COMMAND:
            self._abort(f"a command set of more than {MAX_COMMAND} bytes")
        elif value[0] & 2:
            raw, self._command = bytes(self._command), bytearray()
            try:
                self._begin(context_id, read_command(raw))
            except BadCommand as exc:
                self._abort(str(exc))

    def _begin(self, context_id: int, command: Command) -> None:
        if command.field == C_STORE_RQ:
            self._begin_store(context_id, command)
        elif command.field & RESPONSE:
            self._abort(f"a response (0x{command.field:04X}) to what was never asked")
        elif command.has_dataset:
            self._request = (context_id, command)
        else:
            self._answer_other(context_id, command)

    def _answer_other(self, context_id: int, command: Command) -> None:
        """C-ECHO; a C-CANCEL comes too late and has no answer (PS3.7 9.3.2.3); other services are not here."""
        if command.field == C_ECHO_RQ:
            self._answer(context_id, command, C_ECHO_RSP, SUCCESS)
        elif command.field != C_CANCEL_RQ:
            self._answer(context_id, command, command.field | RESPONSE, _UNRECOGNIZED, "not a service of this box")

    def _begin_store(self, context_id: int, command: Command) -> None:
        syntax = str(self.assoc._accepted_cx[context_id].transfer_syntax[0])
        assert self._folder is not None
        assert self._intake is not None
        if not command.has_dataset:
            self._finish_store(
                context_id, command, Stored(CANNOT_UNDERSTAND, "the command says that no dataset follows")
            )
            return
        self._request = (context_id, command)
        self._incoming = self._folder.begin(command.sop_class, command.sop_instance, syntax)
        if not self._intake.has_room():
            self._incoming.refuse(OUT_OF_RESOURCES, "the disk is below its free-space mark")
        elif command.sop_class != self._sop_classes[context_id]:
            why = f"SOP class {command.sop_class} is not that of the presentation context"
            self._incoming.refuse(DISAGREES, why)

    def _take_dataset(self, context_id: int, value: bytes) -> None:
        if self._request is None or self._request[0] != context_id:
            self._abort("a dataset without a command, or of another presentation context")
            return
        if self._incoming is not None:
            self._incoming.write(memoryview(value)[1:])
        if value[0] & 2:
            self._take_end(context_id, self._request[1])

    def _take_end(self, context_id: int, command: Command) -> None:
        if self._incoming is None:
            self._request = None
            self._answer_other(context_id, command)
        else:
            incoming, self._incoming = self._incoming, None
            self._finish_store(context_id, command, incoming.commit())

    def _finish_store(self, context_id: int, command: Command, stored: Stored) -> None:
        """Step 4: answer, then report."""
        assert self._intake is not None
        assert self._folder is not None
        self._answer(context_id, command, C_STORE_RSP, stored.status, stored.why)
        self._request = None
        if stored.instance is not None:
            self._intake.stored(self._folder.association, stored.instance)
            self._reached(Step.REPORTED)
        else:
            self._intake.refused(self._folder.association, command.sop_instance, stored.status, stored.why)

    def _answer(self, context_id: int, command: Command, field: int, status: int, comment: str = "") -> None:
        """Send a response at once, from this thread; a socket that fails ends the association by itself."""
        for pdu in as_pdus(response(command, field, status, comment), context_id, self.maximum_pdu_size):
            if self.dul.socket is not None:
                self.dul.socket.send(pdu)

    def _abort(self, why: str) -> None:
        """End the association as the standard has it for an unexpected PDU (PS3.8 9.2.3, AA-8)."""
        self.drop()
        self._abort_connection(why)
