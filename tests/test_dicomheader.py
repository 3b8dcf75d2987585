"""The header scanner against pydicom on every real file at hand, and against what no honest peer sends."""

import io
import struct
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from magickbox.dicom import forwardreader
from magickbox.dicom.header import Identity, identify, items, read_file_meta, scan
from magickbox.errors import UnreadableHeader

SITE = Path(pydicom.__file__).parent.parent
FILES = [
    file
    for folder in ("pydicom/data", "pynetdicom", "data_store")
    for file in sorted((SITE / folder).rglob("*"))
    if file.is_file() and file.suffix not in {".py", ".pyc", ".json", ".txt"}
]
KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "Modality", "StudyInstanceUID", "SeriesInstanceUID")
LITTLE, IMPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
SERIES = struct.pack("<HH2sH", 0x20, 0xE, b"UI", 4) + b"1.2\0"
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def sequence(vr: bytes = b"SQ", length: int = 0xFFFFFFFF) -> bytes:
    return struct.pack("<HH2sHL", 8, 0x1140, vr, 0, length)


def series_of(data: bytes, syntax: str = LITTLE) -> str:
    return identify(io.BytesIO(data), syntax).series


@contextmanager
def pydicom_says() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def identity_of(ds: pydicom.Dataset) -> Identity:
    return Identity(*(str(ds.get(keyword, "") or "").strip("\0 ") for keyword in KEYWORDS))


def real_headers() -> list[tuple[Path, pydicom.FileDataset]]:
    found = []
    for file in FILES:
        try:
            with pydicom_says():
                found.append((file, pydicom.dcmread(file, stop_before_pixels=True)))
        except (InvalidDicomError, EOFError):
            continue
    return found


HEADERS = real_headers()


def test_there_are_enough_real_files_to_mean_something() -> None:
    assert len(HEADERS) > 200


@pytest.mark.parametrize(("file", "ds"), HEADERS, ids=[file.name for file, _ in HEADERS])
def test_every_real_file_is_identified_as_pydicom_does(file: Path, ds: pydicom.FileDataset) -> None:
    with file.open("rb") as stream:
        meta = read_file_meta(stream)
        found = identify(stream, meta.transfer_syntax)
    with pydicom_says():
        assert meta.transfer_syntax == str(ds.file_meta.get("TransferSyntaxUID", ""))
        assert meta.sop_instance == str(ds.file_meta.get("MediaStorageSOPInstanceUID", ""))
        assert found == identity_of(ds)


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("name", ["CT_small.dcm", "reportsi.dcm", "rtplan.dcm", "DICOMDIR", "nested_priv_SQ.dcm"])
@pytest.mark.parametrize("open_sequences", [True, False])
def test_a_header_reads_the_same_in_every_coding(name: str, syntax: str, open_sequences: bool) -> None:
    with pydicom_says():
        ds = pydicom.dcmread(next(file for file in FILES if file.name == name), stop_before_pixels=True)
        ds.ReferencedImageSequence = [pydicom.Dataset(), pydicom.Dataset()]
        ds.ReferencedImageSequence[1].ReferencedSOPClassUID = "1.2.3"
        for element in ds.iterall():
            element.is_undefined_length = open_sequences and element.VR == "SQ"
        stream = DicomBytesIO()
        stream.is_implicit_VR, stream.is_little_endian = syntax == IMPLICIT, syntax != BIG
        expected = identity_of(ds)
        write_dataset(stream, pydicom.Dataset({e.tag: e for e in ds}))
    data = stream.getvalue()
    if syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-15)
        data = packer.compress(data) + packer.flush()
    assert identify(io.BytesIO(data), syntax) == expected


def test_absent_elements_are_empty_text() -> None:
    assert identify(io.BytesIO(b""), LITTLE) == Identity("", "", "", "", "")
    assert identify(io.BytesIO(SERIES), LITTLE) == Identity("", "", "", "", "1.2")


