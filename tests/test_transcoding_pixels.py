"""Every compressed file of pydicom and pydicom-data, converted: pydicom and DCMTK decode the same from both."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import peers
import pydicom
import pytest
from compressed import every_file, image, syntax_of
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import pixel_array

from magickbox import transfersyntax as ts
from magickbox.transcoder import CannotTranscode, Transcoded
from magickbox.transcoding.pool import WorkerPool

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of headers that do not fit their contents

COMPRESSED = [path for path in every_file() if syntax_of(path) in ts.ENCAPSULATED]
# What pydicom cannot decode without a GPL decoder; DCMTK is asked instead.
JPEG_OF_DCMTK = [
    path for path in COMPRESSED if syntax_of(path) in (ts.JPEG_EXTENDED, ts.JPEG_LOSSLESS_SV1, ts.JPEG_LOSSLESS)
]
DAMAGED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "its pixel data cannot be converted",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "the dataset ends inside an element",
}
LOSSY_RLE_AND_OTHERS = [path for path in COMPRESSED if path not in JPEG_OF_DCMTK and path.name not in DAMAGED]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    pool = WorkerPool(tmp_path_factory.mktemp("converted"))
    yield pool
    pool.close()


def converted(pool: WorkerPool, path: Path, stored: str, target: str) -> Path:
    result = pool.transcode(path, stored, [target])
    assert isinstance(result, Transcoded), result
    assert result.transfer_syntax == target
    return result.path


def decoded(path: Path) -> np.ndarray | None:
    """What pydicom makes of its pixel data, colours as RGB; of very many frames only some."""
    ds = pydicom.dcmread(path)
    if "PixelData" not in ds:
        return None
    frames = int(ds.get("NumberOfFrames") or 1)
    if frames <= 50:
        return pixel_array(ds)
    return np.stack([pixel_array(ds, index=n) for n in (0, 1, frames // 2, frames - 1)])


def name(path: Path) -> str:
    return path.name


def test_there_are_files_of_every_kind() -> None:
    assert len(COMPRESSED) > 55
    assert {syntax_of(path) for path in COMPRESSED} >= {
        ts.JPEG_BASELINE, ts.JPEG_EXTENDED, ts.JPEG_LOSSLESS_SV1, ts.JPEG_LS, ts.JPEG_LS_NEAR, ts.JPEG_2000_LOSSLESS,
        ts.JPEG_2000, ts.RLE,
    }  # fmt: skip


@pytest.mark.parametrize("path", LOSSY_RLE_AND_OTHERS, ids=name)
def test_decompressed_pixels_are_those_that_pydicom_decodes(pool: WorkerPool, path: Path) -> None:
    plain = converted(pool, path, syntax_of(path), ts.EXPLICIT_LITTLE)
    _same(decoded(path), decoded(plain))
    _same_but_for_pixels(path, plain)


@pytest.mark.peer
@pytest.mark.parametrize("path", JPEG_OF_DCMTK, ids=name)
def test_decompressed_pixels_are_those_that_dcmtk_decodes(pool: WorkerPool, path: Path, tmp_path: Path) -> None:
    plain = converted(pool, path, syntax_of(path), ts.EXPLICIT_LITTLE)
    subprocess.run([peers.dcmtk("dcmdjpeg"), str(path), str(tmp_path / "dcmtk.dcm")], check=True, capture_output=True)
    _same(decoded(tmp_path / "dcmtk.dcm"), decoded(plain))
    _same_but_for_pixels(path, plain)


@pytest.mark.peer
@pytest.mark.parametrize("path", [p for p in COMPRESSED if syntax_of(p) in (ts.RLE, ts.JPEG_LS)], ids=name)
def test_dcmtk_decodes_the_same_from_rle_and_jpeg_ls(pool: WorkerPool, path: Path, tmp_path: Path) -> None:
    plain = converted(pool, path, syntax_of(path), ts.EXPLICIT_LITTLE)
    tool = peers.dcmtk("dcmdrle" if syntax_of(path) == ts.RLE else "dcmdjpls")
    subprocess.run([tool, str(path), str(tmp_path / "dcmtk.dcm")], check=True, capture_output=True)
    _same(decoded(tmp_path / "dcmtk.dcm"), decoded(plain))


@pytest.mark.parametrize("target", [ts.JPEG_2000_LOSSLESS, ts.HTJ2K_LOSSLESS, ts.JPEG_LS, ts.RLE, ts.DEFLATED])
@pytest.mark.parametrize("path", LOSSY_RLE_AND_OTHERS[::4] + JPEG_OF_DCMTK[::3], ids=name)
def test_there_and_back_is_identical(pool: WorkerPool, path: Path, target: str) -> None:
    plain = converted(pool, path, syntax_of(path), ts.EXPLICIT_LITTLE)
    result = pool.transcode(plain, ts.EXPLICIT_LITTLE, [target])
    if isinstance(result, CannotTranscode):
        image = pydicom.dcmread(plain)
        assert "bits" in result.reason or "at least 32 by 32" in result.reason, result
        assert image.BitsAllocated > 16 or min(image.Rows, image.Columns) < 32
        return
    _same(decoded(plain), decoded(result.path))
    again = converted(pool, result.path, target, ts.EXPLICIT_LITTLE)
    assert again.read_bytes() == plain.read_bytes()


MADE: dict[str, tuple[type, int | None, dict[str, object]]] = {
    "u1": (np.uint8, None, {}),
    "u2 of 12 bits": (np.uint16, 12, {}),
    "i2 of 12 bits": (np.int16, 12, {}),
    "i2": (np.int16, None, {}),
    "i1": (np.int8, None, {}),
    "rgb": (np.uint8, None, {"colour": True}),
    "rgb by plane": (np.uint8, None, {"colour": True, "PlanarConfiguration": 1}),
    "ybr": (np.uint8, None, {"colour": True, "PhotometricInterpretation": "YBR_FULL"}),
    "rgb of 16 bits": (np.uint16, None, {"colour": True}),
}


@pytest.mark.parametrize("target", [ts.JPEG_2000_LOSSLESS, ts.HTJ2K_LOSSLESS, ts.JPEG_LS, ts.RLE])
@pytest.mark.parametrize("kind", MADE)
def test_noise_of_every_kind_survives_every_encoder(pool: WorkerPool, tmp_path: Path, kind: str, target: str) -> None:
    dtype, stored, more = MADE[kind]
    more = dict(more)
    shape = (3, 37, 41, 3) if more.pop("colour", False) else (3, 37, 41)
    bits = stored or np.dtype(dtype).itemsize * 8
    low, high = (-(1 << bits - 1), 1 << bits - 1) if np.dtype(dtype).kind == "i" else (0, 1 << bits)
    pixels: np.ndarray = np.random.default_rng(1).integers(low, high, shape).astype(dtype)
    item = image(tmp_path, pixels, stored=stored, **more)
    small = converted(pool, item.path, ts.EXPLICIT_LITTLE, target)
    again = converted(pool, small, target, ts.EXPLICIT_LITTLE)
    expected = pixel_array(item.path)
    _same(expected, pixel_array(again))
    found = pixel_array(small, raw=True)
    if pydicom.dcmread(small).PhotometricInterpretation == "YBR_FULL":
        found = convert_color_space(found, "YBR_FULL", "RGB", per_frame=True)
    _same(expected, found)


def _same(expected: np.ndarray | None, found: np.ndarray | None) -> None:
    if expected is None or found is None:
        assert expected is found
        return
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


def _same_but_for_pixels(before: Path, after: Path) -> None:
    """Every element has the same bytes; only what native pixels demand is another."""
    old, new = pydicom.dcmread(before), pydicom.dcmread(after)
    rewritten = {"PixelData", "PhotometricInterpretation", "PlanarConfiguration"}
    gone = {"ExtendedOffsetTable", "ExtendedOffsetTableLengths"}
    assert {each.tag for each in new} == {
        each.tag for each in old if each.keyword not in gone and each.tag.element != 0
    }
    for each in new:
        if each.keyword not in rewritten:
            assert each.VR == old[each.tag].VR
            assert each.value == old[each.tag].value, each.tag
    if "PixelData" in new and new.SamplesPerPixel == 3:
        assert new.PlanarConfiguration == 0
        assert new.PhotometricInterpretation in ("RGB", "YBR_FULL", old.PhotometricInterpretation)
