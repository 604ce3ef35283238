"""Putting a defect on a photograph: where it fits, how strong it is, and its exact mask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic.shapes import Stamp
from blemish.errors import DataError

Pixels = NDArray[np.float32]  # (h, w, c) in [0, 1]
Mask = NDArray[np.bool_]  # (h, w)
Corner = tuple[int, int]
"""Row and column of a stamp's top left pixel."""

MAX_GAIN = 4.0
"""A change is strengthened up to this much to reach the contrast; beyond it another place is tried."""

_SHAPES, _PLACES = 12, 25
"""How many shapes are tried before giving up, and how many places of each."""
_HALVINGS = 24


@final
@dataclass(frozen=True)
class Defect:
    """One kind of defect: its shape, an opacity of a given extent, and the change of the pixels under it."""

    stamp: Callable[[float, np.random.Generator], Stamp]
    effect: Callable[[Pixels, Corner, Stamp, np.random.Generator], Pixels]

    def __call__(
        self, image: Pixels, region: Mask | None, size_px: float, contrast: float, rng: np.random.Generator
    ) -> tuple[Pixels, Mask]:
        """The image with one such defect inside the region, and its mask.

        Raises:
            DataError: no place in the region can hold it with that contrast.
        """
        inside = None if region is None else np.flatnonzero(region)
        for _ in range(_SHAPES):
            stamp = self.stamp(size_px, rng)
            mask = stamp > 0
            for _ in range(_PLACES):
                corner = _draw_corner(image, inside, stamp, rng)
                if corner is None or (region is not None and not region[box_of(corner, stamp)][mask].all()):
                    continue
                pixels = crop_under(image, corner, stamp)[mask]  # (n, c)
                changed = _reach_contrast(pixels, self.effect(image, corner, stamp, rng)[mask], contrast)
                if changed is not None:
                    return _paste(image, corner, mask, changed)
        raise DataError(
            f"no place for a defect of {size_px:g} px and contrast {contrast:g} in "
            f"{'the image' if region is None else 'the region of interest'} of {image.shape[0]} x {image.shape[1]} px; "
            "ask for a smaller or fainter one"
        )


def _draw_corner(
    image: Pixels, inside: NDArray[np.intp] | None, stamp: Stamp, rng: np.random.Generator
) -> Corner | None:
    """Where the stamp's top left would be, its middle anywhere inside; None where it leaves the image."""
    height, width = image.shape[:2]
    if inside is None:
        row, column = int(rng.integers(height)), int(rng.integers(width))
    elif inside.size:
        row, column = divmod(int(inside[rng.integers(inside.size)]), width)
    else:
        return None
    top, left = row - stamp.shape[0] // 2, column - stamp.shape[1] // 2
    fits = 0 <= top <= height - stamp.shape[0] and 0 <= left <= width - stamp.shape[1]
    return (top, left) if fits else None


def box_of(corner: Corner, stamp: Stamp | Mask) -> tuple[slice, slice]:
    """Rows and columns that a stamp covers."""
    return slice(corner[0], corner[0] + stamp.shape[0]), slice(corner[1], corner[1] + stamp.shape[1])


def crop_under(image: Pixels, corner: Corner, stamp: Stamp) -> Pixels:
    """The pixels that a stamp covers."""
    return image[box_of(corner, stamp)]


def _reach_contrast(pixels: Pixels, change: Pixels, contrast: float) -> Pixels | None:
    """The pixels changed so that the mean change is the contrast; None where black and white are too near."""

    def at(gain: float) -> Pixels:
        return np.asarray(np.clip(pixels + np.float32(gain) * change, 0, 1), np.float32)

    def reached(gain: float) -> float:
        return float(np.abs(at(gain) - pixels).mean())

    if reached(MAX_GAIN) < contrast:
        return None
    low, high = 0.0, MAX_GAIN
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < contrast else (low, middle)
    return at(high)


def _paste(image: Pixels, corner: Corner, mask: Mask, changed: Pixels) -> tuple[Pixels, Mask]:
    defective, placed = image.copy(), np.zeros(image.shape[:2], bool)
    box = box_of(corner, mask)
    defective[box][mask] = changed
    placed[box] = mask
    return defective, placed