@pytest.mark.parametrize(
    ("what", "before"),
    [
        ("an open sequence", sequence() + ITEM + SERIES + ITEM_END + SEQUENCE_END),
        ("a closed item in it", sequence() + struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"abcd" + SEQUENCE_END),
        ("no item end", sequence() + ITEM + SERIES + SEQUENCE_END),
        ("no item end between two", sequence() + ITEM + SERIES + ITEM + ITEM_END + SEQUENCE_END),
        (
            "UN holding implicit",
            sequence(b"UN") + ITEM + struct.pack("<HHL", 8, 5, 2) + b"ab" + ITEM_END + SEQUENCE_END,
        ),
        ("UN holding explicit", sequence(b"UN") + ITEM + SERIES + ITEM_END + SEQUENCE_END),
        ("implicit in explicit", sequence() + ITEM + struct.pack("<HHL", 8, 5, 2) + b"ab" + ITEM_END + SEQUENCE_END),
        ("VR of zeros", struct.pack("<HH2sH", 8, 0x60, b"\0\0", 2) + b"MR"),
        ("VR of question marks", struct.pack("<HH2sH", 8, 0x60, b"??", 2) + b"MR"),
        ("a VR of the future", struct.pack("<HH2sHL", 9, 0x1060, b"ZX", 0, 4) + b"abcd"),
        ("a stray item end", ITEM_END),
        (
            "tags out of order",
            struct.pack("<HH2sH", 0x10, 0x10, b"PN", 2) + b"ab" + struct.pack("<HH2sH", 8, 0, b"UL", 0),
        ),
        ("an OB in fragments", sequence(b"OB") + struct.pack("<HHL", 0xFFFE, 0xE000, 2) + b"ab" + SEQUENCE_END),
    ],
)
def test_what_real_writers_do_is_passed_over(what: str, before: bytes) -> None:
    assert series_of(before + SERIES) == "1.2"


def test_explicit_that_was_announced_as_implicit_and_the_other_way_round_is_read() -> None:
    assert series_of(SERIES, IMPLICIT) == "1.2"
    assert series_of(struct.pack("<HHL", 0x20, 0xE, 4) + b"1.2\0", LITTLE) == "1.2"


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("cut in a value", SERIES[:-1]),
        ("cut in a header", SERIES[:5]),
        ("cut in a long length", sequence()[:9]),
        ("cut in a sequence", sequence() + ITEM + SERIES),
        ("no items in a sequence", sequence() + SERIES),
        ("a length of 4 GB", sequence(b"OB", 0xFFFFFFFE) + SERIES),
        ("a UID of 70,000 bytes", struct.pack("<HH2sHL", 0x20, 0xE, b"UC", 0, 70_000) + b"1" * 70_000),
        ("a UID of 4 GB", struct.pack("<HH2sHL", 0x20, 0xE, b"UC", 0, 0xFFFFFFFE) + b"1" * 70_000),
    ],
)
def test_what_cannot_be_read_is_said(what: str, data: bytes) -> None:
    with pytest.raises(UnreadableHeader):
        series_of(data)


def test_nesting_of_100_000_levels_is_walked_without_recursion() -> None:
    depth = 100_000
    began = time.perf_counter()
    assert series_of((sequence() + ITEM) * depth + (ITEM_END + SEQUENCE_END) * depth + SERIES) == "1.2"
    with pytest.raises(UnreadableHeader):
        series_of((sequence() + ITEM) * depth)
    assert time.perf_counter() - began < 5


def test_a_file_of_elements_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwardreader, "MAX_ELEMENTS", 1000)
    with pytest.raises(UnreadableHeader, match="more than 1000 elements"):
        series_of(b"\0" * 16_000)
    with pytest.raises(UnreadableHeader, match="more than 1000 elements"):
        series_of(sequence() + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 2000)


def test_a_deflate_bomb_is_refused_and_costs_no_memory() -> None:
    packer = zlib.compressobj(9, wbits=-15)
    bomb = packer.compress(sequence(b"OB", 200_000_000))
    bomb += b"".join(packer.compress(bytes(1_000_000)) for _ in range(200)) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableHeader, match="deflated"):
            series_of(bomb, DEFLATED)
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


def test_damaged_deflate_is_said() -> None:
    with pytest.raises(UnreadableHeader, match="damaged"):
        series_of(b"\xff" * 100, DEFLATED)


