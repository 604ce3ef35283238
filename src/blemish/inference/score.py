"""From an anomaly map to a score, on arrays alone."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from blemish.errors import SettingsError


def max_score(anomaly_map: NDArray[np.float32]) -> float:
    """The score of an image: the maximum of its map, so an image is anomalous exactly when one pixel is.

    >>> max_score(np.array([[0.25, 0.5], [0.0, 0.125]], np.float32))
    0.5
    """
    return float(anomaly_map.max())


def score_text(score: float | None, digits: int = 4) -> str:
    """A score or threshold, always of so many digits, so that scores beside each other compare at a glance.

    >>> score_text(1.2), score_text(427.83901), score_text(1234.4), score_text(9999.7), score_text(None)
    ('1.200', '427.8', '1234', '10000', '-')
    >>> score_text(1.2, 5), score_text(12345.6, 5), score_text(123456.7, 5)
    ('1.2000', '12346', '123457')
    """
    if score is None:
        return "-"
    return f"{score:#.{digits}g}".rstrip(".") if abs(score) < 10**digits - 0.5 else f"{score:.0f}"


def remove_small_regions(anomaly_map: NDArray[np.float32], min_defect_px: int) -> NDArray[np.float32]:
    """Grey-scale opening with a square window: what is smaller than `min_defect_px` pixels square is levelled.

    The opening is the largest map below the given one in which every pixel lies in a window of that size whose values
    are all at least its own (Serra 1982). Windows lie wholly inside the image.

    Raises:
        SettingsError: the window is larger than the map.

    >>> spot, block = np.zeros((5, 5), np.float32), np.zeros((5, 5), np.float32)
    >>> spot[2, 2] = 1; block[1:3, 1:3] = 1
    >>> remove_small_regions(spot, 2).max(), remove_small_regions(block, 2).sum()
    (np.float32(0.0), np.float32(4.0))
    """
    if min_defect_px == 1:
        return anomaly_map
    if min_defect_px > min(anomaly_map.shape):
        sides = " x ".join(str(side) for side in anomaly_map.shape)
        raise SettingsError(f"score.min_defect_px: {min_defect_px} is larger than the map, {sides}")
    lowest = anomaly_map
    for axis in (0, 1):
        lowest = sliding_window_view(lowest, min_defect_px, axis=axis).min(axis=-1)
    opened = np.pad(lowest, min_defect_px - 1, constant_values=-np.inf)
    for axis in (0, 1):
        opened = sliding_window_view(opened, min_defect_px, axis=axis).max(axis=-1)
    return np.ascontiguousarray(opened)


def resize_map(anomaly_map: NDArray[np.float32], size_px: tuple[int, int]) -> NDArray[np.float32]:
    """The map at another size (height, width), its maximum kept: repeated when larger, the maximum when smaller.

    Thresholding before or after gives the same mask, which no interpolation between pixels would.

    >>> resize_map(np.array([[1, 2], [3, 4]], np.float32), (2, 4)).tolist()
    [[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]]
    >>> resize_map(np.array([[1, 2], [3, 4]], np.float32), (1, 2)).tolist()
    [[3.0, 4.0]]
    """
    for axis, wanted in enumerate(size_px):
        found = anomaly_map.shape[axis]
        if wanted < found:
            starts = np.arange(wanted) * found // wanted
            anomaly_map = np.maximum.reduceat(anomaly_map, starts, axis=axis)
        elif wanted > found:
            anomaly_map = np.take(anomaly_map, np.arange(wanted) * found // wanted, axis=axis)
    return anomaly_map
