"""Outlines of synthetic defects: drawn at any size, and measured as with a ruler.

A stamp is an opacity `(h, w)`: above zero exactly where the defect is, and no larger than the defect.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.synthetic.strokes import GLYPHS, Points, blade, branch, draw_polygons, jagged_line, word
from blemish.data.synthetic.texture import Field, fractal_noise, smoothstep

Stamp = NDArray[np.float32]  # (h, w)

LEAST_OPACITY = 0.2
"""A pixel of which the defect covers less than this is left alone."""

_BLOB_CELLS = 48
_REDRAWINGS = 6


def extent_px(mask: NDArray[np.bool_]) -> float:
    """The size of a defect: the largest distance between the centres of two of its pixels, plus one pixel.

    What a ruler would say (Feret's diameter): the length of a scratch, the diameter of a hole. 0 of an empty mask.

    >>> extent_px(np.ones((1, 5), bool)), extent_px(np.ones((4, 5), bool))
    (5.0, 6.0)
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return 0.0
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.stack([rows, left], 1), np.stack([rows, right], 1)]).astype(np.float64)  # (n, 2)
    farthest = max(float(np.square(ends - end).sum(axis=1).max()) for end in ends)
    return float(np.sqrt(farthest)) + 1.0


def scratch_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """A thin line, hardly bent, that runs out at both ends."""
    bow, angle = float(rng.normal(0, 0.05)), float(rng.uniform(0, 2 * np.pi))

    def outlines(length: float, again: np.random.Generator) -> list[Points]:
        along = np.linspace(-0.5, 0.5, 17)
        line = np.stack([along, bow * (1 - 4 * along * along)], axis=1) * length
        return [blade(again, line, max(1.8, 0.03 * length))]

    return _sized(partial(_drawn_at, outlines, angle, _seed(rng)), size_px)


def crack_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """A jagged line, often with a branch (midpoint displacement, Fournier et al. 1982)."""
    angle, is_branched = float(rng.uniform(0, 2 * np.pi)), bool(rng.random() < 0.5)

    def outlines(length: float, again: np.random.Generator) -> list[Points]:
        trunk = jagged_line(again, length)
        widest = max(2.0, 0.05 * length)
        twig = [blade(again, branch(again, trunk, 0.35 * length), 0.7 * widest)] if is_branched else []
        return [blade(again, trunk, widest), *twig]

    return _sized(partial(_drawn_at, outlines, angle, _seed(rng)), size_px)


def hole_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """A disc, a little flattened and uneven."""
    flat, angle = float(rng.uniform(0.75, 1.0)), float(rng.uniform(0, 2 * np.pi))
    waves = rng.normal(0, 0.03, (2, 3))

    def outlines(diameter: float, _again: np.random.Generator) -> list[Points]:
        turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        radius = 1.0 + sum(a * np.cos(n * turn) + b * np.sin(n * turn) for n, (a, b) in enumerate(waves.T, 2))
        return [0.5 * diameter * np.stack([radius * np.cos(turn), flat * radius * np.sin(turn)], axis=1)]

    return _sized(partial(_drawn_at, outlines, angle, _seed(rng)), size_px)


def print_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """One to three letters."""
    letters = [str(letter) for letter in rng.choice(sorted(GLYPHS), int(rng.integers(1, 4)))]
    angle = float(rng.uniform(0, 2 * np.pi))

    def outlines(length: float, _again: np.random.Generator) -> list[Points]:
        height = length / max(1.25, len(letters))
        return word(letters, height, pen=max(1.2, height / 6))

    return _sized(partial(_drawn_at, outlines, angle, _seed(rng)), size_px)


def shard_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """A polygon of five to eight corners, as of something broken off."""
    corners = int(rng.integers(5, 9))
    turn = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
    radius = rng.uniform(0.32, 0.5, corners)
    shape = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    angle = float(rng.uniform(0, 2 * np.pi))
    return _sized(partial(_drawn_at, lambda size, _: [size * shape], angle, 0), size_px)


def blob_stamp(size_px: float, rng: np.random.Generator, softness: float) -> Stamp:
    """A patch of noise above a level, in one piece (after DRAEM's Perlin masks, Zavrtanik et al. 2021).

    `softness` is the share of the way to its middle over which it becomes opaque.
    """
    axis = np.linspace(-1, 1, _BLOB_CELLS, dtype=np.float32)
    noise = np.clip(fractal_noise(rng, _BLOB_CELLS, (4, 8, 16)), -1.6, 1.6)
    height = 1 - 2.4 * np.hypot(axis[:, None], axis[None, :]) + np.float32(0.5) * noise
    height = np.where(_piece_in_the_middle(height > 0), height, np.minimum(height, -0.05)).astype(np.float32)

    def draw(nominal: float) -> Field:
        side = max(3, round(1.6 * nominal))
        grown = np.asarray(Image.fromarray(height).resize((side, side), Image.Resampling.BICUBIC))
        return np.asarray(np.where(grown > 0, smoothstep(-softness / 4, softness, grown), 0), np.float32)

    return _sized(draw, size_px)


def _sized(draw: Callable[[float], Field], size_px: float) -> Stamp:
    """What `draw` gives, drawn again until its extent is the one asked for, as near as its pixels allow."""
    nominal, best, least = size_px, np.ones((1, 1), np.float32), abs(1.0 - size_px)
    for _ in range(_REDRAWINGS):
        stamp = _trimmed(draw(nominal))
        found = extent_px(stamp > 0)
        if stamp.size and abs(found - size_px) < least:
            best, least = stamp, abs(found - size_px)
        if least <= 0.01 * size_px:
            break
        nominal *= min(2.0, max(0.5, size_px / max(found, 0.5)))
    return best


def _drawn_at(
    outlines: Callable[[float, np.random.Generator], Sequence[Points]], angle: float, seed: int, nominal: float
) -> Field:
    """The outlines at one size and turned; whatever they draw by chance is the same at every size."""
    cos, sin = np.cos(angle), np.sin(angle)
    turned = [line @ np.array([[cos, sin], [-sin, cos]]) for line in outlines(nominal, np.random.default_rng(seed))]
    reach = int(np.ceil(max(np.abs(line).max() for line in turned))) + 2
    return draw_polygons(turned, float(reach), 2 * reach)


def _trimmed(opacity: Field) -> Stamp:
    """Without faint pixels and without empty borders."""
    solid = np.where(opacity >= LEAST_OPACITY, opacity, 0).astype(np.float32)
    rows, columns = (np.flatnonzero(solid.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return solid[:0, :0]
    return np.ascontiguousarray(solid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _piece_in_the_middle(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected piece around the middle pixel."""
    piece = np.zeros_like(mask)
    middle = tuple(side // 2 for side in mask.shape)
    piece[middle] = True
    while True:
        around = np.pad(piece, 1)
        grown = around[1:-1, 1:-1] | around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:]
        grown &= mask
        grown[middle] = True
        if (grown == piece).all():
            return piece
        piece = grown


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**62))
