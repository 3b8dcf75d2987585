"""Compressed and other files to convert: those of pydicom and pydicom-data, and made ones."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from magickbox.sender import Item

MR = "1.2.840.10008.5.1.4.1.1.4"
PACKAGES = Path(pydicom.__file__).parents[1]


def every_file() -> list[Path]:
    """All Part 10 files of pydicom and pydicom-data."""
    return [
        path
        for folder in ("pydicom/data", "data_store")
        for path in sorted((PACKAGES / folder).rglob("*"))
        if path.is_file() and path.read_bytes()[128:132] == b"DICM"
    ]


def syntax_of(path: Path) -> str:
    """The transfer syntax that the file meta names; empty if none."""
    return str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", ""))


def image(folder: Path, pixels: np.ndarray, *, stored: int | None = None, **more: object) -> Item:
    """A made instance, native Explicit VR Little Endian: frames, rows, columns, and 3 samples if there is a fourth."""
    ds = Dataset()
    uid = generate_uid()
    ds.SOPClassUID, ds.SOPInstanceUID = MR, uid
    ds.StudyInstanceUID = ds.SeriesInstanceUID = generate_uid()
    colour = pixels.ndim == 4
    ds.NumberOfFrames = pixels.shape[0]
    ds.Rows, ds.Columns = pixels.shape[1:3]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        ds.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, stored or bits, (stored or bits) - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.tobytes()
    ds.PixelData = raw + bytes(len(raw) % 2)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{uid}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return Item(path, MR, uid, ExplicitVRLittleEndian)