def test_skipping_a_large_value_reads_and_keeps_none_of_it(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.write(sequence(b"OB", 2_000_000_000))
        stream.seek(2_000_000_000, 1)
        stream.write(SERIES)
    tracemalloc.start()
    try:
        with file.open("rb") as stream:
            assert identify(stream, LITTLE).series == "1.2"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_wanted_sequence_gives_its_items() -> None:
    inner = SERIES + sequence() + ITEM + SERIES + ITEM_END + SEQUENCE_END
    closed = struct.pack("<HHL", 0xFFFE, 0xE000, len(SERIES)) + SERIES
    found = scan(
        io.BytesIO(sequence() + ITEM + inner + ITEM_END + closed + SEQUENCE_END),
        LITTLE,
        frozenset({0x00081140}),
        SERIES_TAG,
    )
    assert list(items(found[0x00081140])) == [inner + ITEM_END, SERIES]


def test_a_wanted_value_that_is_too_long_is_found_without_its_value() -> None:
    for data in (sequence(b"OB", 100) + bytes(100), sequence() + (ITEM + ITEM_END) * 10 + SEQUENCE_END):
        found = scan(io.BytesIO(data + SERIES), LITTLE, frozenset({0x00081140, SERIES_TAG}), SERIES_TAG, longest=99)
        assert found[0x00081140].value is None
        assert found[SERIES_TAG].value == b"1.2\0"


SERIES_TAG = 0x0020000E


class TestFileMeta:
    """The File Meta Information of files that are not quite right."""

    SYNTAX = struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + LITTLE.encode() + b"\0"

    def part10(self, meta: bytes) -> io.BytesIO:
        return io.BytesIO(b"\0" * 128 + b"DICM" + meta + SERIES)

    @pytest.mark.parametrize("length", [None, 28, 0, 500_000])
    def test_the_group_length_may_be_absent_or_wrong(self, length: int | None) -> None:
        group = b"" if length is None else struct.pack("<HH2sHL", 2, 0, b"UL", 4, length)
        stream = self.part10(group + self.SYNTAX)
        assert read_file_meta(stream).transfer_syntax == LITTLE
        assert identify(stream, LITTLE).series == "1.2"

    def test_no_prefix(self) -> None:
        with pytest.raises(UnreadableHeader, match="DICM"):
            read_file_meta(io.BytesIO(b"hello"))

    def test_cut(self) -> None:
        with pytest.raises(UnreadableHeader):
            read_file_meta(io.BytesIO((b"\0" * 128 + b"DICM" + self.SYNTAX)[:-3]))

    def test_deflated_bytes_that_look_like_group_2_are_not_meta(self) -> None:
        group = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(self.SYNTAX))
        stream = io.BytesIO(b"\0" * 128 + b"DICM" + group + self.SYNTAX + b"\2\0garbage")
        meta = read_file_meta(stream)
        assert stream.read(2) == b"\2\0"
        assert meta.offset == 132 + 12 + 28


SMALL = [file for file, _ in HEADERS if file.stat().st_size < 20_000]


@settings(max_examples=400, deadline=5000)
@given(data=st.data())
def test_mutated_files_give_a_result_or_unreadable_header(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(SMALL)).read_bytes())
    for _ in range(data.draw(st.integers(0, 12))):
        raw[data.draw(st.integers(128, min(len(raw) - 1, 2000)))] = data.draw(st.sampled_from([0, 1, 0xFF, 0xFE, 0x55]))
    stream = io.BytesIO(bytes(raw[: data.draw(st.integers(0, len(raw)))]) if data.draw(st.booleans()) else bytes(raw))
    with suppress(UnreadableHeader):
        identify(stream, read_file_meta(stream).transfer_syntax)


@settings(max_examples=400, deadline=5000)
@given(st.binary(max_size=300), st.sampled_from([LITTLE, IMPLICIT, BIG, DEFLATED, ""]))
def test_any_bytes_give_a_result_or_unreadable_header(raw: bytes, syntax: str) -> None:
    with suppress(UnreadableHeader):
        found = scan(io.BytesIO(raw), syntax, frozenset({0x00080016, 0x00081140}), 0xFFFFFFFF)
        for element in found.values():
            list(items(element))
