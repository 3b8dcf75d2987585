"""A PDF report of a study, as an Encapsulated PDF instance (PS3.3 A.45.1)."""

from __future__ import annotations

import json
import os
import sys
import warnings
from datetime import datetime
from pathlib import Path

from contents import Study, find
from page import pdf_of
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, generate_uid

KEPT = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    "StudyDescription",
)
TITLE = Code("18748-4", "LN", "Diagnostic imaging study")
MOST_SOURCES = 5000


def encapsulated(study: Study, pdf: bytes, now: datetime) -> Dataset:
    """The PDF as an instance of a new series of the same study."""
    ds = Dataset()
    header = study.header()
    for keyword in KEPT:
        if keyword in header:
            ds[keyword] = header[keyword]
    for keyword in KEPT[1:]:
        if keyword not in ds and keyword not in ("IssuerOfPatientID", "StudyDescription"):
            setattr(ds, keyword, None)
    ds.SOPClassUID, ds.SOPInstanceUID = EncapsulatedPDFStorage, generate_uid()
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.SeriesDescription = generate_uid(), 9000, "Study report"
    ds.Modality, ds.InstanceNumber, ds.ConversionType = "DOC", 1, "WSD"
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = "magickbox", "report", "1.0"
    ds.ContentDate = ds.SeriesDate = ds.InstanceCreationDate = now.strftime("%Y%m%d")
    ds.ContentTime = ds.SeriesTime = ds.InstanceCreationTime = now.strftime("%H%M%S")
    ds.AcquisitionDateTime = None
    ds.BurnedInAnnotation, ds.DocumentTitle = "YES", "Study report"
    ds.ConceptNameCodeSequence = [_coded(TITLE)]
    ds.SourceInstanceSequence = [_reference(m.header) for m in list(study.members)[:MOST_SOURCES]]
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(pdf)
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def report_all(source: Path, output: Path) -> tuple[str, str]:
    """One report for each study; outcome and message."""
    studies, damaged = find(source)
    now = datetime.now()
    missing = 0
    for study in studies:
        pdf, without_picture = pdf_of(study, now.strftime("%Y-%m-%d %H:%M"))
        missing += without_picture
        ds = encapsulated(study, pdf, now)
        ds.save_as(output / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
    if not studies:
        return "failed", "no readable DICOM instances in the input"
    remarks = [f"reported on {sum(len(s.series) for s in studies)} series"]
    if missing:
        remarks.append(f"{missing} key images could not be decoded")
    if damaged:
        remarks.append(f"{damaged} damaged files left out")
    return "partial" if damaged else "success", "; ".join(remarks)


def say(success: str, message: str, output: Path) -> None:
    """Write proc.json: where the box asks for it, or into OUTPUT when tried by hand."""
    place = Path(os.environ.get("MAGICKBOX_PROC") or output / "proc.json")
    place.write_text(json.dumps([{"success": success, "message": message}], indent=1) + "\n")
    print(f"{success}: {message}")


def main(argv: list[str]) -> int:
    """INPUT OUTPUT; exit code 0 for success and partial, 1 for failed, 2 for misuse."""
    if len(argv) != 2:
        print("usage: report.py INPUT OUTPUT", file=sys.stderr)
        return 2
    source, output = Path(argv[0]), Path(argv[1])
    output.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their text may quote patient data
        outcome, message = report_all(source, output)
    say(outcome, message, output)
    return 1 if outcome == "failed" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
