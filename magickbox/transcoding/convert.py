"""One file into another transfer syntax, in at most three steps: inflate, to native, to what is wanted.

Only in a worker process: what is decoded here may end it. Raises Impossible, UnreadableHeader, OSError, MemoryError and
whatever a codec raises.
"""

import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from magickbox import transfersyntax as ts
from magickbox.dicom.elementwalk import BIG_ENDIAN, EXPLICIT, IMPLICIT, ITEM
from magickbox.dicom.forwardreader import ForwardReader
from magickbox.dicom.header import items, read_file_meta, scan, scan_elements
from magickbox.dicom.part10 import file_header
from magickbox.dicom.recode import Recoder, header, item_mark
from magickbox.dicom.toplevel import Placed, top_level
from magickbox.pixels import codecs
from magickbox.pixels.image import (
    DOUBLE_DATA,
    FLOAT_DATA,
    LENGTHS,
    OFFSETS,
    PIXEL_DATA,
    Image,
    read_image,
    recoded,
)
from magickbox.pixels.trouble import Impossible
from magickbox.transcoding import frames

PIECE = 1024 * 1024
_ICON = 0x00880200
_LONGEST_ICON = 16 * 1024 * 1024
_CODINGS = {ts.IMPLICIT_LITTLE: IMPLICIT, ts.EXPLICIT_BIG: BIG_ENDIAN}


class Part10:
    """A Part 10 file opened for reading: where each element of its dataset stands."""

    def __init__(self, path: Path, syntax: str) -> None:
        self.file: BinaryIO = path.open("rb")
        self.meta = read_file_meta(self.file)
        self.syntax = syntax
        if self.meta.transfer_syntax not in ("", syntax):
            raise Impossible("the file has another transfer syntax than when it was selected")
        self.placed, self.coding = top_level(self.file, self.meta.offset, _CODINGS.get(syntax, EXPLICIT))
        self.elements = {each.tag: each for each in self.placed}

    def image(self) -> Image | None:
        """What its pixel data are; None if there are none."""
        return read_image(self.file, self.elements, self.coding) if PIXEL_DATA in self.elements else None

    def copy(self, placed: Placed, out: BinaryIO) -> None:
        """An element as it is."""
        start, end = placed.start, placed.end
        self.file.seek(start)
        while start < end:
            piece = self.file.read(min(PIECE, end - start))
            if not piece:
                raise Impossible("the file became shorter while it was read")
            out.write(piece)
            start += len(piece)


def convert(source: Path, stored: str, target: str, folder: Path) -> Path:
    """A new file below ``folder`` with the instance of ``source`` in ``target``; see the module for what it raises."""
    if stored == target:
        raise Impossible("it is in that transfer syntax already")
    if target not in (ts.IMPLICIT_LITTLE, ts.EXPLICIT_LITTLE, ts.DEFLATED) and not codecs.can_encode(target):
        raise Impossible(f"there is no lossless way into {target}")
    if stored not in ts.NATIVE and not codecs.can_decode(stored):
        raise Impossible(f"there is no decoder for {stored}")
    if stored == ts.DEFLATED:
        source, stored = _inflate(source, folder / "inflated"), ts.EXPLICIT_LITTLE
    plain = target if target in (ts.EXPLICIT_LITTLE, ts.IMPLICIT_LITTLE) else ts.EXPLICIT_LITTLE
    if stored != plain:
        source, stored = _to_native(source, stored, plain, folder / "native"), plain
    if target == ts.DEFLATED:
        return _deflate(source, folder / "deflated")
    if target not in (ts.EXPLICIT_LITTLE, ts.IMPLICIT_LITTLE):
        return _compress(source, target, folder / "compressed")
    return source


def _inflate(source: Path, path: Path) -> Path:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    with source.open("rb") as file, path.open("xb") as out:
        meta = read_file_meta(file)
        out.write(file_header(meta.sop_class, meta.sop_instance, ts.EXPLICIT_LITTLE))
        try:
            while not inflater.eof and (packed := inflater.unconsumed_tail or file.read(PIECE)):
                out.write(inflater.decompress(packed, PIECE))
            out.write(inflater.flush())
        except zlib.error as exc:
            raise Impossible(f"the deflated dataset is damaged: {exc}") from None
        if not inflater.eof:
            raise Impossible("the deflated dataset is cut off")
    return path


