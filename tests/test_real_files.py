"""Every DICOM file of pydicom, pydicom-data and pynetdicom: stored byte for byte, or refused as promised."""

import warnings
from pathlib import Path

import pydicom
import pytest
from callers import COMMAND, LAST, Caller, OpenPort, open_port, pdu, value

from magickbox.destination import Delivered
from magickbox.dicom.header import read_file_meta
from magickbox.dicom.part10 import IMPLEMENTATION_CLASS_UID
from magickbox.owncalls import OwnCalls
from magickbox.scp.connection import MAX_PDU
from magickbox.scu.command import c_store_request
from magickbox.scu.pdu import Context
from magickbox.scu.store import StoreSender, StoreSession
from magickbox.sender import Item

SITE = Path(pydicom.__file__).parent.parent
FILES = [
    path
    for folder in ("pydicom/data", "data_store", "pynetdicom")
    for path in sorted((SITE / folder).rglob("*"))
    if path.is_file() and path.read_bytes()[128:132] == b"DICM"
]
DEFLATED = "1.2.840.10008.1.2.1.99"


def items() -> list[Item]:
    """All that can be sent: a file must say its transfer syntax."""
    found = [item for item in map(item_of, FILES) if item.transfer_syntax]
    assert len(found) > 250
    return found


def item_of(path: Path) -> Item:
    with path.open("rb") as stream:
        meta = read_file_meta(stream)
    return Item(path, meta.sop_class, meta.sop_instance, meta.transfer_syntax)


def dataset_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(read_file_meta(stream).offset)
        return stream.read()


def expected_status(item: Item) -> int:
    """What the contracts say, with pydicom to say what is in the dataset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(item.path, force=True, stop_before_pixels=True)
        said = str(ds.get("SOPInstanceUID", "")), str(ds.get("SOPClassUID", ""))
    if not item.sop_instance:
        return 0xC000
    if (said[0] and said[0] != item.sop_instance) or (said[1] and said[1] != item.sop_class):
        return 0xA900
    return 0 if said[0] and ds.get("StudyInstanceUID") else 0xC000


def must_be_what_was_sent(port: OpenPort, item: Item, sent: bytes) -> None:
    association, instance = port.intake.instances[-1]
    stored = port.root / "incoming" / association.id / instance.file
    assert dataset_of(stored) == sent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = pydicom.filereader.read_file_meta_info(stored)
    assert meta.TransferSyntaxUID == item.transfer_syntax
    assert meta.MediaStorageSOPClassUID == item.sop_class
    assert meta.MediaStorageSOPInstanceUID == item.sop_instance
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert stored.stat().st_size == instance.size
    assert stored.stat().st_mode & 0o222 == 0


def must_be_all(port: OpenPort, statuses: list[int]) -> None:
    assert statuses.count(0) > 200
    assert len(port.reasons()) == statuses.count(0xC000)


def test_sent_by_the_box(tmp_path: Path) -> None:
    statuses: list[int] = []
    with open_port(tmp_path) as port:
        sender = StoreSender(OwnCalls())
        for item in items():
            session = sender.connect(port.destination(), [item], "job")
            assert isinstance(session, StoreSession)
            with session:
                result = session.send(item)
            statuses.append(0 if isinstance(result, Delivered) else (result.status or -1))
            assert statuses[-1] == expected_status(item), (item.path, result)
            if statuses[-1] == 0:
                sent = dataset_of(item.path)
                pad = b"\0" * (len(sent) % 2) if item.transfer_syntax == DEFLATED else b""
                must_be_what_was_sent(port, item, sent + pad)
        must_be_all(port, statuses)


@pytest.mark.parametrize("length", [16 * 1024, MAX_PDU])
def test_through_receiver_processes(tmp_path: Path, length: int) -> None:
    """PDUs of two lengths; each file on an association of its own, so that both processes have their share."""
    statuses: list[int] = []
    with open_port(tmp_path, receivers=2) as port:
        for count, item in enumerate(items(), 1):
            sent = dataset_of(item.path)
            statuses.append(store(port, item, sent, length - 6))
            assert statuses[-1] == expected_status(item), item.path
            port.wait_for_end(count)
            if statuses[-1] == 0:
                must_be_what_was_sent(port, item, sent)
        must_be_all(port, statuses)


def store(port: OpenPort, item: Item, dataset: bytes, room: int) -> int:
    """C-STORE in fragments that fill a PDU of that length; the status."""
    room -= 6
    with Caller(port.number, 30) as caller:
        caller.associate(Context(item.sop_class, item.transfer_syntax))
        caller.say(pdu(4, value(1, COMMAND | LAST, c_store_request(1, item.sop_class, item.sop_instance))))
        for at in range(0, max(len(dataset), 1), room):
            caller.say(pdu(4, value(1, LAST * (at + room >= len(dataset)), dataset[at : at + room])))
        status = caller.response().status
        caller.release()
    return status
