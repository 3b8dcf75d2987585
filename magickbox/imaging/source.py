"""One DICOM file opened for its pictures: its header without pixels, and its frames one at a time.

Only in a worker process: what is decoded here may end it. Raises NoPicture, OSError, MemoryError and whatever pydicom
or a codec raises.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from magickbox.imaging.trouble import NoPicture
from magickbox.pixels import codecs
from magickbox.pixels.image import Image

MOST_SAMPLES = 100_000_000  # of one frame: more than any detector or slide's tile has, and bounded in memory
_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_GROUP_28 = tuple(0x00280000 | n for n in (
    0x02, 0x04, 0x06, 0x08, 0x10, 0x11, 0x30, 0x34, 0x0100, 0x0101, 0x0102, 0x0103, 0x0120, 0x0121, 0x1050, 0x1051,
    0x1052, 0x1053, 0x1054, 0x1055, 0x1056, 0x1101, 0x1102, 0x1103, 0x1201, 0x1202, 0x1203, 0x1221, 0x1222, 0x1223,
    0x3000, 0x3010,
))  # fmt: skip
_TAGS = (0x00080016, *_GROUP_28, 0x00181164, 0x20500020, 0x52009229, 0x52009230, 0x7FE00001, 0x7FE00002)
Array = Any  # a numpy array


class Source:
    """A file whose frames can be had; ``header`` holds what rendering needs, and nothing of the patient."""

    def __init__(self, path: Path) -> None:
        """Raises NoPicture if there are no pixels in it."""
        self._file: BinaryIO = path.open("rb")
        try:
            self.header = dcmread(self._file, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
            self.syntax = UID(self.header.file_meta.get("TransferSyntaxUID", ""))
            if not self.syntax.is_transfer_syntax:
                raise NoPicture("its file meta names no transfer syntax")
            if self.syntax == DeflatedExplicitVRLittleEndian:
                self._file.seek(0)
                self._whole: Dataset | None = dcmread(self._file)
                self.header, self._at, found = self._whole, 0, self._of_whole(self._whole)
            else:
                self._whole = None
                found = self._of_file()
            self._options: Mapping[str, Any] = {**as_pixel_options(self.header), **found}
        except BaseException:
            self._file.close()
            raise
        self.frames = max(1, int(self._options["number_of_frames"] or 1))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _of_whole(self, ds: Dataset) -> dict[str, Any]:
        names = [name for name in _KEYWORDS.values() if name in ds]
        if not names:
            raise NoPicture("it has no pixel data")
        return {"pixel_keyword": names[0]}

    def _of_file(self) -> dict[str, Any]:
        """The element that the file stands before: a pixel data element, or its end."""
        start = self._file.read(12)
        order = "<" if self.syntax.is_little_endian else ">"
        if len(start) < 8 or (tag := _tag(start, order)) not in _KEYWORDS:
            raise NoPicture("it has no pixel data")
        implicit = self.syntax.is_implicit_VR
        self._at = self._file.tell() - (4 if implicit and len(start) == 12 else 0)
        return {"pixel_keyword": _KEYWORDS[tag], "pixel_vr": "OW" if implicit else start[4:6].decode("latin-1")}

    def frame(self, number: int) -> tuple[Array, str]:
        """Frame ``number``, from 1, its samples by pixel, and the photometric interpretation that they have now."""
        if not 1 <= number <= self.frames:
            raise NoPicture(f"it has {self.frames} frames, there is no frame {number}")
        self._check_size()
        try:
            decoder = get_decoder(self.syntax)
        except NotImplementedError:
            raise NoPicture(f"there is no decoder for the transfer syntax {self.syntax.name}") from None
        missing = decoder.is_encapsulated and not decoder.is_available
        if missing and not codecs.missing(self.syntax, encode=False):
            return self._by_own_codec(number)
        try:
            source = self._whole if self._whole is not None else self._here()
            options = {} if self._whole is not None else {**self._options, "transfer_syntax_uid": self.syntax}
            array, properties = decoder.as_array(source, index=number - 1, **options)
        except Exception:
            if codecs.can_decode(self.syntax) and not codecs.missing(self.syntax, encode=False):
                return self._by_own_codec(number)
            if missing:
                raise NoPicture(codecs.missing(self.syntax, encode=False) or "no decoder is installed") from None
            raise
        return array, str(properties["photometric_interpretation"])

    def _here(self) -> BinaryIO:
        self._file.seek(self._at)
        return self._file

    def _check_size(self) -> None:
        said = self._options
        rows, columns, samples = (said.get(name) or 0 for name in ("rows", "columns", "samples_per_pixel"))
        if not (rows and columns and samples):
            raise NoPicture("its header does not say how large the picture is")
        if rows * columns * samples > MOST_SAMPLES:
            raise NoPicture(f"a frame of {columns} x {rows} pixels is larger than what is shown here")

    def _by_own_codec(self, number: int) -> tuple[Array, str]:
        """As the box decodes when it converts: what pydicom has no codec for, or could not decode."""
        import numpy as np

        image = self._image()
        decoder = codecs.Decoder(self.syntax, image)
        count, tables = self.frames, self._options.get("extended_offsets")
        stream = get_frame(self._here(), number - 1, number_of_frames=count, extended_offsets=tables)
        flat = np.frombuffer(decoder.decode(stream), dtype=f"<{'i' if image.signed else 'u'}{image.allocated // 8}")
        shape = (image.rows, image.columns) + ((image.samples,) if image.samples > 1 else ())
        return flat.reshape(shape), decoder.photometric

    def _image(self) -> Image:
        said = self._options
        stored = int(said.get("bits_stored") or said["bits_allocated"])
        return Image(
            rows=int(said["rows"]),
            columns=int(said["columns"]),
            samples=int(said["samples_per_pixel"]),
            allocated=int(said["bits_allocated"]),
            stored=stored,
            high=stored - 1,
            signed=said.get("pixel_representation") == 1,
            photometric=str(said["photometric_interpretation"]),
            planar=said.get("planar_configuration"),
            frames=self.frames,
        )


def _tag(start: bytes, order: str) -> int:
    group, element = struct.unpack_from(f"{order}HH", start)
    return int(group) << 16 | int(element)
