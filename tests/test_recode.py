"""Datasets with and without VRs, big endian and deflated: the same values, whatever they are; DCMTK agrees."""

import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
from compressed import every_file, syntax_of

from magickbox import transfersyntax as ts
from magickbox.transcoder import CannotTranscode, Transcoded
from magickbox.transcoding.pool import WorkerPool

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says much of odd values
NATIVE = [path for path in every_file() if syntax_of(path) in ts.NATIVE]
# Cut off, coded otherwise than their meta says, or without the group length that this test reads.
LEFT_OUT = {"MR_truncated.dcm", "rtplan_truncated.dcm", "DICOMDIR-nooffset", "DICOMDIR-implicit",
            "no_meta_group_length.dcm"}  # fmt: skip
BIG_OF_ALL = [path for path in NATIVE if syntax_of(path) == ts.EXPLICIT_BIG]
# Pixels of 32 bits, or of 16 bits as OB: what their writers did is not what the standard says.
UNCLEAR = [path for path in BIG_OF_ALL if "rtdose" in path.name or ("SC_rgb" in path.name and "bit" in path.name)]
BIG = [path for path in BIG_OF_ALL if path not in UNCLEAR]
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
OPEN = 0xFFFFFFFF
SAMPLE = sorted(
    {*NATIVE[::3]} - {*UNCLEAR} | {*BIG, *(path for path in NATIVE if "priv" in path.name or "UN" in path.name)}
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    pool = WorkerPool(tmp_path_factory.mktemp("converted"))
    yield pool
    pool.close()


def converted(pool: WorkerPool, path: Path, stored: str, target: str) -> Path:
    if stored == target:
        return path
    result = pool.transcode(path, stored, [target])
    assert isinstance(result, Transcoded), result
    return result.path


def raw(path: Path) -> dict[int, object]:
    """Every value's bytes as they stand in a little endian file; sequences as lists of the same; no group lengths."""
    data, syntax = peers.dataset_bytes(path), syntax_of(path)
    if syntax == ts.DEFLATED:
        data = zlib.decompress(data, -zlib.MAX_WBITS)
    return _elements(data, 0, len(data), explicit=syntax != ts.IMPLICIT_LITTLE)[0]


def _elements(data: bytes, at: int, end: int, *, explicit: bool) -> tuple[dict[int, object], int]:
    found: dict[int, object] = {}
    while at + 8 <= end:
        group, number, length = struct.unpack_from("<HHI", data, at)
        if group == 0xFFFE:
            return found, at + 8
        vr, at = b"", at + 8
        if explicit:
            vr, length = data[at - 4 : at - 2], length >> 16
            if vr in LONG:
                length, at = struct.unpack_from("<I", data, at)[0], at + 4
        if vr == b"SQ" or length == OPEN:
            value: object
            value, at = _items(data, at, end if length == OPEN else at + length, explicit=explicit and vr != b"UN")
        else:
            value, at = data[at : at + length], at + length
        if number:
            found[group << 16 | number] = value
    return found, at


def _items(data: bytes, at: int, end: int, *, explicit: bool) -> tuple[list[object], int]:
    found: list[object] = []
    while at < end:
        group, number, length = struct.unpack_from("<HHI", data, at)
        assert group == 0xFFFE
        at += 8
        if number == 0xE0DD:
            break
        item, at = _elements(data, at, end if length == OPEN else at + length, explicit=explicit)
        found.append(item)
    return found, at


@pytest.mark.parametrize("path", [path for path in SAMPLE if path.name not in LEFT_OUT], ids=lambda path: path.name)
def test_every_value_keeps_its_bytes_through_every_coding(pool: WorkerPool, path: Path) -> None:
    stored = syntax_of(path)
    explicit = converted(pool, path, stored, ts.EXPLICIT_LITTLE)
    implicit = converted(pool, path, stored, ts.IMPLICIT_LITTLE)
    deflated = converted(pool, explicit, ts.EXPLICIT_LITTLE, ts.DEFLATED)
    back = converted(pool, deflated, ts.DEFLATED, ts.EXPLICIT_LITTLE)
    values = raw(explicit)
    assert values
    assert raw(back) == values
    assert raw(deflated) == values
    assert raw(implicit) == values


@pytest.mark.parametrize("path", UNCLEAR, ids=lambda path: path.name)
def test_big_endian_pixels_whose_order_is_not_certain_are_refused(pool: WorkerPool, path: Path) -> None:
    result = pool.transcode(path, ts.EXPLICIT_BIG, [ts.EXPLICIT_LITTLE])
    assert isinstance(result, CannotTranscode)
    assert result.reason.startswith("the byte order of big endian pixel data of ")


@pytest.mark.peer
@pytest.mark.parametrize("path", BIG, ids=lambda path: path.name)
def test_big_endian_becomes_what_dcmtk_makes_of_it(pool: WorkerPool, path: Path, tmp_path: Path) -> None:
    ours = converted(pool, path, ts.EXPLICIT_BIG, ts.EXPLICIT_LITTLE)
    theirs = tmp_path / "dcmtk.dcm"
    subprocess.run([peers.dcmtk("dcmconv"), "+te", str(path), str(theirs)], check=True, capture_output=True)
    assert raw(ours) == raw(theirs)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "test-SR.dcm", "reportsi.dcm"])
