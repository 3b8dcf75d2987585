"""What patterns see of real files, with pydicom as the oracle, and of files that are broken."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from magickbox.dicom.tagvalues import values_in, values_of
from magickbox.tagpath import TagPath, TagStep, parse_tag_path

DATA = Path(pydicom.__file__).parent / "data"
SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
TEXT = frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"])


@contextmanager
def pydicom_says() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def written(path: Path, ds: pydicom.Dataset, syntax: str = SYNTAXES[1]) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.setdefault("SOPClassUID", "1.2.840.10008.5.1.4.1.1.4")
    ds.setdefault("SOPInstanceUID", "1.2.3")
    with pydicom_says():
        pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def look(path: Path, *tags: str) -> list[tuple[str, ...]]:
    wanted = [parse_tag_path(tag) for tag in tags]
    found = values_of(path, wanted).values
    return [found[tag] for tag in wanted]


@pytest.fixture(params=SYNTAXES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    ds = pydicom.Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Modality = "MR"
    ds.SeriesDescription = " T1 Größe "
    ds.EchoTime = "4.50"
    ds.Rows = 512
    ds.FlipAngle = None
    ds.ImageComments = "  kept in front, "
    ds.RealWorldValueSlope = 0.25
    ds.FrameIncrementPointer = [0x00181063, 0x00181065]
    ds.PixelData = bytes(512)
    ds["PixelData"].VR = "OW"
    inner = [pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()]
    inner[0].CodeValue, inner[1].CodeValue = "T-A0100", "T-B0200"
    inner[1].CodeMeaning = "Größe"
    outer = pydicom.Dataset()
    outer.ViewCodeSequence = inner
    ds.RequestAttributesSequence = [outer, pydicom.Dataset()]
    block = ds.private_block(0x0029, "ACME 1/2, INC", create=True)
    block.add_new(0x10, "LO", "secret sauce")
    other = ds.private_block(0x0029, "OTHER", create=True)
    other.add_new(0x10, "LO", "not this")
    return written(tmp_path / "x.dcm", ds, request.param)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("0008,0060", ("MR",)),
        ("Modality", ("MR",)),
        ("0008,103e", ("T1 Größe",)),
        ("ImageType", ("ORIGINAL\\PRIMARY\\AXIAL",)),
        ("EchoTime", ("4.50",)),
        ("Rows", ("512",)),
        ("FrameIncrementPointer", ("0018,1063\\0018,1065",)),
        ("FlipAngle", ("",)),
        ("ImageComments", ("  kept in front,",)),
        ("PatientName", ("",)),
        ("RealWorldValueSlope", ("0.25",)),
        ("0029,ACME 1/2, INC,10", ("secret sauce",)),
        ("0029,OTHER,10", ("not this",)),
        ("0029,NOBODY,10", ("",)),
        ("RequestAttributesSequence/ViewCodeSequence/CodeValue", ("T-A0100", "T-B0200")),
        ("0040,0275/0054,0220/0008,0104", ("Größe",)),
        ("RequestAttributesSequence/ViewCodeSequence", ("3",)),
        ("RequestAttributesSequence/Modality", ("",)),
        ("Modality/Modality", ("",)),
        ("MediaStorageSOPInstanceUID", ("1.2.3",)),
    ],
)
def test_the_text_of_a_tag_in_every_coding(sample: Path, tag: str, expected: tuple[str, ...]) -> None:
    assert look(sample, tag) == [expected]


def test_the_transfer_syntax_can_be_asked_for(sample: Path) -> None:
    assert look(sample, "TransferSyntaxUID", "Modality") in [[(syntax,), ("MR",)] for syntax in SYNTAXES]


def as_pydicom_has_it(element: pydicom.DataElement) -> str:
    values = element.value if element.VM > 1 else [element.value]
    texts = ["" if value is None else str(value) for value in values]
    if element.VR in ("DS", "IS"):
        texts = [getattr(value, "original_string", text) for value, text in zip(values, texts, strict=True)]
    if element.VR in ("ST", "LT", "UT", "UR"):
        return "\\".join(texts).rstrip("\0 ")
    return "\\".join(text.strip("\0 ") for text in texts)


def real_files() -> list[Path]:
    return sorted(file for file in DATA.rglob("*") if file.is_file() and file.suffix in (".dcm", ".DCM", ""))


@pytest.mark.parametrize("file", real_files(), ids=lambda file: file.name)
def test_every_text_of_every_real_file_is_as_pydicom_reads_it(file: Path) -> None:
    try:
        with pydicom_says():
            ds = pydicom.dcmread(file, stop_before_pixels=True)
            texts = {
                TagPath((TagStep(*divmod(int(element.tag), 0x10000)),)): as_pydicom_has_it(element)
                for element in ds
                if element.VR in TEXT and not element.tag.is_private
            }
    except (InvalidDicomError, EOFError, ValueError, NotImplementedError):
        pytest.skip("pydicom does not read it")
    found = values_of(file, texts).values
    # pydicom drops the = of empty component groups at a name's end, which are there as stored
    assert {str(tag): found[tag][0].rstrip("=") for tag in texts} == {str(tag): text for tag, text in texts.items()}


class TestBroken:
    """Files that nobody should send, and some do."""

    def test_what_stands_before_the_damage_is_read_and_the_damage_noted(self, tmp_path: Path) -> None:
        ds = pydicom.Dataset()
        ds.Modality, ds.SeriesDescription = "MR", "T1"
        path = written(tmp_path / "x.dcm", ds)
        path.write_bytes(path.read_bytes()[:-2])
        found = values_of(path, [parse_tag_path("Modality"), parse_tag_path("SeriesDescription")])
        assert list(found.values.values()) == [("MR",), ("",)]
        assert found.notes == ("the dataset ends inside an element of its header",)

    def test_no_dicom_at_all(self) -> None:
        found = values_in(BytesIO(b"hello"), [parse_tag_path("Modality")])
        assert list(found.values.values()) == [("",)]
        assert "DICM" in found.notes[0]

    def test_a_note_never_holds_a_value(self, tmp_path: Path) -> None:
        ds = pydicom.Dataset()
        ds.add_new(0x00091010, "OB", b"Smith^John\0\1")
        ds.add_new(0x00091011, "UN", b"Smith^John\0\1")
        ds.add_new(0x00091012, "UT", "Smith^John" * 10_000)
        path = written(tmp_path / "x.dcm", ds)
        found = values_of(path, [parse_tag_path(tag) for tag in ("0009,1010", "0009,1011", "0009,1012")])
        assert set(found.values.values()) == {("",)}
        assert len(found.notes) == 3
        assert not any("Smith" in note for note in found.notes)

    @pytest.mark.parametrize("depth", [50, 100_000])
    def test_nesting_costs_nothing(self, tmp_path: Path, depth: int) -> None:
        head = struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        tail = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        path = written(tmp_path / "x.dcm", pydicom.Dataset())
        with path.open("ab") as stream:
            stream.write(head * depth + tail * depth + struct.pack("<HH2sH", 8, 0x103E, b"LO", 2) + b"T1")
        assert look(path, "ReferencedImageSequence/ReferencedImageSequence/Modality", "ReferencedImageSequence") == [
            ("",),
            ("1",),
        ]

    @pytest.mark.parametrize("charset", [b"ISO_IR 999", b"", b"\\\\", b"ISO 2022 IR 87\\ISO 2022 IR 6", b"\xff\xff"])
    @pytest.mark.parametrize("value", [b"\x1b$B\xff\xff", b"\x1bzz", b"\xff\xfe", b"\x1b-Fabc\\def", b"\x1b"])
    def test_character_sets_that_do_not_fit_never_fail(self, charset: bytes, value: bytes) -> None:
        data = b"\0" * 128 + b"DICM"
        for element, vr, text in ((5, b"CS", charset), (0x103E, b"LO", value)):
            data += struct.pack("<HH2sH", 8, element, vr, len(text)) + text
        assert values_in(BytesIO(data), [parse_tag_path("SeriesDescription")]).values

    @settings(max_examples=200, deadline=5000)
    @given(st.binary(max_size=300))
    def test_any_bytes(self, raw: bytes) -> None:
        wanted = [parse_tag_path(tag) for tag in ("Modality", "0009,ACME,10", "ReferencedImageSequence/Rows")]
        assert len(values_in(BytesIO(b"\0" * 128 + b"DICM" + raw), wanted).values) == 3


class TestTagPath:
    """How rules name elements."""

    @pytest.mark.parametrize(
        ("text", "written_out"),
        [
            ("0008,103e", "0008,103E"),
            ("SeriesDescription", "0008,103E"),
            ("0029,SIEMENS CSA HEADER,10", "0029,SIEMENS CSA HEADER,10"),
            ("0029,A/B Corp, Inc,10", "0029,A/B Corp, Inc,10"),
            ("0040,0275/CodeValue", "0040,0275/0008,0100"),
            ("0029,ACME,10/0029,ACME,11/Modality", "0029,ACME,10/0029,ACME,11/0008,0060"),
        ],
    )
    def test_forms(self, text: str, written_out: str) -> None:
        assert str(parse_tag_path(text)) == written_out

    @pytest.mark.parametrize(
        "text", ["", "/", "Modality/", "0008", "0008103e", "Modalty", "7fe0,0010", "/".join(["Modality"] * 17)]
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"tag|pixel|steps"):
            parse_tag_path(text)
