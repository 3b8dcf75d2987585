"""Frames of pixel data, one at a time: out of a file, native or encapsulated, and into another (PS3.5 8.2, A.4)."""

import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from pydicom.encaps import generate_frames

from magickbox.dicom.elementwalk import ITEM, SEQUENCE_END, UNDEFINED
from magickbox.dicom.recode import header, item_mark
from magickbox.dicom.toplevel import Placed, read_value
from magickbox.pixels.image import LENGTHS, OFFSETS, PIXEL_DATA, Image
from magickbox.pixels.trouble import Impossible

_MOST_FRAMES = 1_000_000
_BASIC_REACH = 0xFFFFFFFE  # the Basic Offset Table counts in 32 bits (PS3.5 A.4)
_NATIVE_REACH = 0xFFFFFFFE  # so does a length field


def encapsulated(file: BinaryIO, elements: Mapping[int, Placed], image: Image) -> Iterator[bytes]:
    """The code streams of the frames; raises Impossible if there are not as many as the header says."""
    extended = None
    if OFFSETS in elements and LENGTHS in elements:
        longest = 8 * _MOST_FRAMES
        extended = (read_value(file, elements[OFFSETS], longest), read_value(file, elements[LENGTHS], longest))
    file.seek(elements[PIXEL_DATA].value)
    count = 0
    for frame in generate_frames(file, number_of_frames=image.frames, extended_offsets=extended):
        count += 1
        if count > image.frames:
            break
        at = file.tell()
        yield frame
        file.seek(at)
    if count != image.frames:
        found = "more" if count > image.frames else str(count)
        raise Impossible(f"its header says {image.frames} frames, its pixel data hold {found}")


def native(file: BinaryIO, elements: Mapping[int, Placed], image: Image) -> Iterator[bytes]:
    """The native frames, whose samples have whole bytes; raises Impossible if the header does not fit their length."""
    placed, size = elements[PIXEL_DATA], image.frame_size * image.frames
    if placed.length not in (size, size + size % 2):
        raise Impossible("the length of its pixel data does not fit rows, columns and frames")
    if image.frames > _MOST_FRAMES:
        raise Impossible(f"it has more than {_MOST_FRAMES} frames")
    return _native(file, placed.value, image)


def _native(file: BinaryIO, at: int, image: Image) -> Iterator[bytes]:
    for number in range(image.frames):
        file.seek(at + number * image.frame_size)
        yield file.read(image.frame_size)


def write_native(out: BinaryIO, frames: Iterator[bytes], image: Image, *, explicit: bool) -> None:
    """Pixel data of so many frames, written as they come."""
    size = image.frame_size * image.frames
    if size > _NATIVE_REACH:
        raise Impossible(f"uncompressed, its pixel data are {size} bytes, more than a length field can say")
    vr = b"OW" if image.allocated > 8 else b"OB"
    out.write(header(PIXEL_DATA, vr, size + size % 2, explicit=explicit))
    for frame in frames:
        out.write(frame)
    out.write(bytes(size % 2))


def write_encapsulated(out: BinaryIO, frames: Iterator[bytes], image: Image) -> None:
    """Pixel data with one fragment a frame, and a table of where each begins.

    The table is filled in at the end: the Basic one, or the Extended one if so much could not be counted by it.
    """
    count = image.frames
    far = image.frame_size * count * 2 > _BASIC_REACH
    if far:
        tables = out.tell()
        out.write(header(OFFSETS, b"OV", 8 * count, explicit=True) + bytes(8 * count))
        out.write(header(LENGTHS, b"OV", 8 * count, explicit=True) + bytes(8 * count))
    out.write(header(PIXEL_DATA, b"OB", UNDEFINED, explicit=True))
    out.write(item_mark(ITEM, 0 if far else 4 * count))
    if not far:
        tables = out.tell()
        out.write(bytes(4 * count))
    offsets, lengths = _write_fragments(out, frames)
    out.write(item_mark(SEQUENCE_END))
    end = out.tell()
    out.seek(tables)
    if far:
        out.write(header(OFFSETS, b"OV", 8 * count, explicit=True) + struct.pack(f"<{count}Q", *offsets))
        out.write(header(LENGTHS, b"OV", 8 * count, explicit=True) + struct.pack(f"<{count}Q", *lengths))
    else:
        out.write(struct.pack(f"<{count}I", *offsets))
    out.seek(end)


def _write_fragments(out: BinaryIO, frames: Iterator[bytes]) -> tuple[list[int], list[int]]:
    """Where each frame begins, counted from the first one's item, and how long it is."""
    first, offsets, lengths = out.tell(), [], []
    for frame in frames:
        offsets.append(out.tell() - first)
        lengths.append(len(frame))
        out.write(item_mark(ITEM, len(frame) + len(frame) % 2))
        out.write(frame)
        out.write(bytes(len(frame) % 2))
    return offsets, lengths
