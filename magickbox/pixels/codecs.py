"""The codecs: one frame in, one frame out. Only worker processes call them, since a codec can end its process.

All of them are optional (``magickbox[codecs]``) and none is under the GPL: OpenJPEG for JPEG 2000 and HTJ2K
(pylibjpeg-openjpeg), CharLS for JPEG-LS (pyjpegls), pylibjpeg-rle, and imagecodecs for what those have not: JPEG of 8
and 12 bits and lossless JPEG (libjpeg-turbo), encoding HTJ2K (OpenJPH).
"""

import struct
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from magickbox import transfersyntax as ts
from magickbox.pixels.image import Image
from magickbox.pixels.trouble import Impossible

EXTRA = "magickbox[codecs]"
_DECODERS = {
    **dict.fromkeys(ts.JPEGS, "imagecodecs"),
    **dict.fromkeys(ts.JPEG_LS_BOTH, "jpeg_ls"),
    **dict.fromkeys(ts.JPEG_2000_ALL, "openjpeg"),
    ts.RLE: "rle",
}
_ENCODERS = {
    ts.JPEG_2000_LOSSLESS: "openjpeg",
    ts.JPEG_2000: "openjpeg",
    ts.HTJ2K_LOSSLESS: "imagecodecs",
    ts.HTJ2K: "imagecodecs",
    ts.JPEG_LS: "jpeg_ls",
    ts.JPEG_LS_NEAR: "jpeg_ls",
    ts.RLE: "rle",
}
_JPEG_YCC = ("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420")
_HTJ2K = (ts.HTJ2K_LOSSLESS, ts.HTJ2K)
_PART_1 = (ts.JPEG_2000_LOSSLESS, ts.JPEG_2000)
_SEGMENTS = 15
_SMALLEST = 32  # it always makes six resolutions

Array = Any  # a numpy array; numpy comes with the codecs


def missing(syntax: str, *, encode: bool) -> str | None:
    """What has to be installed to decode or encode that transfer syntax, None if all is there."""
    module = (_ENCODERS if encode else _DECODERS).get(syntax)
    if module is None:
        return f"there is no {'encoder' if encode else 'decoder'} for {syntax}"
    if find_spec(module) is None or find_spec("numpy") is None:
        return f"the {'encoder' if encode else 'decoder'} for {syntax} is not installed: install {EXTRA}"
    return None


def can_decode(syntax: str) -> bool:
    """True if a decoder of that name is known, installed or not."""
    return syntax in _DECODERS


def can_encode(syntax: str) -> bool:
    """True if a lossless encoder of that name is known, installed or not."""
    return syntax in _ENCODERS


