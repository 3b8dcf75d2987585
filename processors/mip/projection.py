"""Maximum intensity projections of a stack, one slice in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydicom import dcmread
from volume import Slice, Stack, Vector, step

PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Picture:
    """A projection with its place in the patient.

    Pixel [i, j] lies at origin + i * spacing[0] * down + j * spacing[1] * across, in mm.
    """

    pixels: np.ndarray
    origin: Vector
    down: Vector
    across: Vector
    spacing: tuple[float, float]
    depth: float  # mm that were projected into the plane
    along: str  # what was projected away: "slice normal", "columns" or "rows"

    @property
    def plane(self) -> str:
        """The anatomical plane, "oblique" put before it if it is off by more than 15 degrees."""
        normal = np.abs(np.cross(self.across, self.down))
        name = PLANES[int(normal.argmax())]
        return name if normal.max() > np.cos(np.radians(15)) else f"oblique {name}"


@dataclass(frozen=True)
class Values:
    """How stored values of the projections become real ones: value = slope * stored + intercept."""

    slope: float | None
    intercept: float | None
    rescaled: bool  # the slices differ in it, so real values were compared


@dataclass(frozen=True)
class Result:
    """The three projections of one stack and the meaning of their values."""

    pictures: tuple[Picture, ...]
    values: Values


def rescale_of(s: Slice) -> tuple[float, float]:
    return s.number("RescaleSlope", 1.0), s.number("RescaleIntercept", 0.0)


def values_of(stack: Stack) -> Values:
    """Stored values are compared as they are if one positive slope and one intercept hold for all slices."""
    pairs = {rescale_of(s) for s in stack.slices}
    slope, intercept = next(iter(pairs))
    if len(pairs) > 1 or slope <= 0:
        return Values(None, None, rescaled=True)
    stated = any(s.header.get("RescaleSlope") is not None for s in stack.slices)
    return Values(slope if stated else None, intercept if stated else None, rescaled=False)


def read_pixels(s: Slice, values: Values) -> tuple[np.ndarray, np.ndarray | None]:
    """The pixels of one slice, and where they are padding (None: nowhere)."""
    ds = dcmread(s.path)
    stored = ds.pixel_array
    if stored.shape != (s.header.Rows, s.header.Columns):
        raise ValueError("pixel data do not have the announced size")
    padding = None
    if s.header.get("PixelPaddingValue") is not None:
        low, high = sorted(
            s.number(k, s.number("PixelPaddingValue")) for k in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        )
        inside = (stored >= low) & (stored <= high)
        padding = inside if inside.any() else None
    if not values.rescaled:
        return stored.astype(np.int32), padding
    slope, intercept = rescale_of(s)
    return stored.astype(np.float64) * slope + intercept, padding


def project(stack: Stack) -> Result:
    """Look through the stack along its normal, its columns and its rows.

    Slices are put on one upright grid to the nearest pixel, so a gantry tilt does not shear the side views.
    """
    values = values_of(stack)
    dtype = np.dtype(np.float64 if values.rescaled else np.int32)
    empty = dtype.type(-np.inf if values.rescaled else np.iinfo(np.int32).min)
    offsets = np.rint((stack.corners - stack.corners.min(axis=0)) / np.array(stack.spacing)).astype(int)
    size = np.array([stack.slices[0].header.Rows, stack.slices[0].header.Columns])
    rows, columns = (offsets.max(axis=0) + size).tolist()
    front = np.full((rows, columns), empty, dtype)
    top = np.full((len(stack.slices), columns), empty, dtype)  # columns projected away
    side = np.full((len(stack.slices), rows), empty, dtype)  # rows projected away
    lowest = None
    for k, (s, (r, c)) in enumerate(zip(stack.slices, offsets.tolist(), strict=True)):
        pixels, padding = read_pixels(s, values)
        if padding is not None:
            pixels[padding] = empty
        real = pixels[pixels != empty]
        if real.size:
            lowest = real.min() if lowest is None else min(lowest, real.min())
        part = front[r : r + pixels.shape[0], c : c + pixels.shape[1]]
        np.maximum(part, pixels, out=part)
        top[k, c : c + pixels.shape[1]] = pixels.max(axis=0)
        side[k, r : r + pixels.shape[0]] = pixels.max(axis=1)
    if lowest is None:
        raise ValueError("all pixels are padding")
    for image in (front, top, side):
        image[image == empty] = lowest
    nearest = even_rows(stack)
    return Result(place(stack, front, with_gaps(top, nearest, lowest), with_gaps(side, nearest, lowest)), values)


def even_rows(stack: Stack) -> np.ndarray:
    """For each row of an evenly spaced side view the index of the nearest slice, -1 where none is near."""
    gap = step(stack)
    count = round((stack.distances[-1] - stack.distances[0]) / gap) + 1
    wanted = stack.distances[0] + gap * np.arange(count)
    away = np.abs(wanted[:, None] - stack.distances[None, :])
    return np.where(away.min(axis=1) <= gap * 1.01, away.argmin(axis=1), -1)


def with_gaps(image: np.ndarray, nearest: np.ndarray, background: float) -> np.ndarray:
    """Rows of slices put where they belong; rows far from any slice are background."""
    result = image[nearest]
    result[nearest < 0] = background
    return result


def place(stack: Stack, front: np.ndarray, top: np.ndarray, side: np.ndarray) -> tuple[Picture, ...]:
    """Give the three images their place in the patient; each lies in the middle of what was projected."""
    gap = step(stack)
    rows, columns = front.shape
    high, wide = stack.spacing
    base = stack.corners.min(axis=0)
    corner = stack.distances[0] * stack.normal + base[0] * stack.down + base[1] * stack.across
    middle_n = (stack.distances[-1] - stack.distances[0]) / 2 * stack.normal
    middle_d = (rows - 1) / 2 * high * stack.down
    middle_a = (columns - 1) / 2 * wide * stack.across
    thick = float(stack.distances[-1] - stack.distances[0]) + gap
    n, d, a = stack.normal, stack.down, stack.across
    return (
        Picture(front, corner + middle_n, d, a, (high, wide), thick, "slice normal"),
        upright(Picture(top, corner + middle_d, n, a, (gap, wide), rows * high, "columns")),
        upright(Picture(side, corner + middle_a, n, d, (gap, high), columns * wide, "rows")),
    )


def upright(picture: Picture) -> Picture:
    """Turn a picture as radiologists hang it: head up or front up, the patient's right or front on the left."""
    if upness(picture.across) > upness(picture.down):
        picture = replace(
            picture,
            pixels=picture.pixels.T,
            down=picture.across,
            across=picture.down,
            spacing=(picture.spacing[1], picture.spacing[0]),
        )
    if main_sign(picture.down) * (-1 if int(np.abs(picture.down).argmax()) == 2 else 1) < 0:
        last = (picture.pixels.shape[0] - 1) * picture.spacing[0]
        picture = replace(
            picture, pixels=picture.pixels[::-1], origin=picture.origin + last * picture.down, down=-picture.down
        )
    if main_sign(picture.across) < 0:
        last = (picture.pixels.shape[1] - 1) * picture.spacing[1]
        picture = replace(
            picture,
            pixels=picture.pixels[:, ::-1],
            origin=picture.origin + last * picture.across,
            across=-picture.across,
        )
    return picture


def upness(direction: Vector) -> float:
    """How much a direction belongs into the vertical of a picture: head-feet before front-back before left-right."""
    main = int(np.abs(direction).argmax())
    return main + float(np.abs(direction[main]))


def main_sign(direction: Vector) -> float:
    return float(np.sign(direction[int(np.abs(direction).argmax())]))
