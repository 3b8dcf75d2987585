"""The responses of the receiver, and how they become PDUs (PS3.7 9.3.1.2, 9.3.5.2; PS3.8 9.3.5)."""

import struct
from collections.abc import Iterator

from magickbox.dicom import commandset as c

MAX_COMMENT = 64


def response(request: c.Command, field: int, status: int, comment: str = "", *, dataset: bool = False) -> bytes:
    """The command set that answers ``request``: C-STORE-RSP, C-ECHO-RSP or that of another service.

    ``dataset`` says that one follows it.
    """
    body = [
        c.element(c.SOP_CLASS, request.values.get(c.SOP_CLASS, b"")),
        c.number(c.COMMAND, field),
        c.element(c.ANSWERS, request.values.get(c.MESSAGE_ID, b"\0\0")),
        c.number(c.DATASET_TYPE, c.DATASET if dataset else c.NO_DATASET),
        c.number(c.STATUS, status),
    ]
    if comment:
        body.append(c.element(c.COMMENT, comment.encode("ascii", "replace")[:MAX_COMMENT], b" "))
    if field in (c.C_STORE_RSP, c.N_EVENT_REPORT_RSP):
        body.append(c.element(c.SOP_INSTANCE, request.values.get(c.SOP_INSTANCE, b"")))
    if field == c.N_EVENT_REPORT_RSP:
        body.append(c.element(c.EVENT_TYPE, request.values.get(c.EVENT_TYPE, b"")))
    return c.whole(b"".join(body))


def as_pdus(data: bytes, context_id: int, max_pdu: int, *, command: bool = True) -> Iterator[bytes]:
    """A command set, or a dataset, as P-DATA-TF PDUs that the peer's maximum length (0: no limit) allows."""
    room = max(max_pdu - 6, 64) if max_pdu else max(len(data), 1)
    for at in range(0, len(data), room):
        piece = data[at : at + room]
        control = int(command) | (0x02 if at + room >= len(data) else 0)
        yield struct.pack(">BBIIBB", 4, 0, len(piece) + 6, len(piece) + 2, context_id, control) + piece