class Decoder:
    """Decodes frames of one image to little endian samples, colour by pixel; ``photometric`` is what they are then."""

    def __init__(self, syntax: str, image: Image) -> None:
        """Raises Impossible if the decoder is not there."""
        if why := missing(syntax, encode=False):
            raise Impossible(why)
        if image.allocated % 8 or image.allocated > 64:
            raise Impossible(f"compressed pixel data of {image.allocated} bits")
        self._np = import_module("numpy")
        self._image = image
        self._module = import_module(_DECODERS[syntax])
        self._jpeg_colours = syntax in (ts.JPEG_BASELINE, ts.JPEG_EXTENDED) and image.samples == 3
        self._decode: Callable[[bytes], tuple[Array, int]] = {
            "imagecodecs": self._jpeg,
            "jpeg_ls": self._jpeg_ls,
            "openjpeg": self._jpeg_2000,
            "rle": self._rle,
        }[_DECODERS[syntax]]
        self._converts = self._jpeg_colours and image.photometric in _JPEG_YCC
        to_rgb = self._converts or image.photometric in ("YBR_RCT", "YBR_ICT")
        self.photometric = "RGB" if to_rgb else image.photometric.replace("YBR_FULL_422", "YBR_FULL")

    def decode(self, frame: bytes) -> bytes:
        """The frame's native bytes; raises Impossible if they do not fit the image's attributes."""
        np, image = self._np, self._image
        samples, precision = self._decode(frame)
        shape = (image.rows, image.columns) + ((image.samples,) if image.samples > 1 else ())
        if samples.shape != shape:
            raise Impossible(f"a frame is {_by(samples.shape)} pixels, its header says {_by(shape)}")
        if precision > image.allocated:
            raise Impossible(f"a frame has {precision} bits, its header says {image.allocated}")
        if samples.dtype.itemsize * 8 == image.allocated and precision == image.allocated:
            return bytes(np.ascontiguousarray(samples).astype(samples.dtype.newbyteorder("<"), copy=False).data)
        return bytes(self._widened(samples, precision).tobytes())

    def _widened(self, samples: Array, precision: int) -> Array:
        """Samples in Bits Allocated: those of signed pixels get their sign, which not all codings keep."""
        np, image = self._np, self._image
        unsigned = samples.astype(f"<u{image.allocated // 8}") & np.uint64((1 << precision) - 1).astype(
            f"<u{image.allocated // 8}"
        )
        if not image.signed or precision == image.allocated:
            return unsigned
        shift = image.allocated - precision
        return (unsigned << shift).view(f"<i{image.allocated // 8}") >> shift

    def _jpeg(self, frame: bytes) -> tuple[Array, int]:
        precision, ids, jfif = _jpeg_header(frame)
        codecs, image = self._module, self._image
        if image.samples != 3:
            return codecs.jpeg8_decode(frame), precision
        says_rgb = ids in (b"RGB", b"rgb")
        if not self._converts or says_rgb:
            if self._jpeg_colours and jfif and not says_rgb:
                raise Impossible(f"its header says {image.photometric}, its JPEG data say YCbCr")
            return codecs.jpeg8_decode(frame, colorspace="RGB", outcolorspace="RGB"), precision
        return self._to_rgb(codecs.jpeg8_decode(frame, colorspace="YCBCR", outcolorspace="YCBCR"), precision), precision

    def _to_rgb(self, ybr: Array, precision: int) -> Array:
        """YCbCr to RGB by PS3.3 C.7.6.3.1.2, rounded to the nearest."""
        np = self._np
        half, top = 1 << (precision - 1), (1 << precision) - 1
        y, b, r = (ybr[..., n].astype(np.float32) for n in range(3))
        b, r = b - half, r - half
        rgb = np.stack((y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b), axis=-1)
        return np.clip(np.floor(rgb + 0.5), 0, top).astype(ybr.dtype)

    def _jpeg_ls(self, frame: bytes) -> tuple[Array, int]:
        np = self._np
        raw, info = self._module.decode_pixel_data(frame)
        precision = info["bits_per_sample"]
        flat = np.frombuffer(raw, dtype="<u1" if precision <= 8 else "<u2")
        rows, columns, samples = info["height"], info["width"], info["components"]
        if samples == 1:
            return flat.reshape(rows, columns), precision
        if info["interleave_mode"] == 0:
            return np.moveaxis(flat.reshape(samples, rows, columns), 0, -1), precision
        return flat.reshape(rows, columns, samples), precision

    def _jpeg_2000(self, frame: bytes) -> tuple[Array, int]:
        precision = self._module.get_parameters(frame)["precision"]
        return self._module.decode(frame), precision

    def _rle(self, frame: bytes) -> tuple[Array, int]:
        np, image = self._np, self._image
        raw = self._module.utils.decode_frame(frame, image.pixels, image.allocated, "<")
        if len(raw) != image.frame_size:
            raise Impossible(f"a frame has {len(raw)} bytes, its header says {image.frame_size}")
        flat = np.frombuffer(raw, dtype=f"<u{image.allocated // 8}")
        if image.samples == 1:
            return flat.reshape(image.rows, image.columns), image.allocated
        return np.moveaxis(flat.reshape(image.samples, image.rows, image.columns), 0, -1), image.allocated


