"""The quick look at a file meta says what the careful reader says, or nothing."""

import random
import struct
from io import BytesIO

import pytest
from peers import SAMPLES, sample

from magickbox.dicom.header import read_file_meta
from magickbox.dicom.part10 import file_header
from magickbox.dicom.plainmeta import LOOK, plain_meta
from magickbox.errors import UnreadableHeader

HEADER = file_header("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1")


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_read_alike(name: str) -> None:
    data = sample(name).read_bytes()
    assert plain_meta(data[:LOOK]) == read_file_meta(BytesIO(data))


@pytest.mark.parametrize("dataset", [b"", b"\0", b"\x08\0\x16\0UI\2\0001\0", bytes(LOOK)])
def test_the_boxs_own_files_are_read_alike(dataset: bytes) -> None:
    found = plain_meta((HEADER + dataset)[:LOOK])
    assert found is not None
    assert found == read_file_meta(BytesIO(HEADER + dataset))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk" * 300,
        HEADER[:200],
        HEADER.replace(b"UL\4\0", b"UL\2\0"),
        HEADER + b"\2\0\x16\0AE\2\0AB",  # more of the group than its length says
        HEADER[:140] + struct.pack("<I", 2**31) + HEADER[144:],
        HEADER[:140] + struct.pack("<I", 40) + HEADER[144:],
    ],
)
def test_what_is_unusual_is_left_to_the_careful_reader(data: bytes) -> None:
    assert plain_meta(data[:LOOK]) is None


def test_whatever_is_changed_they_never_contradict_each_other() -> None:
    rng, agreed = random.Random(7), 0
    for _ in range(3000):
        data = bytearray(HEADER + b"\x08\0\x16\0UI\2\0001\0" * 3)
        for _ in range(rng.randrange(1, 3)):
            data[rng.randrange(128, len(data))] = rng.choice((0, 1, 2, 4, 8, 0x55, rng.randrange(256)))
        found = plain_meta(bytes(data))
        if found is not None:
            agreed += 1
            try:
                assert found == read_file_meta(BytesIO(data)), bytes(data[128:])
            except UnreadableHeader as exc:
                pytest.fail(f"{exc}: {bytes(data[128:])!r}")
    assert agreed > 100
