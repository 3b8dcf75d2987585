"""Every file that pydicom comes with is shown, or it is said why not; what is shown is what pydicom computes."""

import gzip
import json
import shutil
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pydicom
import pytest
from compressed import every_file, image
from jobpictures import JOB, content, every, get, prepared, put
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_windowing

from magickbox.imaging.pictures import Pictures, Rendered, Unseen, Wish
from magickbox.imaging.series import Kind, Shown


@pytest.fixture(scope="module")
def all_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pictures]:
    data = prepared(tmp_path_factory.mktemp("files"))
    put(data, *every_file())
    pictures = Pictures(data)
    yield pictures
    pictures.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Pictures]:
    made = Pictures(prepared(tmp_path))
    yield made
    made.close()


def decoded(png: bytes) -> np.ndarray:
    """A PNG as an array."""
    return np.asarray(Image.open(BytesIO(png)))


def unpacked(raw: bytes) -> tuple[dict[str, Any], np.ndarray, bytes]:
    """A packed frame: what is said of it, its samples, and what follows them."""
    plain = gzip.decompress(raw)
    assert plain[:4] == b"MBF1"
    (length,) = struct.unpack_from("<I", plain, 4)
    assert (8 + length) % 8 == 0
    about = json.loads(plain[8 : 8 + length])
    rows, columns = about["rows"], about["columns"]
    kind, shape = ("u1", (rows, columns, 3)) if about["samples"] == "rgb" else (about["samples"], (rows, columns))
    samples = np.frombuffer(plain, f"<{kind}", int(np.prod(shape)), 8 + length).reshape(shape)
    return about, samples, plain[8 + length + samples.nbytes :]


# What cannot be shown, and the word by which it says why.
REASONS = {
    "JPEG2000-embedded-sequence-delimiter": "J2K",
    "MR_truncated": "shorter",
    "SC_rgb_jpeg": "tag",
    "badVR": "'1A'",
}


def test_every_file_is_shown_or_says_why_not(all_files: Pictures) -> None:
    place = all_files.place(JOB, "INPUT")
    shown = every(all_files)
    assert len(shown) + place.unreadable + place.other == len(every_file())
    assert place.unreadable < 12
    images, said = 0, {}
    for each in shown:
        png, raw = get(all_files, each, Wish("png")), get(all_files, each, Wish("raw"))
        assert isinstance(png, Rendered) == isinstance(raw, Rendered), each.file
        if isinstance(png, Unseen):
            said[Path(each.file).stem[4:]] = png.reason
            continue
        assert isinstance(raw, Rendered)
        images += 1
        picture, (about, samples, _) = decoded(png.content), unpacked(raw.content)
        assert picture.shape[:2] == samples.shape[:2] == (about["rows"], about["columns"])
    for name, word in REASONS.items():
        assert word in said.pop(name, ""), name
    assert set(said.values()) == {"it has no pixel data"}
    assert images > 130


GREYS = [
    "MR_small.dcm", "CT_small.dcm", "JPEG2000.dcm", "JPGExtended.dcm", "MR_small_RLE.dcm", "MR_small_expb.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "emri_small_jpeg_ls_lossless.dcm",
]  # fmt: skip


@pytest.mark.parametrize("name", GREYS)
def test_greys_are_those_that_pydicom_computes(pictures: Pictures, name: str) -> None:
    put(pictures.data, peers.sample(name))
    (shown,) = every(pictures)
    if name == "JPGExtended.dcm":  # pydicom has no codec for 12 bits that is free to use
        assert decoded(content(pictures, shown, Wish("png"))).std() > 10
        return
    ds = pydicom.dcmread(peers.sample(name))
    stored = pydicom.pixel_array(ds, index=0)
    ds.WindowCenter, ds.WindowWidth = 600, 1100
    values = apply_modality_lut(stored, ds)
    linear = np.clip(((values - (600 - 0.5)) / (1100 - 1) + 0.5) * 255, 0, 255)
    windowed = apply_windowing(values, ds)
    assert np.corrcoef(windowed.ravel(), linear.ravel())[0, 1] > 0.999
    ours = decoded(content(pictures, shown, Wish("png", window=(600, 1100)))).astype(int)
    assert np.abs(ours - linear).max() <= 1


def test_raw_values_are_the_stored_ones_with_their_scale(pictures: Pictures) -> None:
    put(pictures.data, peers.sample("CT_small.dcm"))
    (shown,) = every(pictures)
    about, samples, rest = unpacked(content(pictures, shown, Wish("raw")))
    ds = pydicom.dcmread(peers.sample("CT_small.dcm"))
    assert (samples == ds.pixel_array).all()
    assert (about["slope"], about["intercept"]) == (ds.RescaleSlope, ds.RescaleIntercept)
    assert (about["samples"], about["inverted"], rest) == ("i2", False, b"")


