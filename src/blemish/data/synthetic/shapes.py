"""Opacities of synthetic defects: drawn at any size, and measured as with a ruler.

A stamp is an opacity `(h, w)`: above zero exactly where the defect is, and no larger than the defect.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic.strokes import Points, draw_polygons
from blemish.data.synthetic.texture import Field

Stamp = NDArray[np.float32]  # (h, w)

LEAST_OPACITY = 0.2
"""A pixel of which the defect covers less than this is left alone."""

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


def resize_to_extent(draw: Callable[[float], Field], size_px: float) -> Stamp:
    """What `draw` gives, drawn again until its extent is the one asked for, as near as its pixels allow."""
    nominal, best, least = size_px, np.ones((1, 1), np.float32), abs(1.0 - size_px)
    for _ in range(_REDRAWINGS):
        stamp = _trim(draw(nominal))
        found = extent_px(stamp > 0)
        if stamp.size and abs(found - size_px) < least:
            best, least = stamp, abs(found - size_px)
        if least <= 0.01 * size_px:
            break
        nominal *= min(2.0, max(0.5, size_px / max(found, 0.5)))
    return best


def draw_turned(
    outlines: Callable[[float, np.random.Generator], Sequence[Points]], angle: float, seed: int, nominal: float
) -> Field:
    """The outlines at one size and turned; whatever they draw by chance is the same at every size."""
    cos, sin = np.cos(angle), np.sin(angle)
    turned = [line @ np.array([[cos, sin], [-sin, cos]]) for line in outlines(nominal, np.random.default_rng(seed))]
    reach = int(np.ceil(max(np.abs(line).max() for line in turned))) + 2
    return draw_polygons(turned, float(reach), 2 * reach)


def _trim(opacity: Field) -> Stamp:
    """Without faint pixels and without empty borders."""
    solid = np.where(opacity >= LEAST_OPACITY, opacity, 0).astype(np.float32)
    rows, columns = (np.flatnonzero(solid.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return solid[:0, :0]
    return np.ascontiguousarray(solid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def keep_middle_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
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
