"""report makes a PDF that can be read, in an instance that is valid, whatever the names in it look like."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import EncapsulatedPDFStorage, generate_uid
from pypdf import PdfReader

HERE = Path(__file__).resolve().parent
# Type 1 attributes of the Encapsulated PDF IOD (PS3.3 A.45.1, C.24.1, C.24.2, C.8.6.1).
TYPE_1 = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber"),
    *("ConversionType", "InstanceNumber", "BurnedInAnnotation", "MIMETypeOfEncapsulatedDocument"),
    *("EncapsulatedDocument", "SourceInstanceSequence"),
)
TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "INPUT").mkdir()
    (tmp_path / "OUTPUT").mkdir()
    return tmp_path


def put(job: Path, name: str, **changes: object) -> Dataset:
    """A real instance of pydicom's into INPUT, with some attributes changed."""
    ds = dcmread(str(get_testdata_file(name, download=False)))
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    ds.save_as(job / "INPUT" / f"{name}-{len(list((job / 'INPUT').iterdir()))}")
    return ds


def run(job: Path) -> tuple[str, str, list[Dataset]]:
    """Call the script as the box does: outcome, message, what is in OUTPUT."""
    command = json.loads((HERE / "processor.json").read_text())["command"]
    done = subprocess.run(
        [sys.executable, str(HERE / command[1]), str(job / "INPUT"), str(job / "OUTPUT")],
        cwd=job,
        env={"PATH": os.environ["PATH"], "MAGICKBOX_PROC": str(job / "proc.json")},
        capture_output=True,
        text=True,
    )
    [said] = json.loads((job / "proc.json").read_text())
    assert done.returncode == (1 if said["success"] == "failed" else 0), done.stderr
    return said["success"], said["message"], [dcmread(path) for path in (job / "OUTPUT").iterdir()]


def pages(ds: Dataset) -> PdfReader:
    """The PDF inside."""
    return PdfReader(BytesIO(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]))


def test_the_instance_is_valid_and_of_the_same_study(job: Path) -> None:
    source = put(job, "CT_small.dcm")
    outcome, message, [ds] = run(job)
    assert (outcome, ds.SOPClassUID) == ("success", EncapsulatedPDFStorage)
    assert [k for k in TYPE_1 if ds.get(k) in (None, "")] == []
    assert [k for k in TYPE_2 if k not in ds] == []
    assert (ds.StudyInstanceUID, ds.PatientID, ds.Modality) == (source.StudyInstanceUID, source.PatientID, "DOC")
    assert ds.SeriesInstanceUID != source.SeriesInstanceUID
    assert ds.SourceInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert len(ds.EncapsulatedDocument) % 2 == 0
    assert str(source.PatientName) not in message
    tool = shutil.which("dcmdump")
    for path in (job / "OUTPUT").iterdir() if tool else ():
        assert subprocess.run([str(tool), "-q", str(path)], capture_output=True).returncode == 0


def test_the_page_shows_header_series_and_a_picture(job: Path) -> None:
    study = generate_uid()
    put(job, "CT_small.dcm", StudyInstanceUID=study, PatientName="Doe^Jane", SeriesNumber=7, SeriesDescription="Chest")
    put(job, "MR_small.dcm", StudyInstanceUID=study, PatientName="Doe^Jane", SeriesNumber=3, SeriesDescription="Head")
    put(job, "test-SR.dcm", StudyInstanceUID=study, SeriesNumber=9)
    _, message, [ds] = run(job)
    page = pages(ds).pages[0]
    text = page.extract_text()
    for expected in ("Doe Jane", "Chest", "Head", "SR", "3 in 3 series", study):
        assert expected in text
    assert text.index("Head") < text.index("Chest")
    assert len(page.images) == 2
    assert message == "reported on 3 series"


def test_names_are_text_and_never_markup(job: Path) -> None:
    put(job, "CT_small.dcm", SpecificCharacterSet="ISO_IR 192", PatientName="<b>Ünal^&</para>=山田^太郎",
        SeriesDescription="<font size=99>x</font> & 心", StudyDescription="]]> \x01 <para>")  # fmt: skip
    outcome, _, [ds] = run(job)
    text = pages(ds).pages[0].extract_text()
    assert outcome == "success"
    assert "<b>Ünal &</para>" in text
    assert "<font size=99>x</font> & ?" in text


@pytest.mark.parametrize(
    "name", ["JPEG2000.dcm", "US1_J2KR.dcm", "color-px.dcm", "emri_small.dcm", "rtplan.dcm", "liver.dcm"]
)
def test_other_kinds_of_instances(job: Path, name: str) -> None:
    """Compressed, colour, many frames, one bit, no pixels: a report in any case."""
    if get_testdata_file(name, download=False) is None:
        pytest.skip(f"{name} is not among the installed test files")
    put(job, name)
    outcome, _, [ds] = run(job)
    assert outcome == "success"
    assert "1 in 1 series" in pages(ds).pages[0].extract_text()


def test_pixels_that_cannot_be_decoded_are_said(job: Path) -> None:
    put(job, "CT_small.dcm", PixelData=b"\0" * 10)
    outcome, message, [ds] = run(job)
    assert outcome == "success"
    assert "1 key images could not be decoded" in message
    assert len(pages(ds).pages[0].images) == 0


def test_many_series_go_on_to_further_pages(job: Path) -> None:
    study = generate_uid()
    for number in range(60):
        put(job, "MR_small.dcm", StudyInstanceUID=study, SeriesInstanceUID=generate_uid(), SeriesNumber=number)
    _, _, [ds] = run(job)
    assert len(pages(ds).pages) > 1
    assert "60 in 60 series" in pages(ds).pages[0].extract_text()


def test_junk_and_an_empty_input(job: Path) -> None:
    (job / "INPUT" / "notes.txt").write_text("not DICOM")
    outcome, message, made = run(job)
    assert (outcome, made) == ("failed", [])
    assert "no readable DICOM" in message
