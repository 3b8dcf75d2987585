"""The objects that are sent: small, medium, large; invented, with the attributes that receivers look for."""

import random
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from magickbox.bench.wire import PLACEHOLDER


@dataclass(frozen=True)
class Kind:
    """One kind of object: grey images of 16 bits, ``frames`` of them in one instance."""

    name: str
    sop_class: str
    modality: str
    side: int
    frames: int
    warm_up: int  # instances that are sent before the clock runs

    @property
    def bytes(self) -> int:
        """About the size of an instance."""
        return 2 * self.side * self.side * self.frames

    @property
    def words(self) -> str:
        """What it is, for a person."""
        many = f", {self.frames} frames" if self.frames > 1 else ""
        return f"{self.modality} {self.side}x{self.side}{many}"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("small", "1.2.840.10008.5.1.4.1.1.4", "MR", 128, 1, 40),
        Kind("medium", "1.2.840.10008.5.1.4.1.1.2", "CT", 512, 1, 10),
        Kind("large", "1.2.840.10008.5.1.4.1.1.2.1", "CT", 512, 128, 1),
    )
}


def dataset(kind: Kind, study: str) -> bytes:
    """An instance's dataset in Explicit VR Little Endian, with a placeholder for its SOP Instance UID."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = kind.sop_class, PLACEHOLDER.decode()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.1"
    ds.StudyDate, ds.StudyTime, ds.Modality, ds.AccessionNumber = "20260101", "120000", kind.modality, "1"
    ds.StudyDescription, ds.SeriesDescription, ds.Manufacturer = "Benchmark", kind.words, "magickbox"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Nobody^Test", "BENCH", "19700101", "O"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", 1, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = kind.side
    ds.NumberOfFrames = kind.frames
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    # Noise, so that no disk and no filesystem makes it smaller; the same for all, so that it costs no time.
    noise = random.Random(1).randbytes(kind.bytes // kind.frames)  # noqa: S311  pixels, no secret
    ds.add_new(0x7FE00010, "OW", noise * kind.frames)
    out = BytesIO()
    dcmwrite(out, ds, implicit_vr=False, little_endian=True)
    return out.getvalue()
