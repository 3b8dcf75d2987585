"""What a server's answer to a Store transaction says of one instance (PS3.18 10.5.3): pure.

A status that all is well counts only with a Store Instances Response: a login page says 200 as well.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from magickbox.destination import Delivered, Rejected, Result, Retry, judge
from magickbox.dicomweb.nativexml import NotNativeDicom, read_native_dicom

FAILED, REFERENCED, OTHER_FAILURES = "00081198", "00081199", "0008119A"
INSTANCE, FAILURE_REASON, WARNING_REASON = "00081155", "00081197", "00081196"

_WITH_RESPONSE = (200, 202, 409)  # PS3.18 Table 10.5.3-1
# What lies in the instance, so that another try is of no use; all else is mended by somebody or by time.
_FOR_GOOD = {400: "it takes this for malformed", 413: "too large for it", 415: "not supported by it",
             422: "it cannot process it"}  # fmt: skip
_WORDS = {
    401: "it does not accept the credentials",
    403: "the credentials do not allow this",
    404: "there is no such service: is the URL right?",
    405: "there is no such service: is the URL right?",
    507: "it has no room",
}


@dataclass(frozen=True)
class Answer:
    """A response: ``body`` is whole unless ``cut_off``; ``after`` are the seconds that it asks to wait, if it does."""

    status: int
    body: bytes = b""
    cut_off: bool = False
    location: str = ""
    after: float | None = None


def judge_answer(answer: Answer, sop_instance: str) -> Result:
    """What became of the one instance that was sent; a Retry without a DICOM status concerns all that would follow."""
    if answer.status in _WITH_RESPONSE:
        return _judge_response(answer, sop_instance)
    said = _said(answer.status)
    if answer.status in _FOR_GOOD:
        return Rejected(f"{said}: {_FOR_GOOD[answer.status]}")
    if 300 <= answer.status < 400:
        where = _host_of(answer.location)
        return Retry(f"{said}: it redirects to {where}, which is not followed; the URL should be mended", answered=True)
    words = f": {_WORDS[answer.status]}" if answer.status in _WORDS else ""
    wait = f", it asks to wait {answer.after:.0f} s" if answer.after is not None else ""
    return Retry(f"{said}{words}{wait}", answered=True, after=answer.after)


def _judge_response(answer: Answer, sop_instance: str) -> Result:
    said = _said(answer.status)
    response = None if answer.cut_off else _read(answer.body)
    if response is None:
        if answer.status == 409:
            return Rejected(f"{said}, without a reason that can be read")
        what = "an answer that is far too long" if answer.cut_off else "no Store Instances Response"
        return Retry(f"{said} with {what}: is there a DICOMweb service at this URL?", answered=True)
    failed, stored = _items(response, FAILED), _items(response, REFERENCED)
    for item in failed:
        if text_in(item, INSTANCE) == sop_instance or not stored:
            return _judge_failure(item, said)
    if not stored:
        others = _items(response, OTHER_FAILURES)
        if others:
            return _judge_failure(others[0], said)
        return Retry(f"{said}, and nothing about the instance", answered=True)
    ours = next((item for item in stored if text_in(item, INSTANCE) == sop_instance), stored[0])
    warning = _number(ours, WARNING_REASON)
    return Delivered(warning, f"0x{warning:04X}") if warning else Delivered()


def _judge_failure(item: dict[str, Any], said: str) -> Result:
    """By the reason of the failure, with the words of C-STORE, which these codes are taken from."""
    code = _number(item, FAILURE_REASON)
    if not code:
        return Rejected(f"{said}: it failed without a reason")
    result = judge(code)
    if isinstance(result, Delivered):
        return Retry(f"{said}: a failure with the reason of a warning, 0x{code:04X}", code, answered=True)
    return result


def _said(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _host_of(location: str) -> str:
    """The host of a URL, and no more of it: the rest is a stranger's text."""
    try:
        host = urlsplit(location).hostname or "another place"
    except ValueError:
        return "another place"
    return host if host.isascii() and host.isprintable() and len(host) <= 100 else "another place"


def _read(body: bytes) -> dict[str, Any] | None:
    """A Store Instances Response in the DICOM JSON Model or as Native DICOM XML (PS3.18 F, PS3.19 A.1)."""
    try:
        told = read_native_dicom(body) if body.lstrip()[:1] == b"<" else json.loads(body)
    except (NotNativeDicom, ValueError, RecursionError):
        return None
    if isinstance(told, list) and len(told) == 1:
        told = told[0]
    is_response = isinstance(told, dict) and any(tag in told for tag in (FAILED, REFERENCED, OTHER_FAILURES))
    return told if is_response else None


def _values(item: dict[str, Any], tag: str) -> list[Any]:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _items(item: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return [value for value in _values(item, tag) if isinstance(value, dict)]


def text_in(item: dict[str, Any], tag: str) -> str:
    """The first value of an element, empty if it has none or it is no text."""
    values = _values(item, tag)
    return values[0].strip(" \0") if values and isinstance(values[0], str) else ""


def _number(item: dict[str, Any], tag: str) -> int | None:
    """A status, 16 bits; some servers write it as a text."""
    values = _values(item, tag)
    try:
        number = int(values[0]) if values and isinstance(values[0], int | str) else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number <= 0xFFFF else None
