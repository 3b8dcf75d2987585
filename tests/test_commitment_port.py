"""Reports of storage commitment that come to the box's port, in this process and through a receiver process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commitpeer import MR, call, report_of
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import AE, build_role

from magickbox.dicom.commitment import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    INSTANCE,
    SOP_CLASS,
    read_report,
    write_request,
)
from magickbox.errors import UnreadableHeader
from magickbox.incoming.quarantine import Quarantine
from magickbox.intake import RecordingIntake
from magickbox.proof import Reference, Report
from magickbox.scp.server import Port, Receiver


@pytest.fixture(params=[0, 1], ids=["this process", "a receiver process"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, RecordingIntake]]:
    """An open port and the intake behind it."""
    intake = RecordingIntake()
    for name in ("incoming", "quarantine"):
        (tmp_path / name).mkdir()
    where = Port(tmp_path / "incoming", Quarantine(tmp_path / "quarantine"), receivers=request.param)
    receiver = Receiver(where, intake)
    receiver.start()
    try:
        yield receiver.address[1], intake
    finally:
        receiver.stop(2.0)


def test_a_report_reaches_the_coordinator_and_has_its_answer(port: tuple[int, RecordingIntake]) -> None:
    number, intake = port
    assert call(number, report_of("2.25.7", ["1.2.1", "1.2.2"])) == 0x0000
    assert call(number, report_of("2.25.8", ["1.2.1"], {"1.2.2": 0x0112}), calling="OTHER") == 0x0000
    assert [report for _, report in intake.reports] == [
        Report("2.25.7", ("1.2.1", "1.2.2")),
        Report("2.25.8", ("1.2.1",), (("1.2.2", 0x0112),)),
    ]
    assert [association.calling_ae for association, _ in intake.reports] == ["PACS", "OTHER"]
    intake.report_status = 0x0213
    assert call(number, report_of("2.25.9", ["1.2.1"])) == 0x0213


def test_what_is_no_report_is_refused(port: tuple[int, RecordingIntake]) -> None:
    number, intake = port
    assert call(number, report_of("2.25.7", ["1.2.1"]), event=3) == 0x0113
    nameless = report_of("2.25.7", ["1.2.1"])
    del nameless.TransactionUID
    assert call(number, nameless) == 0x0115
    assert intake.reports == []


def test_a_report_of_many_instances_comes_whole(port: tuple[int, RecordingIntake]) -> None:
    number, intake = port
    uids = [f"1.2.826.0.1.3680043.10.54321.{n}" for n in range(5000)]
    assert call(number, report_of("2.25.7", uids)) == 0x0000
    assert list(intake.reports[0][1].committed) == uids


def test_nobody_can_ask_the_box_to_commit(port: tuple[int, RecordingIntake]) -> None:
    ae = AE("MODALITY")
    ae.add_requested_context(SOP_CLASS)
    ae.add_requested_context(MR)
    association = ae.associate("127.0.0.1", port[0], ext_neg=[build_role(SOP_CLASS, scu_role=True)])
    try:
        assert [str(each.abstract_syntax) for each in association.accepted_contexts] == [MR]
    finally:
        association.release()


def test_a_peer_with_both_roles_gets_one_and_other_requests_are_refused(port: tuple[int, RecordingIntake]) -> None:
    ae = AE("PACS")
    ae.add_requested_context(SOP_CLASS)
    both = build_role(SOP_CLASS, scu_role=True, scp_role=True)
    association = ae.associate("127.0.0.1", port[0], ext_neg=[both])
    try:
        (context,) = association.accepted_contexts
        assert (context.as_scu, context.as_scp) == (False, True)
        context._as_scu = True  # a peer that does not keep to what was agreed
        question = Dataset()
        question.TransactionUID = "2.25.1"
        status, _ = association.send_n_action(question, 1, SOP_CLASS, INSTANCE)
        assert status.Status == 0x0211
    finally:
        association.release()


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
def test_reports_are_read_as_they_may_be_written(syntax: str, undefined: bool) -> None:
    ds = report_of("2.25.7", ["1.2.1", "1.2.2"], {"1.2.3": 0x0110, "1.2.4": 0xC123})
    ds.RetrieveAETitle = "PACS"
    for item in ds.ReferencedSOPSequence:
        item.RetrieveAETitle = "PACS"
        item.is_undefined_length_sequence_item = undefined
    for key in ("ReferencedSOPSequence", "FailedSOPSequence"):
        ds[key].is_undefined_length = undefined
    raw = _written(ds, syntax)
    report = read_report(raw, syntax)
    assert report == Report("2.25.7", ("1.2.1", "1.2.2"), (("1.2.3", 0x0110), ("1.2.4", 0xC123)))
    assert report.missing(["1.2.1", "1.2.3", "1.2.5"]) == {
        "1.2.3": "0x0110 processing failure",
        "1.2.5": "the answer does not name it",
    }
    told = 0
    for end in range(len(raw)):
        try:
            read_report(raw[:end], syntax)
        except UnreadableHeader:
            told += 1
    assert told > len(raw) / 2


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_questions_are_what_pydicom_writes(syntax: str) -> None:
    expected = Dataset()
    expected.TransactionUID = "2.25.7"
    expected.ReferencedSOPSequence = report_of("2.25.7", ["1.2.1", "1.2.34"]).ReferencedSOPSequence
    references = [Reference(MR, uid) for uid in ("1.2.1", "1.2.34")]
    assert write_request("2.25.7", references, syntax) == _written(expected, syntax)


def _written(ds: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, syntax == IMPLICIT_LITTLE
    write_dataset(buffer, ds)
    return buffer.getvalue()
