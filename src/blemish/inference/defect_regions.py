"""The defective regions of an image: connected pixels above the threshold, in the photo's own pixels. numpy alone."""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.inference.score import resize_map

Ints = NDArray[np.int64]


@final
class Region(NamedTuple):
    """Connected defective pixels; pixels that touch at a corner are connected. All places count from 0, in pixels."""

    left: int
    top: int
    width: int
    height: int
    area_px: int
    centroid_x: float
    """Mean column of its pixels; `centroid_y` likewise."""
    centroid_y: float
    peak: float
    """The largest value of the map in it."""
    peak_x: int
    peak_y: int


@final
class _Runs(NamedTuple):
    """Defective pixels side by side in a row, in the order of rows: columns from `start` to before `end`."""

    row: Ints
    start: Ints
    end: Ints


def find_regions(scored_map: NDArray[np.float32], threshold: float, size_px: tuple[int, int]) -> list[Region]:
    """The regions of a map `(h, w)` above the threshold, for an image of `size_px` (height, width), highest peak first.

    They are those of the defect mask at the image's size, found at the map's size where that is smaller.

    >>> find_regions(np.array([[0, 3, 0], [0, 0, 2], [9, 0, 0]], np.float32), 1.0, (6, 6))[1]._asdict()
    {'left': 2, 'top': 0, 'width': 4, 'height': 4, 'area_px': 8, 'centroid_x': 3.5, 'centroid_y': 1.5, 'peak': 3.0,
    'peak_x': 2, 'peak_y': 0}
    """
    height, width = (min(side, own) for side, own in zip(scored_map.shape, size_px, strict=True))
    small = resize_map(scored_map, (height, width))
    mask = small > np.float64(threshold)
    if not mask.any():
        return []
    runs = _runs(mask)
    label = _connect(runs, width + 2)
    # The pixel (y, x) of the small map is the pixels ys[y] to before ys[y + 1], xs[x] to before xs[x + 1] of the photo.
    ys, xs = (-(-np.arange(n + 1) * own // n) for n, own in zip((height, width), size_px, strict=True))
    box = ys[runs.row], ys[runs.row + 1], xs[runs.start], xs[runs.end]
    return sorted(_measure(runs, label, box, small[mask], (ys, xs)), key=lambda one: (-one.peak, one.top, one.left))


def _measure(
    runs: _Runs, label: Ints, box: tuple[Ints, Ints, Ints, Ints], values: NDArray[np.float32], edges: tuple[Ints, Ints]
) -> list[Region]:
    """The regions of labelled runs; `values` are those of the defective pixels, in order."""
    top, bottom, left, right = box
    n, (ys, xs) = int(label.max()) + 1, edges
    area = (bottom - top) * (right - left)
    total = np.bincount(label, area, n)
    middle_x = np.bincount(label, area * (left + right - 1) / 2, n) / total
    middle_y = np.bincount(label, area * (top + bottom - 1) / 2, n) / total
    first_y, last_y, first_x, last_x = (
        _extreme(np.minimum, label, top, n),
        _extreme(np.maximum, label, bottom, n),
        _extreme(np.minimum, label, left, n),
        _extreme(np.maximum, label, right, n),
    )
    lengths = runs.end - runs.start
    of_pixel = np.repeat(label, lengths)
    peak = np.full(n, -np.inf)
    np.maximum.at(peak, of_pixel, values)
    highest = np.flatnonzero(values == peak[of_pixel])
    pixel = highest[np.unique(of_pixel[highest], return_index=True)[1]]  # the first of each region
    run = np.searchsorted(np.cumsum(lengths), pixel, side="right")
    column = runs.start[run] + pixel - (np.cumsum(lengths) - lengths)[run]
    peak_y = (ys[runs.row[run]] + ys[runs.row[run] + 1] - 1) // 2
    peak_x = (xs[column] + xs[column + 1] - 1) // 2
    box_columns = (first_x, first_y, last_x - first_x, last_y - first_y, total.astype(np.int64))
    columns = (*box_columns, middle_x.round(2), middle_y.round(2), peak, peak_x, peak_y)
    return [Region(*one) for one in zip(*(np.asarray(column).tolist() for column in columns), strict=True)]


def _extreme(which: np.ufunc, label: Ints, values: Ints, n: int) -> Ints:
    found = np.full(n, np.iinfo(np.int64).max if which is np.minimum else -1, np.int64)
    which.at(found, label, values)
    return found


def _runs(mask: NDArray[np.bool_]) -> _Runs:
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(steps == 1)
    return _Runs(row, start, np.nonzero(steps == -1)[1])


def _connect(runs: _Runs, width: int) -> Ints:
    """The region of each run, from 0: runs of neighbouring rows are connected where they touch, also at a corner."""
    below = (runs.row + 1) * width
    first = np.searchsorted(runs.row * width + runs.end, below + runs.start, side="left")
    last = np.searchsorted(runs.row * width + runs.start, below + runs.end, side="right")
    count = np.maximum(last - first, 0)
    one = np.repeat(np.arange(len(count)), count)
    other = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    root = np.arange(len(count))
    while not np.array_equal(root[one], root[other]):
        low = np.minimum(root[one], root[other])
        np.minimum.at(root, root[one], low)
        np.minimum.at(root, root[other], low)
        while not np.array_equal(root, root[root]):
            root = root[root]
    return np.unique(root, return_inverse=True)[1].astype(np.int64)