class Encoder:
    """Encodes native little endian frames of one image, losslessly; ``photometric`` is what they are then."""

    def __init__(self, syntax: str, image: Image) -> None:
        """Raises Impossible if the encoder is not there, or cannot take such an image."""
        if why := missing(syntax, encode=True) or _unfit(syntax, image):
            raise Impossible(why)
        self._np = import_module("numpy")
        self._module = import_module(_ENCODERS[syntax])
        self._image = image
        self._takes_all = image.stored == image.allocated or syntax == ts.RLE
        self._encode: Callable[[Array], bytes] = {
            "imagecodecs": self._htj2k,
            "jpeg_ls": self._jpeg_ls,
            "openjpeg": self._jpeg_2000,
            "rle": self._rle,
        }[_ENCODERS[syntax]]
        mixes = syntax in ts.JPEG_2000_ALL and image.samples == 3 and image.photometric == "RGB"
        self.photometric = "YBR_RCT" if mixes else image.photometric

    def encode(self, frame: bytes) -> bytes:
        """The frame's code stream; raises Impossible if bits beyond Bits Stored are in use, which would be lost."""
        np, image = self._np, self._image
        samples = np.frombuffer(frame, dtype=f"<{'i' if image.signed else 'u'}{image.allocated // 8}")
        if not self._takes_all:
            self._check_range(samples)
        if image.samples > 1 and image.planar == 1:
            samples = np.moveaxis(samples.reshape(image.samples, image.rows, image.columns), 0, -1)
        shape = (image.rows, image.columns) + ((image.samples,) if image.samples > 1 else ())
        return bytes(self._encode(np.ascontiguousarray(samples.reshape(shape))))

    def _check_range(self, samples: Array) -> None:
        values, signed = 1 << self._image.stored, self._image.signed
        low, high = (-(values // 2), values // 2 - 1) if signed else (0, values - 1)
        if samples.min() < low or samples.max() > high:
            raise Impossible("it uses bits beyond its Bits Stored, which compression would lose")

    def _jpeg_2000(self, samples: Array) -> bytes:
        image = self._image
        colour = 1 if image.photometric == "RGB" else 2 if image.samples == 1 else 3
        return self._module.utils.encode_buffer(  # type: ignore[no-any-return]
            self._contained(samples).tobytes(), image.columns, image.rows, image.samples, image.stored, image.signed,
            photometric_interpretation=colour, use_mct=image.photometric == "RGB",
        )  # fmt: skip

    def _htj2k(self, samples: Array) -> bytes:
        return self._module.htj2k_encode(samples, reversible=True, rgb=self._image.photometric == "RGB")  # type: ignore[no-any-return]

    def _jpeg_ls(self, samples: Array) -> bytes:
        np, image = self._np, self._image
        mask = (1 << image.stored) - 1
        unsigned = samples.view(f"<u{image.allocated // 8}") & np.array(mask, dtype=f"<u{image.allocated // 8}")
        return self._module.encode_buffer(  # type: ignore[no-any-return]
            self._contained(unsigned).tobytes(), image.rows, image.columns, image.samples, image.stored,
            interleave_mode=2 if image.samples > 1 else None,
        )  # fmt: skip

    def _rle(self, samples: Array) -> bytes:
        image = self._image
        return self._module.utils.encode_frame(  # type: ignore[no-any-return]
            samples.tobytes(), image.rows, image.columns, image.samples, image.allocated, "<"
        )

    def _contained(self, samples: Array) -> Array:
        """In as few bytes a sample as its bits need: what the encoders expect."""
        need = 1 if self._image.stored <= 8 else 2 if self._image.stored <= 16 else 4
        return samples.astype(f"<{samples.dtype.kind}{need}", copy=False)


def _unfit(syntax: str, image: Image) -> str | None:
    """Why such an image has no lossless form in that transfer syntax."""
    if image.allocated % 8 or image.allocated > 64:
        return f"pixels of {image.allocated} bits cannot be compressed"
    if image.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420"):
        return f"uncompressed {image.photometric} cannot be compressed as it is"
    if syntax == ts.RLE:
        return None if image.samples * image.allocated // 8 <= _SEGMENTS else "it has more than 15 RLE segments"
    if image.high != image.stored - 1:
        return "its High Bit is not the highest of Bits Stored"
    most = 24 if syntax in _PART_1 else 16
    if image.stored > most or image.samples not in (1, 3):
        return f"{image.samples} samples of {image.stored} bits cannot be compressed so"
    if syntax in _HTJ2K and image.allocated > 16:
        return "the HTJ2K encoder takes samples of 8 or 16 bits allocated"
    if syntax in _PART_1 and min(image.rows, image.columns) < _SMALLEST:
        return f"the JPEG 2000 encoder takes images of at least {_SMALLEST} by {_SMALLEST} pixels"
    return None


def _jpeg_header(frame: bytes) -> tuple[int, bytes, bool]:
    """Precision and component ids of a JPEG code stream, and if a JFIF marker says that its colours are YCbCr."""
    at, jfif = 2, False
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker, length = struct.unpack_from(">BH", frame, at + 1)
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 10 <= len(frame):
            return frame[at + 4], frame[at + 10 : at + 10 + 3 * frame[at + 9] : 3], jfif
        jfif = jfif or (marker == 0xE0 and frame[at + 4 : at + 8] == b"JFIF")
        at += 2 + length
    raise Impossible("a frame is no JPEG code stream")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
