"""From stored values to RGB: palettes, YBR, and samples of more than 8 bits. Only in a worker process."""

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space

from magickbox.imaging.trouble import NoPicture

Array = Any  # a numpy array
_YBR = ("YBR_FULL", "YBR_FULL_422")


def is_colour(photometric: str, samples: Array) -> bool:
    """True for what is no picture in grey."""
    return photometric == "PALETTE COLOR" or samples.ndim == 3


def rgb(samples: Array, header: Dataset, photometric: str) -> Array:
    """The frame as 8-bit RGB, colour by pixel; raises NoPicture."""
    if photometric == "PALETTE COLOR":
        samples = apply_color_lut(samples, header)
        return _to_8_bits(samples, 16 if samples.dtype.itemsize > 1 else 8)[..., :3]
    if samples.shape[-1] not in (3, 4):
        raise NoPicture(f"a picture of {samples.shape[-1]} samples a pixel cannot be shown")
    samples = samples[..., :3]
    if photometric in _YBR:
        samples = convert_color_space(samples, photometric, "RGB")
    return _to_8_bits(samples, int(header.get("BitsStored") or samples.dtype.itemsize * 8))


def _to_8_bits(samples: Array, bits: int) -> Array:
    if samples.dtype.kind == "f":
        raise NoPicture("colours that are floating point numbers cannot be shown")
    if bits < 8:
        return (samples.astype(np.uint16) * 255 // ((1 << bits) - 1)).astype(np.uint8)
    return (samples >> (bits - 8)).astype(np.uint8) if bits > 8 else samples.astype(np.uint8)
