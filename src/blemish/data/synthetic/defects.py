"""Synthetic defects put on photographs of good parts, with exact masks.

Each of `DEFECTS` takes an image, float32 `(h, w, c)` in [0, 1] at its own size, and gives it back with one defect:

- *size_px* is what a ruler would say: the largest distance between two pixels of the defect (`extent_px`).
- *contrast* is the mean change of the defect's pixels, over all channels; 1 is the full range from black to white.
- The mask is exact: every pixel outside it is bit for bit the image's, and it lies wholly inside the region.
- Where the image cannot show the defect (a dark hole on black ground), another place is tried.

Ideas: pieces of the image put elsewhere, CutPaste (Li et al. 2021); shapes from thresholded noise, DRAEM (Zavrtanik
et al. 2021); joining without a seam, Poisson editing (Perez et al. 2003) as NSA uses it (Schlueter et al. 2022).
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.synthetic.poisson import poisson_blend
from blemish.data.synthetic.shapes import (
    Stamp,
    blob_stamp,
    crack_stamp,
    hole_stamp,
    print_stamp,
    scratch_stamp,
    shard_stamp,
)
from blemish.data.synthetic.texture import value_noise
from blemish.errors import DataError

Pixels = NDArray[np.float32]  # (h, w, c) in [0, 1]
Mask = NDArray[np.bool_]  # (h, w)

MAX_GAIN = 4.0
"""A change is strengthened up to this much to reach the contrast; beyond it another place is tried."""

_SHAPES, _PLACES = 12, 25
"""How many shapes are tried before giving up, and how many places of each."""
_HALVINGS = 24

Corner = tuple[int, int]


class Defect(Protocol):
    """One kind of defect."""

    def __call__(
        self, image: Pixels, region: Mask | None, size_px: float, contrast: float, rng: np.random.Generator
    ) -> tuple[Pixels, Mask]: ...


def scratch(
    image: Pixels, region: Mask | None, size_px: float, contrast: float, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """A thin line, darker or lighter than the surface.

    Raises:
        DataError: no place in the region can hold it with that contrast.

    >>> good = np.full((64, 64, 1), 0.5, np.float32)
    >>> image, mask = scratch(good, None, size_px=20, contrast=0.1, rng=np.random.default_rng(0))
    >>> round(float(np.abs(image - good)[mask].mean()), 3), bool((image == good)[~mask].all())
    (0.1, True)
    """

    def paint(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
        return _towards(image, corner, opacity, np.float32(rng.integers(2)))

    return _put(image, region, size_px, contrast, rng, scratch_stamp, paint)


def crack(
    image: Pixels, region: Mask | None, size_px: float, contrast: float, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """A dark jagged line, often branched.

    Raises:
        DataError: no place in the region can hold it with that contrast.
    """
    return _put(image, region, size_px, contrast, rng, crack_stamp, _darkened)


def hole(
    image: Pixels, region: Mask | None, size_px: float, contrast: float, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """A dark round spot, deepest at one side.

    Raises:
        DataError: no place in the region can hold it with that contrast.
    """

    def paint(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
        angle = rng.uniform(0, 2 * np.pi)
        down, across = (np.linspace(-1, 1, side, dtype=np.float32) for side in opacity.shape)
        lit = 0.8 + 0.2 * (np.cos(angle) * down[:, None] + np.sin(angle) * across[None, :])
        return _towards(image, corner, np.asarray(opacity * lit, np.float32), np.float32(0))

    return _put(image, region, size_px, contrast, rng, hole_stamp, paint)


def stain(
    image: Pixels, region: Mask | None, size_px: float, contrast: float, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """A translucent, cloudy patch of another tint with soft edges, as of oil or dye.

    Raises:
        DataError: no place in the region can hold it with that contrast.
    """

    def paint(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
        tint = np.asarray(rng.uniform(0.2, 0.9, image.shape[2]), np.float32)
        clouds = np.clip(0.75 + 0.2 * value_noise(rng, opacity.shape, (5, 5)), 0.3, 1.0)
        under = _under(image, corner, opacity)
        tinted = under * tint if rng.random() < 0.5 else 1 - (1 - under) * tint
        return np.asarray((tinted - under) * (opacity * clouds)[..., None], np.float32)

    return _put(image, region, size_px, contrast, rng, partial(blob_stamp, softness=0.5), paint)


def print_letters(
    image: Pixels, region: Mask | None, size_px: float, contrast: float, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """One to three letters in ink of any colour.

    Raises:
        DataError: no place in the region can hold it with that contrast.
    """

    def paint(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
        return _towards(image, corner, opacity, rng.integers(0, 2, image.shape[2]).astype(np.float32))

    return _put(image, region, size_px, contrast, rng, print_stamp, paint)


def missing_piece(
    image: Pixels, region: Mask | None, size_px: float, contrast: float, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """A piece broken out: the ground shows, or the dark.

    The ground has the median colour of the image's outermost pixels; whichever differs more is shown.

    Raises:
        DataError: no place in the region can hold it with that contrast.
    """

    def paint(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
        frame = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])  # (n, c)
        ground = np.median(frame, axis=0).astype(np.float32)
        changes = [_towards(image, corner, opacity, colour) for colour in (ground, np.zeros_like(ground))]
        change = max(changes, key=lambda one: float(np.abs(one).mean()))
        grain = rng.normal(0, 0.01, change.shape).astype(np.float32)  # no camera gives a perfectly flat colour
        return np.asarray(change + grain * opacity[..., None], np.float32)

    return _put(image, region, size_px, contrast, rng, shard_stamp, paint)


def texture_patch(
    image: Pixels, region: Mask | None, size_px: float, contrast: float, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """Another part of the image, turned and scaled, joined without a seam.

    Raises:
        DataError: no place in the region can hold it with that contrast.
    """

    def paint(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
        mask = opacity > 0
        frame = np.pad(mask, 1)  # the border of the patch has to meet the image
        top, left = corner[0] - 1, corner[1] - 1
        rows = np.clip(np.arange(top, top + frame.shape[0]), 0, image.shape[0] - 1)
        columns = np.clip(np.arange(left, left + frame.shape[1]), 0, image.shape[1] - 1)
        under = image[np.ix_(rows, columns)]
        blended = poisson_blend(under, _piece_of(image, frame.shape, rng), frame)
        return np.asarray((blended - under)[1:-1, 1:-1] * mask[..., None], np.float32)

    return _put(image, region, size_px, contrast, rng, partial(blob_stamp, softness=0.01), paint)


DEFECTS: dict[str, Defect] = {
    "scratch": scratch,
    "crack": crack,
    "hole": hole,
    "stain": stain,
    "print": print_letters,
    "missing_piece": missing_piece,
    "texture_patch": texture_patch,
}
"""Adding one is a function and a line here; the contract tests then cover it."""


def _put(
    image: Pixels,
    region: Mask | None,
    size_px: float,
    contrast: float,
    rng: np.random.Generator,
    draw: Callable[[float, np.random.Generator], Stamp],
    paint: Callable[[Pixels, Corner, Stamp, np.random.Generator], Pixels],
) -> tuple[Pixels, Mask]:
    """Draw shapes and try places until one lies inside the region and can have the contrast."""
    inside = None if region is None else np.flatnonzero(region)
    for _ in range(_SHAPES):
        stamp = draw(size_px, rng)
        mask = stamp > 0
        for _ in range(_PLACES):
            corner = _corner(image, inside, stamp, rng)
            if corner is None or (region is not None and not region[_box(corner, stamp)][mask].all()):
                continue
            pixels = image[_box(corner, stamp)][mask]  # (n, c)
            changed = _changed(pixels, paint(image, corner, stamp, rng)[mask], contrast)
            if changed is not None:
                return _pasted(image, corner, mask, changed)
    raise DataError(
        f"no place for a defect of {size_px:g} px and contrast {contrast:g} in "
        f"{'the image' if region is None else 'the region of interest'} of {image.shape[0]} x {image.shape[1]} px; "
        "ask for a smaller or fainter one"
    )


def _corner(image: Pixels, inside: NDArray[np.intp] | None, stamp: Stamp, rng: np.random.Generator) -> Corner | None:
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


def _box(corner: Corner, stamp: Stamp) -> tuple[slice, slice]:
    return slice(corner[0], corner[0] + stamp.shape[0]), slice(corner[1], corner[1] + stamp.shape[1])


def _under(image: Pixels, corner: Corner, stamp: Stamp) -> Pixels:
    return image[_box(corner, stamp)]


def _changed(pixels: Pixels, change: Pixels, contrast: float) -> Pixels | None:
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


def _pasted(image: Pixels, corner: Corner, mask: Mask, changed: Pixels) -> tuple[Pixels, Mask]:
    defective, whole = image.copy(), np.zeros(image.shape[:2], bool)
    box = slice(corner[0], corner[0] + mask.shape[0]), slice(corner[1], corner[1] + mask.shape[1])
    defective[box][mask] = changed
    whole[box] = mask
    return defective, whole


def _towards(image: Pixels, corner: Corner, opacity: Stamp, colour: NDArray[np.float32] | np.float32) -> Pixels:
    return np.asarray((colour - _under(image, corner, opacity)) * opacity[..., None], np.float32)


def _darkened(image: Pixels, corner: Corner, opacity: Stamp, _rng: np.random.Generator) -> Pixels:
    return _towards(image, corner, opacity, np.float32(0))


def _piece_of(image: Pixels, shape: tuple[int, ...], rng: np.random.Generator) -> Pixels:
    """Any part of the image, turned by a quarter or half and scaled, as large as asked for."""
    turns, zoom = int(rng.integers(4)), float(rng.choice([0.4, 0.6, 1.6, 2.5]))
    height, width = shape[:2] if turns % 2 == 0 else shape[1::-1]
    rows, columns = (
        max(2, min(limit, round(side * zoom))) for side, limit in zip((height, width), image.shape[:2], strict=True)
    )
    top, left = (
        int(rng.integers(limit - side + 1)) for side, limit in zip((rows, columns), image.shape[:2], strict=True)
    )
    piece = image[top : top + rows, left : left + columns]
    scaled = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(piece[..., c])).resize((width, height), Image.Resampling.BICUBIC)
        )
        for c in range(image.shape[2])
    ]
    return np.asarray(np.clip(np.rot90(np.stack(scaled, axis=-1), turns), 0, 1), np.float32)