def _deflate(source: Path, path: Path) -> Path:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    with source.open("rb") as file, path.open("xb") as out:
        meta = read_file_meta(file)
        out.write(file_header(meta.sop_class, meta.sop_instance, ts.DEFLATED))
        while piece := file.read(PIECE):
            out.write(deflater.compress(piece))
        out.write(deflater.flush())
    return path


def _to_native(source: Path, stored: str, target: str, path: Path) -> Path:
    part10 = Part10(source, stored)
    with part10.file as file, path.open("xb") as out:
        _refuse_unclear_order(part10)
        image = part10.image() if stored in ts.ENCAPSULATED else None
        if image is None or not part10.elements[PIXEL_DATA].is_open:
            _rewrite(part10, out, target)
            return path
        _refuse_compressed_icon(part10)
        decoder = codecs.Decoder(stored, image)
        pixels = map(decoder.decode, frames.encapsulated(file, part10.elements, image))
        explicit = target == ts.EXPLICIT_LITTLE
        _rewrite(
            part10, out, target, recoded(image, decoder.photometric).edits(image),
            lambda: frames.write_native(out, pixels, image, explicit=explicit),
        )  # fmt: skip
    return path


def _compress(source: Path, target: str, path: Path) -> Path:
    part10 = Part10(source, ts.EXPLICIT_LITTLE)
    with part10.file as file, path.open("xb") as out:
        image = part10.image()
        if FLOAT_DATA in part10.elements or DOUBLE_DATA in part10.elements:
            raise Impossible("floating point pixel data cannot be compressed")
        if image is None:
            _rewrite(part10, out, target)
            return path
        encoder = codecs.Encoder(target, image)
        streams = map(encoder.encode, frames.native(file, part10.elements, image))
        _rewrite(
            part10, out, target, recoded(image, encoder.photometric).edits(image),
            lambda: frames.write_encapsulated(out, streams, image),
        )  # fmt: skip
    return path


def _rewrite(
    part10: Part10,
    out: BinaryIO,
    target: str,
    edits: Mapping[int, tuple[bytes, bytes]] = MappingProxyType({}),
    write_pixels: Callable[[], None] | None = None,
) -> None:
    """Write the whole file: elements as they are, or recoded, or new."""
    explicit = target != ts.IMPLICIT_LITTLE
    out.write(file_header(part10.meta.sop_class, part10.meta.sop_instance, target))
    recoder = None
    if part10.coding != (EXPLICIT if explicit else IMPLICIT):
        recoder = Recoder(part10.file, part10.coding, out, explicit=explicit)
    left = sorted(edits.items())
    for placed in part10.placed:
        while left and left[0][0] <= placed.tag:
            tag, (vr, value) = left.pop(0)
            out.write(header(tag, vr, len(value), explicit=explicit) + value)
        if placed.tag == PIXEL_DATA and write_pixels:
            write_pixels()
        elif not _is_left_out(placed.tag, edits, pixels_too=write_pixels is not None):
            part10.copy(placed, out) if recoder is None else recoder.element(placed)


def _is_left_out(tag: int, edits: Mapping[int, tuple[bytes, bytes]], *, pixels_too: bool) -> bool:
    """True for what was written anew, for offset tables that do not fit new pixel data, and for group lengths."""
    return tag in edits or tag & 0xFFFF == 0 or (pixels_too and tag in (OFFSETS, LENGTHS))


def _refuse_unclear_order(part10: Part10) -> None:
    """Writers of big endian disagree about pixels wider than a word: some swap words (PS3.5 6.2), some whole pixels."""
    image = part10.image() if part10.coding == BIG_ENDIAN else None
    if image and (image.allocated > 16 or (image.allocated == 16 and part10.elements[PIXEL_DATA].vr != b"OW")):
        raise Impossible(f"the byte order of big endian pixel data of {image.allocated} bits is not certain")


def _refuse_compressed_icon(part10: Part10) -> None:
    """An icon may be compressed too, in the transfer syntax that the file is leaving (PS3.3 F.7)."""
    part10.file.seek(part10.meta.offset)
    icon = scan(part10.file, ts.EXPLICIT_LITTLE, frozenset({_ICON}), _ICON, _LONGEST_ICON).get(_ICON)
    if icon is None:
        return
    for content in items(icon):
        inner = scan_elements(ForwardReader(BytesIO(content)), icon.coding, frozenset({PIXEL_DATA}), PIXEL_DATA)
        pixels = inner.get(PIXEL_DATA)
        if pixels and (pixels.value or b"").startswith(item_mark(ITEM)[:4]):
            raise Impossible("its icon image is compressed too")
