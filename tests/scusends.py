"""Sends over the SCU, for its tests."""

from pathlib import Path

import peers
from peers import QUICK

from magickbox.destination import DicomDestination, Result
from magickbox.dicom.part10 import file_header
from magickbox.owncalls import OwnCalls
from magickbox.scu.store import StoreSender, StoreSession
from magickbox.scu.upperlayer import Timeouts
from magickbox.sender import Item

CT = peers.item_of(peers.sample("CT_small.dcm"))
PLAN = peers.item_of(peers.sample("rtplan.dcm"))
HASTY = Timeouts(connect=1.0, associate=0.2, response=0.2, write=0.5)


def connect(
    destination: DicomDestination, items: list[Item], timeouts: Timeouts = QUICK, own: OwnCalls | None = None
) -> StoreSession:
    """A session that has to come about."""
    session = StoreSender(own or OwnCalls(), timeouts).connect(destination, items, "job")
    assert isinstance(session, StoreSession), session
    return session


def send_all(destination: DicomDestination, items: list[Item], timeouts: Timeouts = QUICK) -> list[Result]:
    """What comes of each item over one association."""
    with connect(destination, items, timeouts) as session:
        return [session.send(item) for item in items]


def made(folder: Path, sop_class: str, syntax: str, uid: str, dataset: bytes) -> Item:
    """A file that says these things of itself."""
    path = folder / "made.dcm"
    path.write_bytes(file_header(sop_class, uid, syntax) + dataset)
    return Item(path, sop_class, uid, syntax)
