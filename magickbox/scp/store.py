"""C-STORE and C-ECHO as SCP: fragments go to disk as they come, and an answer leaves only when it is true.

It runs in the association's one thread, so that while an instance is written and fsynced nothing more is read: memory
does not grow, neither with the object nor with a peer that does not wait for answers. Messages for other services are
handed over whole, as long as each of them allows (``services``).
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

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
from magickbox.dicom.pdata import COMMAND, LAST, BadData, values
from magickbox.incoming.answer import CANNOT_UNDERSTAND, DISAGREES, OUT_OF_RESOURCES, SUCCESS, Stored
from magickbox.incoming.dataset import IncomingInstance
from magickbox.incoming.folder import AssociationFolder
from magickbox.scp.command import as_pdus, response
from magickbox.scp.service import Message, Service
from magickbox.scp.services import SERVICES
from magickbox.scp.wire import Wire
from magickbox.steps import Reached, Step

if TYPE_CHECKING:
    from magickbox.intake import Intake

MAX_COMMAND = 64 * 1024
_UNRECOGNIZED = 0x0211  # unrecognized operation (PS3.7 Annex C.5.17)


class StoreProvider:
    """The services of one association. ``busy`` is True between a command and its answer.

    ``send`` sends bytes to the peer, ``abort`` ends the association and is told why.
    """

    def __init__(
        self, wire: Wire, send: Callable[[bytes], None], abort: Callable[[str], None], reached: Reached
    ) -> None:
        self._wire, self._send, self._abort_connection = wire, send, abort
        self._reached = reached
        self._intake: Intake | None = None
        self._folder: AssociationFolder | None = None
        self._sop_classes: dict[int, str] = {}
        self._command = bytearray()
        self._command_context = 0  # 0: no command has begun; no context has this id
        self._request: tuple[int, Command] | None = None
        self._incoming: IncomingInstance | None = None
        self._dataset = bytearray()
        self._over = False
        self._syntaxes: dict[int, str] = {}
        self._max_pdu = 0

    def serve(self, intake: "Intake", folder: AssociationFolder, sop_classes: dict[int, str]) -> None:
        """Begin: the association was admitted; ``sop_classes`` are those of its contexts, as they were proposed."""
        self._intake, self._folder, self._sop_classes = intake, folder, sop_classes

    def accepted(self, syntaxes: dict[int, str], max_pdu: int) -> None:
        """The transfer syntax of each context that was accepted, and the longest PDU the peer takes (0: any)."""
        self._syntaxes, self._max_pdu = syntaxes, max_pdu

    @property
    def busy(self) -> bool:
        """True if a message has begun that is not yet answered."""
        return self._request is not None or self._command_context != 0

    def drop(self) -> None:
        """The association is over: what is half received goes away."""
        self._over = True
        if self._incoming is not None:
            self._incoming.drop()
            self._incoming = None

    def take_data(self, view: memoryview, at: int, end: int) -> None:
        """The body of a P-DATA-TF: any number of fragments of commands and datasets (PS3.8 Annex E.2)."""
        try:
            found = values(view, at, end)
        except BadData as exc:
            self._abort(str(exc))
            return
        for context_id, control, begin, finish in found:
            if self._over:
                return
            if context_id not in self._syntaxes:
                self._abort("a fragment for a presentation context that was not accepted")
            elif control & COMMAND:
                self._take_command(context_id, control, view[begin:finish])
            else:
                self._take_dataset(context_id, control, view[begin:finish])

    def release_data(self) -> None:
        """What was taken will be overwritten: write it away."""
        self._wire.lent = False
        if self._incoming is not None:
            self._incoming.release()

    def _take_command(self, context_id: int, control: int, piece: memoryview) -> None:
        if self._request is not None or self._command_context not in (0, context_id):
            self._abort("a command in the middle of another message")
            return
        self._command += piece
        self._command_context = context_id
        if len(self._command) > MAX_COMMAND:
            self._abort(f"a command set of more than {MAX_COMMAND} bytes")
        elif control & LAST:
            raw, self._command, self._command_context = bytes(self._command), bytearray(), 0
            try:
                self._begin(context_id, read_command(raw))
            except BadCommand as exc:
                self._abort(str(exc))

    def _begin(self, context_id: int, command: Command) -> None:
        if command.field == C_STORE_RQ and self._service(context_id) is None:
            self._begin_store(context_id, command)
        elif command.field & RESPONSE:
            self._abort(f"a response (0x{command.field:04X}) to what was never asked")
        elif command.has_dataset:
            self._request = (context_id, command)
        else:
            self._serve_other(context_id, command)

    def _answer_other(self, context_id: int, command: Command) -> None:
        """C-ECHO; a C-CANCEL comes too late and has no answer (PS3.7 9.3.2.3); other services are not here."""
        if command.field == C_ECHO_RQ:
            self._answer(context_id, command, C_ECHO_RSP, SUCCESS)
        elif command.field != C_CANCEL_RQ:
            self._answer(context_id, command, command.field | RESPONSE, _UNRECOGNIZED, "not a service of this box")

    def _service(self, context_id: int) -> Service | None:
        return SERVICES.get(self._sop_classes.get(context_id, ""))

    def _serve_other(self, context_id: int, command: Command) -> None:
        """Let the service of the presentation context answer; what it does not answer is refused."""
        service, dataset, self._dataset = self._service(context_id), bytes(self._dataset), bytearray()
        if service is None or command.field not in service.fields:
            self._answer_other(context_id, command)
            return
        assert self._folder is not None
        assert self._intake is not None
        message = Message(command, dataset, self._syntaxes[context_id])
        for said in service.answer(message, self._folder.association, self._intake):
            answer = response(command, command.field | RESPONSE, said.status, said.comment, dataset=bool(said.dataset))
            self._say(as_pdus(answer, context_id, self._max_pdu))
            self._say(as_pdus(said.dataset, context_id, self._max_pdu, command=False))

    def _keep(self, context_id: int, command: Command, piece: memoryview) -> None:
        """Keep a piece of the dataset that a service is to have; of what nobody wants nothing is kept."""
        service = self._service(context_id)
        if service is None or command.field not in service.fields:
            return
        self._dataset += piece
        if len(self._dataset) > service.longest:
            self._abort(f"a dataset of more than {service.longest} bytes for a service")

    def _begin_store(self, context_id: int, command: Command) -> None:
        assert self._folder is not None
        assert self._intake is not None
        if not command.has_dataset:
            self._finish_store(
                context_id, command, Stored(CANNOT_UNDERSTAND, "the command says that no dataset follows")
            )
            return
        self._request = (context_id, command)
        self._incoming = self._folder.begin(command.sop_class, command.sop_instance, self._syntaxes[context_id])
        if not self._intake.has_room():
            self._incoming.refuse(OUT_OF_RESOURCES, "the disk is below its free-space mark")
        elif command.sop_class != self._sop_classes[context_id]:
            why = f"SOP class {command.sop_class} is not that of the presentation context"
            self._incoming.refuse(DISAGREES, why)

    def _take_dataset(self, context_id: int, control: int, piece: memoryview) -> None:
        if self._request is None or self._request[0] != context_id:
            self._abort("a dataset without a command, or of another presentation context")
            return
        if self._incoming is not None:
            self._incoming.write(piece)
            self._wire.lent = True
        else:
            self._keep(context_id, self._request[1], piece)
        if control & LAST:
            self._take_end(context_id, self._request[1])

    def _take_end(self, context_id: int, command: Command) -> None:
        if self._incoming is None:
            self._serve_other(context_id, command)
            self._request = None
        else:
            incoming, self._incoming = self._incoming, None
            stored = incoming.commit()
            self._wire.lent = False
            self._finish_store(context_id, command, stored)

    def _finish_store(self, context_id: int, command: Command, stored: Stored) -> None:
        """Step 4: answer, then report."""
        assert self._intake is not None
        assert self._folder is not None
        pause = self._intake.pause()
        if pause > 0:
            time.sleep(pause)
        self._answer(context_id, command, C_STORE_RSP, stored.status, stored.why)
        self._request = None
        if stored.instance is not None:
            self._intake.stored(self._folder.association, stored.instance)
            self._reached(Step.REPORTED)
            self._folder.prepare()
        else:
            self._intake.refused(self._folder.association, command.sop_instance, stored.status, stored.why)

    def _answer(self, context_id: int, command: Command, field: int, status: int, comment: str = "") -> None:
        """Send a response at once, from this thread; a socket that fails ends the association by itself."""
        self._say(as_pdus(response(command, field, status, comment), context_id, self._max_pdu))

    def _say(self, pdus: Iterator[bytes]) -> None:
        for pdu in pdus:
            self._send(pdu)

    def _abort(self, why: str) -> None:
        """End the association as the standard has it for an unexpected PDU (PS3.8 9.2.3, AA-8)."""
        self.drop()
        self._abort_connection(why)
