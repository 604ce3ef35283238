"""Does a map know where the defect of this image lies, or only where defects usually lie?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_PX = 2**20
"""Of larger maps every second, third or further row and column is taken."""


def localisation_gain(
    anomaly_map: NDArray[np.floating],
    own: NDArray[np.bool_],
    others: Sequence[NDArray[np.bool_]],
    valid: NDArray[np.bool_] | None = None,
) -> float:
    """Pixel AUROC of a map (h, w) with its own mask, less the mean of it with masks of other images (each h, w).

    0 where the map fits its own image no better than any other, as one that is high in the middle of every image; from
    -1 to 1, and about 0.5 for a map that is right where defects lie anywhere. Only pixels where `valid` is True count.
    nan where no other mask marks any, or the own mask marks none or all.

    >>> marked = np.eye(3, dtype=bool)
    >>> localisation_gain(marked * 1.0, marked, [marked[::-1]])  # own 1; of the other's three pixels one is on it
    0.5
    >>> localisation_gain(np.ones((3, 3)), marked, [marked[::-1]])
    0.0
    """
    step = int(np.ceil(np.sqrt(max(anomaly_map.size / MOST_PX, 1.0))))
    inside = np.ones_like(own) if valid is None else valid
    thinned = tuple(each[::step, ::step] for each in (anomaly_map, inside))
    _, level, times = np.unique(thinned[0][thinned[1]], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2.0)[level]  # from 1; of equal values the mean

    def area(mask: NDArray[np.bool_]) -> float:
        above = ranks[mask[::step, ::step][thinned[1]]]
        pairs = above.size * (ranks.size - above.size)
        return (above.sum() - above.size * (above.size + 1) / 2.0) / pairs if pairs else np.nan

    crossed = [one for one in map(area, others) if not np.isnan(one)]
    return float(area(own) - np.mean(crossed)) if crossed else np.nan


def at_size(mask: NDArray[np.bool_], size_px: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask at this height and width, by nearest neighbour; the same one where it has them.

    >>> at_size(np.array([[True, False]]), (2, 4))
    array([[ True,  True, False, False],
           [ True,  True, False, False]])
    """
    if mask.shape == size_px:
        return mask
    rows, columns = (np.arange(wanted) * there // wanted for wanted, there in zip(size_px, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]
