"""The projections of a stack as instances of a new CT or MR series of the same study."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from projection import Picture, Result, Values
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DSfloat
from volume import Slice, Stack

KEPT = (
    # patient and study
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *(
        "OtherPatientIDsSequence",
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
    ),
    *("LongitudinalTemporalInformationModified", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "StudyDescription"),
    *("PatientAge", "PatientSize", "PatientWeight"),
    # series, place and acquisition
    *("Modality", "BodyPartExamined", "Laterality", "PatientPosition", "FrameOfReferenceUID"),
    *("PositionReferenceIndicator", "ProtocolName", "AcquisitionDate", "AcquisitionTime", "BurnedInAnnotation"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    *("ContrastBolusAgent", "ContrastBolusRoute", "AcquisitionNumber", "PhotometricInterpretation"),
    # CT Image (PS3.3 C.8.2.1) and MR Image (C.8.3.1)
    *("KVP", "ConvolutionKernel", "RescaleType", "ScanningSequence", "SequenceVariant", "ScanOptions"),
    *("MRAcquisitionType", "SequenceName", "RepetitionTime", "EchoTime", "EchoTrainLength", "InversionTime"),
    *("MagneticFieldStrength", "FlipAngle", "EchoNumbers"),
)
TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *(
        "AccessionNumber",
        "ReferringPhysicianName",
        "PositionReferenceIndicator",
        "PatientPosition",
        "AcquisitionNumber",
    ),
)
TYPE_2_CT = ("KVP",)
TYPE_2_MR = ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength")
LOSSY = (*uid.JPEGTransferSyntaxes[:2], uid.JPEGLSNearLossless, uid.JPEG2000, uid.JPEG2000MC)


def series_of(stack: Stack, result: Result, now: datetime) -> list[Dataset]:
    """One new series with one instance for each picture."""
    source = dcmread(stack.slices[0].path, stop_before_pixels=True)
    common = common_part(source, stack, now)
    window = window_of(result, str(source.Modality))
    return [
        instance(common, picture, result.values, window, stack, number)
        for number, picture in enumerate(result.pictures, start=1)
    ]


def common_part(source: Dataset, stack: Stack, now: datetime) -> Dataset:
    """What all instances of the new series share: patient and study as they were, a series and equipment of its own."""
    ds = Dataset()
    ct = source.SOPClassUID == uid.CTImageStorage
    for keyword in KEPT:
        if keyword in source:
            ds[keyword] = copy.deepcopy(source[keyword])
    for keyword in (*TYPE_2, *(TYPE_2_CT if ct else TYPE_2_MR)):
        if keyword not in ds:
            setattr(ds, keyword, None)
    if not ct:
        ds.ScanningSequence = ds.get("ScanningSequence") or "RM"
        ds.SequenceVariant = ds.get("SequenceVariant") or "NONE"
    if not ds.get("FrameOfReferenceUID"):
        ds.FrameOfReferenceUID = uid.generate_uid()
    if any(is_lossy(s) for s in stack.slices):
        ds.LossyImageCompression = "01"
    ds.SOPClassUID = source.SOPClassUID
    ds.Modality = "CT" if ct else "MR"
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if ct else "PROJECTION IMAGE", "MIP"]
    ds.SeriesInstanceUID = uid.generate_uid()
    ds.SeriesNumber = series_number(source.get("SeriesNumber"))
    ds.SeriesDescription = f"MIP {source.get('SeriesDescription') or ''}".strip()[:64]
    ds.SeriesDate = ds.ContentDate = ds.InstanceCreationDate = now.strftime("%Y%m%d")
    ds.SeriesTime = ds.ContentTime = ds.InstanceCreationTime = now.strftime("%H%M%S")
    ds.Manufacturer = "magickbox"
    ds.ManufacturerModelName = "mip"
    ds.SoftwareVersions = "1.0"
    ds.ContributingEquipmentSequence = [scanner(source)]
    ds.DerivationCodeSequence = [coded(codes.DCM.MaximumIntensityProjection)]
    ds.SourceImageSequence = [reference(s) for s in stack.slices]
    return ds


def series_number(source: object) -> int:
    """Series 3 becomes 301, so that the projections stand beside their source in a sorted list."""
    number = int(str(source)) if source not in (None, "") else 0
    return number * 100 + 1 if 0 < number < 20_000_000 else 9001


def is_lossy(s: Slice) -> bool:
    return s.header.get("LossyImageCompression") == "01" or s.transfer_syntax in LOSSY


def scanner(source: Dataset) -> Dataset:
    """The device that made the source images, for Contributing Equipment (PS3.3 C.12.1)."""
    item = Dataset()
    item.Manufacturer = source.get("Manufacturer") or "unknown"
    for keyword in ("ManufacturerModelName", "InstitutionName", "StationName", "SoftwareVersions"):
        if source.get(keyword):
            item[keyword] = copy.deepcopy(source[keyword])
    item.PurposeOfReferenceCodeSequence = [coded(codes.DCM.AcquisitionEquipment)]
    return item


def reference(s: Slice) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = s.header.SOPClassUID
    item.ReferencedSOPInstanceUID = s.header.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [coded(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def instance(
    common: Dataset, picture: Picture, values: Values, window: tuple[float, float], stack: Stack, number: int
) -> Dataset:
    """One projection as a complete instance."""
    ds = copy.deepcopy(common)
    ds.SOPInstanceUID = uid.generate_uid()
    ds.InstanceNumber = number
    ds.DerivationDescription = describe(picture, stack)
    ds.ImageComments = f"{picture.plane} maximum intensity projection"
    ds.ImagePositionPatient = decimals(picture.origin)
    ds.ImageOrientationPatient = decimals([*picture.across, *picture.down])
    ds.PixelSpacing = decimals(picture.spacing)
    ds.SliceThickness = decimals([picture.depth])[0]
    ds.WindowCenter, ds.WindowWidth = decimals(window)
    put_pixels(ds, picture.pixels, values, stack.slices[0])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return ds


def describe(picture: Picture, stack: Stack) -> str:
    text = (
        f"Maximum intensity projection along the {picture.along} of {len(stack.slices)} images, {picture.depth:.4g} mm"
    )
    return "; ".join([text, *stack.notes])[:1024]


def decimals(values: Sequence[float] | np.ndarray) -> list[DSfloat]:
    """Numbers in at most 16 characters, as the VR DS wants it, without a negative zero."""
    return [DSfloat(round(float(v), 10) + 0.0, auto_format=True) for v in values]


def put_pixels(ds: Dataset, pixels: np.ndarray, values: Values, source: Slice) -> None:
    """Store the pixels as the source did; where slices differ in their rescaling, as real values."""
    signed, stored_bits = int(source.number("PixelRepresentation")), int(source.number("BitsStored", 16))
    slope, intercept = values.slope, values.intercept
    if values.rescaled:
        pixels, slope, intercept, signed, stored_bits = quantized(pixels)
    elif pixels.min() < -(signed << (stored_bits - 1)) or pixels.max() >= 1 << (stored_bits - signed):
        stored_bits = 16
    if ds.SOPClassUID == uid.CTImageStorage and slope is None:
        slope, intercept = 1.0, 0.0
    if slope is not None:
        ds.RescaleSlope, ds.RescaleIntercept = decimals([slope, intercept or 0.0])
    ds.SamplesPerPixel = 1
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = 16
    ds.BitsStored = stored_bits
    ds.HighBit = stored_bits - 1
    ds.PixelRepresentation = signed
    ds.PixelData = np.ascontiguousarray(pixels, dtype="<i2" if signed else "<u2").tobytes()
    ds["PixelData"].VR = "OW"


def quantized(pixels: np.ndarray) -> tuple[np.ndarray, float, float, int, int]:
    """Real values as stored ones: unchanged if they are whole and fit 16 bits, else spread over 16 bits."""
    low, high = float(pixels.min()), float(pixels.max())
    if low >= -32768 and high <= 32767 and bool((pixels == np.rint(pixels)).all()):
        return pixels, 1.0, 0.0, 1, 16
    intercept = float(decimals([low])[0])
    slope = float(DSfloat(max(high - low, 1e-6) / 65535, auto_format=True))
    return np.clip(np.rint((pixels - intercept) / slope), 0, 65535), slope, intercept, 0, 16


def window_of(result: Result, modality: str) -> tuple[float, float]:
    """Centre and width in real values, one for the whole series: from near the darkest to near the brightest.

    For CT the dark end is no lower than soft fat, because air would take half of the greys.
    """
    seen = np.concatenate([p.pixels.ravel() for p in result.pictures]).astype(np.float64)
    seen = seen * (result.values.slope or 1.0) + (result.values.intercept or 0.0)
    body = seen[seen > seen.min()]
    low, high = (float(v) for v in np.percentile(body if body.size else seen, [1, 99.8]))
    if modality == "CT" and high > 0:
        low = max(low, -150.0)
    width = max(high - low, 1.0)
    return round(low + width / 2, 2), round(width, 2)
