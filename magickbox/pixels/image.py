"""What the Image Pixel Module says of the pixel data (PS3.3 C.7.6.3), and what changes in it with their coding."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from magickbox.dicom.elementwalk import BIG_ENDIAN
from magickbox.dicom.toplevel import Placed, read_value
from magickbox.errors import UnreadableHeader
from magickbox.pixels.trouble import Impossible

SAMPLES, PHOTOMETRIC, PLANAR, FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
ROWS, COLUMNS, ALLOCATED, STORED, HIGH, SIGNED = 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103
PIXEL_DATA, FLOAT_DATA, DOUBLE_DATA = 0x7FE00010, 0x7FE00008, 0x7FE00009
OFFSETS, LENGTHS = 0x7FE00001, 0x7FE00002
_NUMBERS = (SAMPLES, PLANAR, ROWS, COLUMNS, ALLOCATED, STORED, HIGH, SIGNED)
_LONGEST = 64


@dataclass(frozen=True)
class Image:
    """The pixel data's attributes; ``planar`` is None where (0028,0006) is absent."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    planar: int | None
    frames: int

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""
        return self.rows * self.columns

    @property
    def frame_size(self) -> int:
        """Bytes of a native frame whose samples have whole bytes."""
        return self.pixels * self.samples * self.allocated // 8

    def edits(self, before: "Image") -> dict[int, tuple[bytes, bytes]]:
        """VR and value of each element that is not as before."""
        changed = {}
        if self.photometric != before.photometric:
            text = self.photometric.encode("ascii")
            changed[PHOTOMETRIC] = (b"CS", text + b" " * (len(text) % 2))
        if self.planar != before.planar and self.planar is not None:
            changed[PLANAR] = (b"US", struct.pack("<H", self.planar))
        return changed


def read_image(file: BinaryIO, elements: Mapping[int, Placed], coding: int) -> Image:
    """Read the attributes; raises Impossible if one that decoding needs is missing or senseless."""
    numbers = {tag: _number(file, elements[tag], coding) for tag in _NUMBERS if tag in elements}
    missing = [tag for tag in (ROWS, COLUMNS, ALLOCATED) if not numbers.get(tag)]
    if missing:
        raise Impossible(f"it has pixel data but no usable ({missing[0] >> 16:04X},{missing[0] & 0xFFFF:04X})")
    allocated = numbers[ALLOCATED]
    stored = numbers.get(STORED, allocated)
    image = Image(
        rows=numbers[ROWS],
        columns=numbers[COLUMNS],
        samples=numbers.get(SAMPLES, 1),
        allocated=allocated,
        stored=stored,
        high=numbers.get(HIGH, stored - 1),
        signed=numbers.get(SIGNED, 0) == 1,
        photometric=_text(file, elements.get(PHOTOMETRIC)),
        planar=numbers.get(PLANAR),
        frames=_frames(_text(file, elements.get(FRAMES))),
    )
    if not 1 <= stored <= allocated or image.samples not in (1, 3, 4):
        raise Impossible("its Bits Stored, Bits Allocated or Samples per Pixel are senseless")
    return image


def _number(file: BinaryIO, placed: Placed, coding: int) -> int:
    value = read_value(file, placed, _LONGEST)
    if len(value) != 2:
        raise UnreadableHeader(f"(0028,{placed.tag & 0xFFFF:04X}) does not have one value")
    return int.from_bytes(value, "big" if coding == BIG_ENDIAN else "little")


def _text(file: BinaryIO, placed: Placed | None) -> str:
    return read_value(file, placed, _LONGEST).decode("latin-1").strip("\0 ") if placed else ""


def _frames(text: str) -> int:
    try:
        frames = int(text or "1")
    except ValueError:
        raise Impossible("its Number of Frames is no number") from None
    if frames < 1:
        raise Impossible("its Number of Frames is less than 1")
    return frames


def recoded(image: Image, photometric: str) -> Image:
    """The attributes after decoding or encoding: colour by pixel, in that photometric interpretation (PS3.5 8.2)."""
    return replace(image, planar=image.planar if image.samples == 1 else 0, photometric=photometric)
