"""The connected regions of a mask, and the false-positive rates that AUPRO and AUPIMO are taken over."""

import numpy as np
from numpy.typing import NDArray

MAX_FPR = 0.3
"""Of AUPRO (Bergmann et al. 2021)."""
FPR_RANGE = (1e-5, 1e-4)
"""Of AUPIMO (Bertoldo et al. 2024)."""
MAX_LINE_PX, MAX_LINE_SHARE = 7, 0.01
"""An outline is a line of at most that width, or of that share of the mask's longer side."""
MIN_HOLE_PX, MIN_EVEN = 9, 0.6
"""Of what a line of one width encloses: its pixels, and its overlap with what lies that far inside the outer edge."""


def grow_mask(mask: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    """The mask `(h, w)` and every pixel at most `by_px` rows and columns from it.

    >>> grow_mask(np.array([[True, False, False]]), 1).tolist()
    [[True, True, False]]
    """
    for axis in (0, 1):  # a square grows side by side; the running count makes it as fast for wide margins
        count = np.cumsum(np.insert(mask, 0, False, axis=axis), axis=axis, dtype=np.int32)
        side = mask.shape[axis]
        last = np.minimum(np.arange(side) + by_px + 1, side)
        first = np.maximum(np.arange(side) - by_px, 0)
        mask = count.take(last, axis=axis) > count.take(first, axis=axis)
    return mask


def label_regions(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the regions of a mask (h, w) from 1; 0 is the ground. Pixels that touch at a corner are connected.

    >>> label_regions(np.array([[1, 0, 0, 1], [0, 1, 0, 1]], np.bool_))
    array([[1, 0, 0, 2], [0, 1, 0, 2]], dtype=int32)
    """
    from scipy import ndimage  # here, so that all other measures work where only the inspection part is installed

    labels: NDArray[np.int32] = np.zeros(mask.shape, np.int32)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size:  # defects are small: looking at their bounding box only is several times faster
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        ndimage.label(mask[box], structure=np.ones((3, 3)), output=labels[box])
    return labels


def is_outline(mask: NDArray[np.bool_]) -> bool:
    """Whether what a mask (h, w) marks is thin everywhere and lies around more pixels than it has, or in one width.

    >>> ring = np.pad(np.pad(np.zeros((6, 6), np.bool_), 1, constant_values=True), 2)
    >>> small = np.pad(np.pad(np.zeros((4, 4), np.bool_), 3, constant_values=True), 2)
    >>> is_outline(ring), is_outline(small), is_outline(np.pad(np.ones((8, 8), np.bool_), 2))
    (True, True, False)
    """
    from scipy import ndimage

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return False
    box = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    ground, _ = ndimage.label(~box)
    around = ground == ground[0, 0]
    hole = ~box & ~around
    half_px = int(max(MAX_LINE_PX, MAX_LINE_SHARE * max(mask.shape))) // 2
    if np.count_nonzero(hole) < MIN_HOLE_PX or not grow_mask(~box, half_px).all():
        return False
    depth = ndimage.distance_transform_edt(~around)
    inside = depth > np.median(depth[box & grow_mask(hole, 1)])
    is_even = np.count_nonzero(inside & hole) > MIN_EVEN * np.count_nonzero(inside | hole)
    return bool(is_even or np.count_nonzero(hole) >= np.count_nonzero(box))