def test_dcmtk_reads_what_was_made_implicit(pool: WorkerPool, name: str, tmp_path: Path) -> None:
    path = peers.sample(name)
    stored = syntax_of(path)
    implicit = converted(pool, path, stored, ts.IMPLICIT_LITTLE)
    explicit = converted(pool, implicit, ts.IMPLICIT_LITTLE, ts.EXPLICIT_LITTLE)
    for ours in (implicit, explicit):
        told = subprocess.run([peers.dcmtk("dcmdump"), "+L", str(ours)], check=True, capture_output=True)
        assert b"E:" not in told.stderr
        assert b"W:" not in told.stderr


def test_what_ends_inside_an_element_is_said(pool: WorkerPool) -> None:
    result = pool.transcode(peers.sample("rtplan_truncated.dcm"), ts.IMPLICIT_LITTLE, [ts.EXPLICIT_LITTLE])
    assert result == CannotTranscode("the file cannot be read: the dataset ends inside an element of its header")


def test_deep_nesting_costs_no_stack(pool: WorkerPool, tmp_path: Path) -> None:
    deep = 20_000
    inside = struct.pack("<HHI", 0x0008, 0x0100, 4) + b"CODE"
    opened = struct.pack("<HHI", 0x0040, 0xA730, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closed = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    path = _implicit(tmp_path, opened * deep + inside + closed * deep)
    explicit = converted(pool, path, ts.IMPLICIT_LITTLE, ts.EXPLICIT_LITTLE)
    again = converted(pool, explicit, ts.EXPLICIT_LITTLE, ts.IMPLICIT_LITTLE)
    assert peers.dataset_bytes(again) == peers.dataset_bytes(path)


def test_a_long_value_of_a_short_vr_is_kept_as_unknown(pool: WorkerPool, tmp_path: Path) -> None:
    text = b"x" * 70_000
    path = _implicit(tmp_path, struct.pack("<HHI", 0x0008, 0x1030, len(text)) + text)
    explicit = converted(pool, path, ts.IMPLICIT_LITTLE, ts.EXPLICIT_LITTLE)
    element = peers.dataset_bytes(explicit)
    assert element == struct.pack("<HH2sHI", 0x0008, 0x1030, b"UN", 0, len(text)) + text


def _implicit(folder: Path, dataset: bytes) -> Path:
    syntax = ts.IMPLICIT_LITTLE.encode() + b"\0"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    path = folder / "made.dcm"
    path.write_bytes(bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta + dataset)
    return path
