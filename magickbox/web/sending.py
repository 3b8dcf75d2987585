"""Sends uploaded files to the box's own port by C-STORE, as any sender does."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from magickbox.destination import Delivered, DicomDestination, Rejected, Result, Retry
from magickbox.dicom.header import identify, read_file_meta
from magickbox.errors import UnreadableHeader
from magickbox.owncalls import OwnCalls
from magickbox.scu.store import StoreSender
from magickbox.sender import Item

_TRIES = 5
_PAUSE = 1.0
_DICOMDIR = "1.2.840.10008.1.3.10"


class NotDicom(Exception):
    """Why a file is nothing to send."""


@dataclass(frozen=True)
class Target:
    """The box's own port, who calls, and whom."""

    host: str
    port: int
    calling_ae: str
    called_ae: str


def look_at(path: Path) -> Item:
    """What a file is; raises NotDicom."""
    try:
        with path.open("rb") as stream:
            meta = read_file_meta(stream)
            if meta.sop_class == _DICOMDIR:
                raise NotDicom("a DICOMDIR is the listing of a medium and not sent")
            stream.seek(meta.offset)
            identity = identify(stream, meta.transfer_syntax)
    except UnreadableHeader as exc:
        raise NotDicom(str(exc)) from None
    sop_class, uid = identity.sop_class or meta.sop_class, identity.sop_instance or meta.sop_instance
    if not (sop_class and uid and meta.transfer_syntax):
        raise NotDicom("it does not say which SOP class, instance and transfer syntax it is")
    return Item(path, sop_class, uid, meta.transfer_syntax)


def send_all(
    target: Target, items: Sequence[Item], told: Callable[[Item, str], None], is_over: Callable[[], bool]
) -> None:
    """Send them; ``told`` hears of each what came of it, the empty text if it was stored. ``is_over`` ends it."""
    sender = StoreSender(OwnCalls())
    destination = DicomDestination(target.host, target.port, target.calling_ae, target.called_ae)
    for group in sender.split(destination, items):
        _send_group(sender, destination, list(group), told, is_over)


def _send_group(
    sender: StoreSender, destination: DicomDestination, left: list[Item],
    told: Callable[[Item, str], None], is_over: Callable[[], bool],
) -> None:  # fmt: skip
    why, tries = "", 0
    while left and tries < _TRIES and not is_over():
        before = len(left)
        why = _one_session(sender, destination, left, told, is_over)
        tries = 0 if len(left) < before else tries + 1
        if left and tries < _TRIES and not is_over():
            time.sleep(_PAUSE)
    for item in left:
        told(item, f"not sent: {why or 'the upload was ended'}")


def _one_session(
    sender: StoreSender, destination: DicomDestination, left: list[Item],
    told: Callable[[Item, str], None], is_over: Callable[[], bool],
) -> str:  # fmt: skip
    """Send as much as goes over one association, taking it off ``left``; returns why there is more."""
    session = sender.connect(destination, left, "upload")
    if isinstance(session, Retry):
        return session.reason
    with session:
        while left and not is_over():
            result: Result = session.send(left[0])
            if isinstance(result, Retry):
                return result.reason
            item = left.pop(0)
            assert isinstance(result, Delivered | Rejected)
            told(item, "" if isinstance(result, Delivered) else result.reason)
    return ""
