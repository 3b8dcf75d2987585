"""All elements of a file as lines: against pydicom, and with what strangers send."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from compressed import every_file
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from studies import study

from magickbox.dicom.elementtree import DEEPEST, ElementTree, element_tree
from magickbox.errors import UnreadableHeader

FILES = [path for path in every_file() if path.stat().st_size < 1_000_000]


def by_pydicom(ds: Dataset) -> list[int | None]:
    """The tags of a dataset as a person reads them down the page, None for each item."""
    found: list[int | None] = []
    for tag in sorted(ds.keys()):
        if tag in (0x7FE00010, 0x7FE00008, 0x7FE00009):
            return [*found, int(tag)]
        if tag.element == 0 and tag.group > 2:
            pass  # a group length is an element like others
        found.append(int(tag))
        if ds[tag].VR == "SQ":
            for item in ds[tag].value:
                found += [None, *by_pydicom(item)]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_elements_are_those_that_pydicom_finds(path: Path) -> None:
    try:
        ds = dcmread(path)
        expected = by_pydicom(ds)
    except Exception as exc:  # noqa: BLE001  # pydicom raises whatever it meets
        pytest.skip(f"pydicom does not read it: {exc!r}")
    try:
        tree = element_tree(path)
    except UnreadableHeader:
        return  # no file as PS3.10 has it
    tags = [line.tag for line in tree.lines if line.tag is None or line.tag >> 16 != 2]
    if not tree.note:
        assert Counter(tags) >= Counter(expected) or any(line.vr == "UN" for line in tree.lines)
    else:
        assert tags == expected[: len(tags)]


def saved(path: Path, ds: Dataset, syntax: str) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_values_are_told_as_text(tmp_path: Path, syntax: str) -> None:
    ds, item = Dataset(), Dataset()
    ds.SpecificCharacterSet, ds.PatientName, ds.ImageType = "ISO_IR 192", "Müller^Jörg", ["ORIGINAL", "PRIMARY"]
    ds.Rows, ds.PixelData, ds.BitsAllocated, ds.PixelRepresentation = 512, b"\1" * 64, 8, 0
    item.CodeMeaning = "Ärm"
    ds.AnatomicRegionSequence = [item, item]
    block = ds.private_block(0x0009, "THE MAKER", create=True)
    block.add_new(1, "LO", "private text")
    block.add_new(2, "OB", bytes(range(256)))
    lines = element_tree(saved(tmp_path / "a.dcm", ds, syntax)).lines
    told = {line.name: line for line in lines}
    assert told["Patient's Name"].text == "Müller^Jörg"
    assert told["Image Type"].text == "ORIGINAL\\PRIMARY"
    assert (told["Rows"].text, told["Rows"].vr, told["Rows"].length) == ("512", "US", 2)
    assert told["Private Creator"].text == "THE MAKER"
    assert [line.depth for line in lines if line.name in ("item 2", "Code Meaning")] == [2, 1, 2]
    assert [line.text for line in lines if line.name == "Code Meaning"] == ["Ärm", "Ärm"]
    assert (lines[-1].tag, lines[-1].text, lines[-1].length) == (0x7FE00010, None, 64)
    private = [line for line in lines if line.tag in (0x00091001, 0x00091002)]
    assert [line.length for line in private] == [12, 256]
    assert private[1].text is None
    assert private[0].text == "private text"


def test_a_tree_is_no_longer_than_anybody_reads(tmp_path: Path) -> None:
    ds = Dataset()
    for number in range(0x10, 0x60):
        ds.add_new(0x00090000 | number, "LO", f"CREATOR {number}")
    tree = element_tree(saved(tmp_path / "a.dcm", ds, ExplicitVRLittleEndian), most=50)
    assert len(tree.lines) == 50
    assert tree.note == "only the first 50 elements are shown"


def test_nesting_ends_where_nobody_reads_on(tmp_path: Path) -> None:
    sequence = bytes.fromhex("0800 1811") + b"SQ\0\0" + b"\xff" * 4
    item = bytes.fromhex("feff 00e0") + b"\xff" * 4
    (path := tmp_path / "deep.dcm").write_bytes(_file((sequence + item) * 5000))
    tree = element_tree(path)
    assert tree.note
    path.write_bytes(_file((sequence + item) * 20 + bytes.fromhex("feff 0de0 0000 0000 feff dde0 0000 0000") * 20))
    tree = element_tree(path)
    assert max(line.depth for line in tree.lines) <= DEEPEST + 2
    assert tree.note == ""


def _file(dataset: bytes) -> bytes:
    syntax = b"1.2.840.10008.1.2.1\0"
    meta = bytes.fromhex("0200 1000") + b"UI" + len(syntax).to_bytes(2, "little") + syntax
    return bytes(128) + b"DICM" + meta + dataset


def test_lengths_that_lie_cost_nothing(tmp_path: Path) -> None:
    (path := tmp_path / "long.dcm").write_bytes(
        _file(bytes.fromhex("0800 1811") + b"SQ\0\0" + b"\xf0\xff\xff\xff" + b"x" * 100)
    )
    assert element_tree(path).note
    path.write_bytes(b"no file of ours")
    with pytest.raises(UnreadableHeader, match="DICM"):
        element_tree(path)


@settings(deadline=None, max_examples=200)
@given(share=st.floats(0, 1), bad=st.binary(min_size=1, max_size=8), left=st.floats(0, 1))
def test_a_damaged_file_has_a_tree_or_a_reason(whole: Path, share: float, bad: bytes, left: float) -> None:
    good = whole.read_bytes()
    at = 132 + int(share * (len(good) - 133))
    rest = good[at + len(bad) :]
    (path := whole.with_name("bad.dcm")).write_bytes(good[:at] + bad + rest[: int(left * len(rest))])
    with suppress(UnreadableHeader):  # no file as PS3.10 has it any more
        assert isinstance(element_tree(path), ElementTree)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("damaged"), 1, pixels=2)[0].path
