"""mip puts bright spots where they are in the patient, makes valid series, and says what it left out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

HERE = Path(__file__).resolve().parent
ROWS, COLUMNS, SLICES = 24, 32, 10
SPACING, GAP = (0.8, 0.5), 2.5
SPOT = (7, 12, 20)  # slice, row, column
AXIAL = ([1.0, 0, 0], [0, 1.0, 0])
SAGITTAL = ([0, 1.0, 0], [0, 0, -1.0])
OBLIQUE = ([0.8, 0.6, 0], [-0.36, 0.48, 0.8])
# Type 1 of the modules that CT and MR Image share (PS3.3 A.3, A.4), those that may not be empty.
TYPE_1 = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "FrameOfReferenceUID"),
    *("ImageType", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SamplesPerPixel"),
    *("PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "INPUT").mkdir()
    (tmp_path / "OUTPUT").mkdir()
    return tmp_path


def run(job: Path) -> tuple[str, str, list[Dataset]]:
    """Call the script as the box does: outcome, message, and what is in OUTPUT by instance number."""
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
    made = [dcmread(path) for path in (job / "OUTPUT").iterdir()]
    return said["success"], said["message"], sorted(made, key=lambda ds: (str(ds.SeriesInstanceUID), ds.InstanceNumber))


def volume(
    folder: Path, axes: tuple[list[float], list[float]] = AXIAL, change: Callable[[Dataset, int], None] | None = None
) -> np.ndarray:
    """Write a CT series, dark but for one spot, in a mixed-up order; the spot's place in the patient in mm."""
    across, down = np.array(axes[0]), np.array(axes[1])
    normal = np.cross(across, down)
    origin = np.array([-30.0, 12.5, 140.0])
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for number in range(SLICES):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.Modality = "Secret^Patient", "SECRET", "CT"
        ds.ImageType, ds.SeriesNumber, ds.SeriesDescription = ["ORIGINAL", "PRIMARY", "AXIAL"], 3, "Angio"
        ds.InstanceNumber = SLICES - number
        ds.ImageOrientationPatient = [*axes[0], *axes[1]]
        ds.ImagePositionPatient = [round(float(v), 6) for v in origin + number * GAP * normal]
        ds.PixelSpacing, ds.SliceThickness = list(SPACING), GAP
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        pixels = np.full((ROWS, COLUMNS), 100, "<i2")
        if number == SPOT[0]:
            pixels[SPOT[1], SPOT[2]] = 3000
        ds.PixelData = pixels.tobytes()
        if change is not None:
            change(ds, number)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(folder / f"{(number * 7) % SLICES}.dcm", enforce_file_format=True)
    return origin + SPOT[0] * GAP * normal + SPOT[1] * SPACING[0] * down + SPOT[2] * SPACING[1] * across


def brightest(ds: Dataset) -> np.ndarray:
    """Where the brightest pixel of a picture lies in the patient, in mm (PS3.3 C.7.6.2.1.1)."""
    row, column = np.unravel_index(ds.pixel_array.argmax(), ds.pixel_array.shape)
    orientation = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    place = column * float(ds.PixelSpacing[1]) * orientation[0] + row * float(ds.PixelSpacing[0]) * orientation[1]
    return np.array(ds.ImagePositionPatient, float) + place


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, OBLIQUE], ids=["axial", "sagittal", "oblique"])
def test_a_bright_spot_lies_where_it_is_in_the_patient(job: Path, axes: tuple[list[float], list[float]]) -> None:
    """In the plane of each picture; across it, the picture stands in the middle of what was projected."""
    spot = volume(job / "INPUT", axes)
    outcome, _, made = run(job)
    assert (outcome, len(made)) == ("success", 3)
    for ds in made:
        orientation = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        away = brightest(ds) - spot
        assert np.abs(orientation @ away).max() < 1e-3
        assert ds.pixel_array.max() * ds.RescaleSlope + ds.RescaleIntercept == 3000 - 1024
    normals = [np.cross(*np.array(ds.ImageOrientationPatient, float).reshape(2, 3)) for ds in made]
    assert np.allclose(np.abs(np.array(normals) @ np.array(normals).T), np.eye(3), atol=1e-6)


