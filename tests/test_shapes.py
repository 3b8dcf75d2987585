"""Headers that are read from memory, and by the shape of an earlier one, say what the walk through the file says."""

import random
import struct
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from boxes import LITTLE, Image
from hypothesis import given, settings
from hypothesis import strategies as st

from magickbox.dicom.beginning import LENGTH, identify_beginning
from magickbox.dicom.header import Identity, identify, read_file_meta
from magickbox.dicom.shapes import Shapes
from magickbox.errors import UnreadableHeader

SITE = Path(pydicom.__file__).parent.parent
FILES = [
    path
    for folder in ("pydicom/data", "data_store", "pynetdicom")
    for path in sorted((SITE / folder).rglob("*"))
    if path.is_file() and path.read_bytes()[128:132] == b"DICM"
]


def datasets() -> list[tuple[bytes, str]]:
    """The dataset's bytes and the transfer syntax of every real file."""
    found = []
    for path in FILES:
        with path.open("rb") as stream:
            meta = read_file_meta(stream)
            stream.seek(meta.offset)
            found.append((stream.read(), meta.transfer_syntax))
    return found


def walked(dataset: bytes, syntax: str) -> Identity | str:
    try:
        return identify(BytesIO(dataset), syntax)
    except UnreadableHeader as exc:
        return str(exc)


def quickly(shapes: Shapes, dataset: bytes, syntax: str) -> Identity | str:
    """As the receiver does it: from the beginning if that is enough, else from all of it."""
    try:
        found = shapes.identify(dataset[:LENGTH], len(dataset) <= LENGTH, syntax)
    except UnreadableHeader as exc:
        return str(exc)
    return found if found is not None else walked(dataset, syntax)


def test_every_real_file_with_the_shapes_of_all_others() -> None:
    shapes = Shapes()
    for dataset, syntax in datasets():
        first, again = quickly(shapes, dataset, syntax), quickly(shapes, dataset, syntax)
        assert first == again == walked(dataset, syntax)


def test_the_beginning_is_enough_for_nearly_every_real_file() -> None:
    long = [(data, syntax) for data, syntax in datasets() if len(data) > LENGTH]
    told = [identify_beginning(data[:LENGTH], False, syntax) for data, syntax in long]
    assert len([identity for identity in told if identity]) > len(long) * 0.9


def test_a_beginning_cut_anywhere_never_tells_something_else() -> None:
    dataset = Image("1.2.3.4.5").dataset()
    whole = walked(dataset, LITTLE)
    for end in range(len(dataset)):
        assert identify_beginning(dataset[:end], False, LITTLE) in (None, whole)


def test_a_series_is_walked_once() -> None:
    shapes = Shapes()
    for n in range(100, 200):
        dataset = Image(f"1.2.3.4.{n}", content=n % 250).dataset()
        assert quickly(shapes, dataset, LITTLE) == walked(dataset, LITTLE)
    assert shapes.walks == 1


def test_headers_that_never_resemble_cost_no_drawing_for_ever() -> None:
    shapes = Shapes()
    for n in range(0, 60, 2):
        dataset = Image("1.2." + "3" * (n + 1)).dataset()
        assert quickly(shapes, dataset, LITTLE) == walked(dataset, LITTLE)
    assert shapes.drawings < 10


@pytest.mark.parametrize("syntax", [LITTLE, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_undefined_lengths_before_the_series_belong_to_the_shape(syntax: str) -> None:
    def dataset(inside: bytes) -> bytes:
        ds = pydicom.Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.3", "1.4", "1.5"
        item = pydicom.Dataset()
        item.ReferencedSOPInstanceUID = inside.decode()
        ds.ReferencedImageSequence = [item]
        ds["ReferencedImageSequence"].is_undefined_length = True
        buffer = pydicom.filebase.DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = not syntax.endswith(".2.2"), syntax.endswith("1.2")
        pydicom.filewriter.write_dataset(buffer, ds)
        return buffer.getvalue()

    shapes = Shapes()
    for inside in (b"1.2.3.4", b"1.2.3.4", b"1.2.3.5", b"1.2.3.4.5.6"):
        assert quickly(shapes, dataset(inside), syntax) == walked(dataset(inside), syntax) != ""


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_what_is_damaged_is_told_as_the_walk_tells_it(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(BASES))
    dataset, syntax = base
    shapes = Shapes()
    quickly(shapes, dataset, syntax)
    damaged = bytearray(dataset)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(damaged), 2000) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for said in (bytes(damaged), bytes(damaged[:cut])):
        assert quickly(shapes, said, syntax) == walked(said, syntax)


BASES = [(data, syntax) for data, syntax in random.Random(7).sample(datasets(), 60) if len(data) > 100]


def test_a_length_that_says_4_gb_is_no_shape() -> None:
    huge = struct.pack("<HH2sxxL", 0x0009, 0x1010, b"OB", 0xFFFFFF00)
    shapes = Shapes()
    assert "ends inside" in str(quickly(shapes, huge + bytes(50), LITTLE))
    assert "ends inside" in str(quickly(shapes, huge + bytes(50_000), LITTLE))
