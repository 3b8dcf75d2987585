"""A PACS that knows storage commitment, of pynetdicom: stores, and answers as a test says; and calls that report."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from magickbox.dicom.commitment import INSTANCE, SOP_CLASS
from magickbox.dicom.find import STUDY_ROOT

MR, CT, ECHO = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"


def report_of(transaction: str, committed: Iterable[str], failed: dict[str, int] | None = None) -> Dataset:
    """The dataset of an N-EVENT-REPORT."""
    ds = Dataset()
    ds.TransactionUID = transaction
    ds.ReferencedSOPSequence = [_named(uid) for uid in committed]
    if failed:
        ds.FailedSOPSequence = [_named(uid, reason) for uid, reason in failed.items()]
    return ds


def _named(uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = MR, uid
    if reason is not None:
        item.FailureReason = reason
    return item


def call(
    port: int, report: Dataset, event: int | None = None, *, calling: str = "PACS", called: str = "BOX"
) -> int | None:
    """Report to a box's port as a new association; the status that it answered, None if none came."""
    ae = AE(calling)
    ae.add_requested_context(SOP_CLASS)
    role = build_role(SOP_CLASS, scp_role=True)
    association = ae.associate("127.0.0.1", port, ae_title=called, ext_neg=[role])
    if not association.is_established:
        return None
    kind = event or (2 if "FailedSOPSequence" in report else 1)
    try:
        status, _ = association.send_n_event_report(report, kind, SOP_CLASS, INSTANCE)
        return int(status.Status) if "Status" in status else None
    finally:
        association.release()


@dataclass(frozen=True)
class Asked:
    """A question that came: its Transaction UID and the instances."""

    transaction: str
    instances: tuple[str, ...]


@dataclass
class Archive:
    """A PACS. ``on_asked`` is called in a thread of its own for each question, after its answer has gone."""

    status: int = 0x0000
    on_asked: Callable[["Archive", Asked], None] = lambda _archive, _asked: None
    loses: set[str] = field(default_factory=set)
    port: int = 0
    stored: list[str] = field(default_factory=list)
    questions: list[Asked] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)
    finds: list[tuple[str, str]] = field(default_factory=list)
    indexed: Callable[[int], bool] = lambda _n: True
    find_status: int = 0x0000
    _threads: list[threading.Thread] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["Archive"]:
        """Listen until the block is left."""
        ae = AE("PACS")
        for uid in (MR, CT, SOP_CLASS, ECHO, STUDY_ROOT):
            ae.add_supported_context(uid)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._asked), (evt.EVT_C_FIND, self._find)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
        assert server is not None
        self.port = server.server_address[1]
        try:
            yield self
        finally:
            for thread in self._threads:
                thread.join(10)
            server.shutdown()

    def _store(self, event: evt.Event) -> int:
        self.stored.append(str(event.dataset.SOPInstanceUID))
        return 0x0000

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        assert (asked.QueryRetrieveLevel, asked.SOPInstanceUID) == ("IMAGE", "")
        self.finds.append((str(asked.StudyInstanceUID), str(asked.SeriesInstanceUID)))
        if self.find_status:
            yield self.find_status, None
            return
        for uid in self.stored if self.indexed(len(self.finds)) else []:
            if uid not in self.loses:
                item = Dataset()
                item.QueryRetrieveLevel, item.SOPInstanceUID, item.StudyInstanceUID = "IMAGE", uid, self.finds[-1][0]
                yield 0xFF00, item

    def _asked(self, event: evt.Event) -> tuple[int, None]:
        ds = event.action_information
        items = tuple(str(item.ReferencedSOPInstanceUID) for item in ds.ReferencedSOPSequence)
        asked = Asked(str(ds.TransactionUID), items)
        self.questions.append(asked)
        if self.status == 0x0000:
            thread = threading.Thread(target=self.on_asked, args=(self, asked))
            self._threads.append(thread)
            thread.start()
        return self.status, None

    def commit(self, asked: Asked, port: int, *, calling: str = "PACS") -> None:
        """Report to a box what was stored and not lost."""
        have = [uid for uid in asked.instances if uid in self.stored and uid not in self.loses]
        lost = {uid: 0x0112 for uid in asked.instances if uid not in have}
        self.answers.append(call(port, report_of(asked.transaction, have, lost), calling=calling))