def test_the_result_is_a_valid_new_series_of_the_same_study(job: Path) -> None:
    volume(job / "INPUT")
    sources = [dcmread(path) for path in (job / "INPUT").iterdir()]
    _, message, made = run(job)
    assert "Secret" not in message
    for ds in made:
        assert [keyword for keyword in TYPE_1 if ds.get(keyword) in (None, "")] == []
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (ds.SOPClassUID, ds.StudyInstanceUID) == (CTImageStorage, sources[0].StudyInstanceUID)
        assert (ds.PatientID, ds.FrameOfReferenceUID) == (sources[0].PatientID, sources[0].FrameOfReferenceUID)
        assert ds.SeriesInstanceUID != sources[0].SeriesInstanceUID
        assert list(ds.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        named = {item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence}
        assert named == {source.SOPInstanceUID for source in sources}
        assert ds.DerivationDescription
    assert len({ds.SOPInstanceUID for ds in made}) == 3
    assert len({ds.SeriesInstanceUID for ds in made}) == 1
    assert {ds.SeriesNumber for ds in made} == {301}
    tool = shutil.which("dcmdump")
    for path in (job / "OUTPUT").iterdir() if tool else ():
        assert subprocess.run([str(tool), "-q", str(path)], capture_output=True).returncode == 0


def test_uids_are_new_each_time(job: Path) -> None:
    volume(job / "INPUT")
    first = {ds.SOPInstanceUID for ds in run(job)[2]}
    for path in (job / "OUTPUT").iterdir():
        path.unlink()
    assert not first & {ds.SOPInstanceUID for ds in run(job)[2]}


def test_each_slice_has_its_own_rescale(job: Path) -> None:
    def change(ds: Dataset, number: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 2, -1024 - 100 * number

    volume(job / "INPUT", change=change)
    for ds in run(job)[2]:
        real = ds.pixel_array.max() * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        assert real == pytest.approx(3000 * 2 - 1024 - 100 * SPOT[0], abs=1)


def drop_position(ds: Dataset, _number: int) -> None:
    del ds.ImagePositionPatient


def one_place(ds: Dataset, _number: int) -> None:
    ds.ImagePositionPatient = [0, 0, 0]


def odd_distance(ds: Dataset, number: int) -> None:
    if number == SLICES - 1:
        ds.ImagePositionPatient[2] = float(ds.ImagePositionPatient[2]) + 1.2


def tilt(ds: Dataset, number: int) -> None:
    ds.ImagePositionPatient[1] = float(ds.ImagePositionPatient[1]) + number * 0.8


def damage(ds: Dataset, number: int) -> None:
    if number == 2:
        ds.PixelData = ds.PixelData[:100]


@pytest.mark.parametrize(
    ("change", "outcome", "words", "count"),
    [
        (drop_position, "failed", "position, orientation or pixel spacing is missing", 0),
        (one_place, "failed", "one slice position only", 0),
        (odd_distance, "success", "slice distance uneven", 3),
        (tilt, "success", "tilt", 3),
        (damage, "failed", "pixels could not be read", 0),
    ],
)
def test_unusual_series(
    job: Path, change: Callable[[Dataset, int], None], outcome: str, words: str, count: int
) -> None:
    volume(job / "INPUT", change=change)
    said, message, made = run(job)
    assert (said, len(made)) == (outcome, count)
    assert words in message


def test_one_good_and_one_bad_series_are_partial_and_junk_does_not_matter(job: Path) -> None:
    volume(job / "INPUT")
    (job / "INPUT" / "deep").mkdir()
    volume(job / "INPUT" / "deep", change=drop_position)
    (job / "INPUT" / "notes.txt").write_text("not DICOM")
    shutil.copy(str(get_testdata_file("test-SR.dcm", download=False)), job / "INPUT" / "sr")
    shutil.copy(str(get_testdata_file("emri_small.dcm", download=False)), job / "INPUT" / "enhanced")
    outcome, message, made = run(job)
    assert (outcome, len(made)) == ("partial", 3)
    assert "multi-frame" in message
    assert "1 objects are neither CT nor MR" in message


def test_several_times_at_each_position(job: Path) -> None:
    """As in a time series: the first image of each position is used, and that is said."""
    spot = volume(job / "INPUT")
    for path in list((job / "INPUT").iterdir()):
        ds = dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber += 100
        ds.PixelData = bytes(len(ds.PixelData))
        ds.save_as(path.with_suffix(".second"))
    _, message, made = run(job)
    assert "20 images at 10 positions" in message
    assert np.abs(brightest(made[0]) - spot)[:2].max() < 1e-3


def test_compressed_input(job: Path) -> None:
    spot = volume(job / "INPUT")
    for path in (job / "INPUT").iterdir():
        ds = dcmread(path)
        ds.compress(RLELossless)
        ds.save_as(path)
    outcome, _, made = run(job)
    assert outcome == "success"
    assert np.abs(brightest(made[0]) - spot)[:2].max() < 1e-3


def test_a_real_heart(job: Path) -> None:
    """Real CT from pydicom's own test data: a localizer is left aside, the other series is projected."""
    base = Path(str(resources.files("pydicom.data"))) / "test_files" / "dicomdirtests" / "98892001"
    for path in base.rglob("*"):
        if path.is_file():
            shutil.copy(path, job / "INPUT" / f"{path.parent.name}-{path.name}")
    outcome, message, made = run(job)
    assert (outcome, len(made)) == ("success", 3)
    assert "localizer" in message
    assert all(ds.pixel_array.max() > ds.pixel_array.min() for ds in made)


def test_real_mr_studies(job: Path) -> None:
    """Two scanners' time series of a phantom, where $MAGICKBOX_TEST_DATA has them."""
    data = os.environ.get("MAGICKBOX_TEST_DATA")
    folders = sorted(Path(data).glob("*/mr_0004")) if data else []
    if not folders:
        pytest.skip("MAGICKBOX_TEST_DATA does not name a folder with real MR studies")
    for number, folder in enumerate(folders):
        shutil.copytree(folder, job / "INPUT" / str(number))
    outcome, _, made = run(job)
    assert outcome in ("success", "partial")
    assert made