def made(folder: Path, pixels: np.ndarray, stored: int | None = None) -> Path:
    """A made instance as a file."""
    folder.mkdir(exist_ok=True)
    return image(folder, pixels, stored=stored).path


def changed(path: Path, **values: object) -> Path:
    """The file with elements set."""
    ds = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(ds, name, value)
        if "Padding" in name:
            ds[name].VR = "US"
    ds.save_as(path)
    return path


RAMP = np.arange(0, 256, dtype=np.uint16).reshape(1, 16, 16) * 16


def shown_of(pictures: Pictures, path: Path) -> np.ndarray:
    put(pictures.data, path)
    (shown,) = every(pictures)
    return decoded(content(pictures, shown, Wish("png")))


def test_monochrome1_is_inverted_and_padding_is_black(pictures: Pictures, tmp_path: Path) -> None:
    path = made(tmp_path / "m", RAMP, stored=12)
    grey = shown_of(
        pictures, changed(path, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0, PixelPaddingRangeLimit=64)
    ).ravel()
    assert list(grey[:5]) == [0] * 5
    assert grey[5] == 255
    assert grey[-1] == 0


def test_without_a_window_it_goes_from_the_smallest_to_the_largest_value(pictures: Pictures, tmp_path: Path) -> None:
    grey = shown_of(pictures, made(tmp_path / "m", RAMP // 2 + 100, stored=12))
    assert (grey.min(), grey.max()) == (0, 255)
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_a_voi_lut_is_used_and_sent_along(pictures: Pictures, tmp_path: Path) -> None:
    lut = Dataset()
    lut.LUTDescriptor = [4096, 0, 8]
    lut.LUTData = [255 if value > 2000 else 17 for value in range(4096)]
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "US"
    path = changed(made(tmp_path / "m", RAMP, stored=12), VOILUTSequence=[lut])
    assert set(shown_of(pictures, path).ravel()) == {17, 255}
    (shown,) = every(pictures)
    about, _, table = unpacked(content(pictures, shown, Wish("raw")))
    assert about["table"]
    assert (len(table), table[2000], table[2001]) == (65536, 17, 255)


def test_floats_are_shown_and_scaled(pictures: Pictures, tmp_path: Path) -> None:
    path = made(tmp_path / "m", RAMP)
    ds = pydicom.dcmread(path)
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated = 32
    ds.FloatPixelData = (RAMP.astype("<f4") / 4096 - 0.5).tobytes()
    ds.save_as(path)
    grey = shown_of(pictures, path).ravel()
    assert (grey[0], grey[-1]) == (0, 255)
    (shown,) = every(pictures)
    about, samples, _ = unpacked(content(pictures, shown, Wish("raw")))
    values = samples.ravel() * about["slope"] + about["intercept"]
    assert values == pytest.approx(RAMP.ravel() / 4096 - 0.5, abs=1e-4)


COLOURS = [
    "examples_palette.dcm", "SC_rgb_rle.dcm", "examples_ybr_color.dcm", "SC_ybr_full_422_uncompressed.dcm",
    "SC_rgb_16bit.dcm", "examples_rgb_color.dcm",
]  # fmt: skip


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_those_that_pydicom_computes(pictures: Pictures, name: str) -> None:
    put(pictures.data, peers.sample(name))
    (shown,) = every(pictures)
    ours = decoded(content(pictures, shown, Wish("png"))).astype(int)
    ds = pydicom.dcmread(peers.sample(name))
    theirs = pydicom.pixel_array(ds, index=0)
    if name == "examples_palette.dcm":
        theirs = apply_color_lut(theirs, ds)
    theirs = (theirs >> 8 if theirs.dtype.itemsize > 1 else theirs).astype(int)
    assert np.abs(ours - theirs).max() <= 1
    about, samples, _ = unpacked(content(pictures, shown, Wish("raw")))
    assert about["samples"] == "rgb"
    assert (samples == ours).all()


def test_each_frame_of_many_is_its_own(pictures: Pictures, tmp_path: Path) -> None:
    frames = np.stack([np.full((20, 30), n * 100, np.uint16) for n in range(1, 8)])
    put(pictures.data, made(tmp_path / "m", frames))
    (shown,) = every(pictures)
    assert shown.frames == 7
    for n in range(1, 8):
        _, samples, _ = unpacked(content(pictures, shown, Wish("raw", n)))
        assert (samples == n * 100).all()
    for n in (0, 8, 10**9):
        assert get(pictures, shown, Wish("png", n)) == Unseen(f"it has 7 frames, there is no frame {n}")


def test_functional_groups_go_before_the_dataset(pictures: Pictures, tmp_path: Path) -> None:
    path = made(tmp_path / "m", np.concatenate([RAMP, RAMP, RAMP]), stored=12)
    per_frame = []
    for slope, center in ((1, 1000), (2, 3000), (None, None)):
        item, scale, voi = Dataset(), Dataset(), Dataset()
        if slope is not None:
            scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = slope, -10, "US"
            voi.WindowCenter, voi.WindowWidth = center, 500
            item.PixelValueTransformationSequence, item.FrameVOILUTSequence = [scale], [voi]
        per_frame.append(item)
    shared, usual = Dataset(), Dataset()
    usual.WindowCenter, usual.WindowWidth = 77, 99
    shared.FrameVOILUTSequence = [usual]
    changed(path, PerFrameFunctionalGroupsSequence=per_frame, SharedFunctionalGroupsSequence=[shared])
    put(pictures.data, changed(path, WindowCenter=5, WindowWidth=6))
    (shown,) = every(pictures)
    said = [unpacked(content(pictures, shown, Wish("raw", n)))[0] for n in (1, 2, 3)]
    assert [each["window"] for each in said] == [[1000, 500], [3000, 500], [77, 99]]
    assert [(each["slope"], each["intercept"]) for each in said] == [(1, -10), (2, -10), (1, 0)]


def test_frames_that_are_there_are_shown_though_others_are_cut_off(pictures: Pictures, tmp_path: Path) -> None:
    path = made(tmp_path / "m", np.tile(RAMP, (5, 1, 1)))
    path.write_bytes(path.read_bytes()[: -2 * RAMP.nbytes - 10])
    shutil.copy(path, pictures.data.jobs / JOB / "INPUT" / "cut.dcm")
    shown = Shown("1.2", "", 1, 5, 16, 16, Kind.IMAGE, "INPUT/cut.dcm")
    assert [isinstance(get(pictures, shown, Wish("png", n)), Rendered) for n in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("window", [(1e308, 1e-300), (-1e308, 1e308), (0.0, 1e-320), (1e-30, 1e30)])
def test_windows_of_any_size_are_drawn(pictures: Pictures, window: tuple[float, float]) -> None:
    put(pictures.data, peers.sample("CT_small.dcm"))
    (shown,) = every(pictures)
    assert decoded(content(pictures, shown, Wish("png", window=window))).shape == (128, 128)


def test_thumbnails_are_small_and_have_the_shape_of_the_body(pictures: Pictures, tmp_path: Path) -> None:
    path = changed(made(tmp_path / "m", np.tile(RAMP, (1, 20, 40))), PixelSpacing=[2.0, 1.0])
    put(pictures.data, path)
    (series,) = pictures.place(JOB, "INPUT").series
    found = pictures.thumbnail(series)
    assert found is not None
    picture = Image.open(BytesIO(content(pictures, *found)))
    assert (picture.format, picture.size) == ("JPEG", (160, 160))


def test_reports_and_documents_are_read_and_others_have_no_picture(pictures: Pictures, tmp_path: Path) -> None:
    pdf = pydicom.dcmread(made(tmp_path / "m", RAMP))
    del pdf.PixelData, pdf.Rows, pdf.Columns
    pdf.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    pdf.EncapsulatedDocument, pdf.EncapsulatedDocumentLength = b"%PDF-1.4 odd\0", 12
    pdf.save_as(tmp_path / "pdf.dcm")
    put(pictures.data, tmp_path / "pdf.dcm", peers.sample("reportsi.dcm"), peers.sample("waveform_ecg.dcm"))
    kinds = {each.kind: each for each in every(pictures)}
    assert kinds.keys() == {Kind.DOCUMENT, Kind.REPORT, Kind.OTHER}
    assert content(pictures, kinds[Kind.DOCUMENT], Wish("document")) == b"%PDF-1.4 odd"
    lines = json.loads(content(pictures, kinds[Kind.REPORT], Wish("report")))
    assert (lines[0]["depth"], lines[1]["depth"]) == (0, 1)
    assert any(line["kind"] == "TEXT" and line["value"] for line in lines)
    assert get(pictures, kinds[Kind.OTHER], Wish("png")) == Unseen("it has no pixel data")
