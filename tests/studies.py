"""Makes small studies to send: valid MR instances with pixels, each a file."""

from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from magickbox.sender import Item

MR = "1.2.840.10008.5.1.4.1.1.4"


def study(folder: Path, count: int, *, study_uid: str | None = None, pixels: int = 64) -> list[Item]:
    """``count`` instances of one study and series, as files below ``folder``; ``pixels`` is the side of an image."""
    folder.mkdir(parents=True, exist_ok=True)
    study_uid, series_uid = study_uid or generate_uid(), generate_uid()
    return [instance(folder, study_uid, series_uid, number, pixels) for number in range(1, count + 1)]


def instance(folder: Path, study_uid: str, series_uid: str, number: int, pixels: int = 64) -> Item:
    """One instance, written as a file."""
    uid = generate_uid()
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MR, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, series_uid
    ds.Modality, ds.SeriesDescription, ds.InstanceNumber = "MR", "T1 test", number
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Secret^Patient", "SECRET-ID", "19700131"
    ds.Rows = ds.Columns = pixels
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = bytes([number % 256, 0]) * (pixels * pixels)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{uid}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return Item(path, MR, uid, ExplicitVRLittleEndian)
