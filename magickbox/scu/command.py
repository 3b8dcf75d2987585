"""The requests of the sender, and the responses to them (PS3.7 9.3.1, 9.3.5)."""

from dataclasses import dataclass
from functools import lru_cache

from magickbox.dicom import commandset as c
from magickbox.scu.pdu import MalformedPdu

_MEDIUM = 0x0000
_MAX_COMMENT = 64
_AFTER_THE_ID = c.number(c.PRIORITY, _MEDIUM) + c.number(c.DATASET_TYPE, c.DATASET)


@dataclass(frozen=True)
class Response:
    """What a peer answered; ``comment`` is its own text and may name anybody, so it is for the eyes, not for logs."""

    field: int
    answers: int
    status: int
    comment: str
    has_dataset: bool


def c_store_request(message_id: int, sop_class: str, sop_instance: str) -> bytes:
    """A C-STORE-RQ command set (PS3.7 Table 9.3-1)."""
    return c.whole(
        _before_the_id(sop_class)
        + c.number(c.MESSAGE_ID, message_id)
        + _AFTER_THE_ID
        + c.uid(c.SOP_INSTANCE, sop_instance)
    )


@lru_cache
def _before_the_id(sop_class: str) -> bytes:
    """What is the same in all requests of a series."""
    return c.uid(c.SOP_CLASS, sop_class) + c.number(c.COMMAND, c.C_STORE_RQ)


def c_echo_request(message_id: int, sop_class: str) -> bytes:
    """A C-ECHO-RQ command set (PS3.7 Table 9.3-12)."""
    return c.whole(
        c.uid(c.SOP_CLASS, sop_class)
        + c.number(c.COMMAND, c.C_ECHO_RQ)
        + c.number(c.MESSAGE_ID, message_id)
        + c.number(c.DATASET_TYPE, c.NO_DATASET)
    )


def c_find_request(message_id: int, sop_class: str) -> bytes:
    """A C-FIND-RQ command set, whose identifier follows (PS3.7 Table 9.3-3)."""
    return c.whole(
        c.uid(c.SOP_CLASS, sop_class)
        + c.number(c.COMMAND, c.C_FIND_RQ)
        + c.number(c.MESSAGE_ID, message_id)
        + c.number(c.PRIORITY, _MEDIUM)
        + c.number(c.DATASET_TYPE, c.DATASET)
    )


def n_action_request(message_id: int, sop_class: str, sop_instance: str, action_type: int) -> bytes:
    """An N-ACTION-RQ command set, whose dataset follows (PS3.7 Table 10.3-7)."""
    return c.whole(
        c.uid(c.REQUESTED_CLASS, sop_class)
        + c.number(c.COMMAND, c.N_ACTION_RQ)
        + c.number(c.MESSAGE_ID, message_id)
        + c.number(c.DATASET_TYPE, c.DATASET)
        + c.uid(c.REQUESTED_INSTANCE, sop_instance)
        + c.number(c.ACTION_TYPE, action_type)
    )


def n_event_report_response(request: c.Command, status: int) -> bytes:
    """The N-EVENT-REPORT-RSP to a request, without a dataset (PS3.7 Table 10.3-2)."""
    return c.whole(
        c.element(c.SOP_CLASS, request.values.get(c.SOP_CLASS, b""))
        + c.number(c.COMMAND, c.N_EVENT_REPORT_RSP)
        + c.element(c.ANSWERS, request.values.get(c.MESSAGE_ID, b"\0\0"))
        + c.number(c.DATASET_TYPE, c.NO_DATASET)
        + c.number(c.STATUS, status)
        + c.element(c.SOP_INSTANCE, request.values.get(c.SOP_INSTANCE, b""))
        + c.element(c.EVENT_TYPE, request.values.get(c.EVENT_TYPE, b""))
    )


def read_response(data: bytes) -> Response:
    """Read a response's command set; raises MalformedPdu if what makes it a response is missing."""
    try:
        return response_of(c.read_command(data))
    except c.BadCommand as exc:
        raise MalformedPdu(f"its response cannot be read: {exc}") from None


def response_of(found: c.Command) -> Response:
    """A command set as a response; raises MalformedPdu if what makes it one is missing."""
    try:
        return Response(
            found.field,
            found.number(c.ANSWERS),
            found.number(c.STATUS),
            _comment(found.values[c.COMMENT]) if c.COMMENT in found.values else "",
            c.DATASET_TYPE in found.values and found.has_dataset,
        )
    except c.BadCommand as exc:
        raise MalformedPdu(f"its response cannot be read: {exc}") from None


def _comment(raw: bytes) -> str:
    letters = raw.decode("latin-1").strip("\0 ")
    return "".join(letter if letter.isprintable() else "?" for letter in letters)[:_MAX_COMMENT]
