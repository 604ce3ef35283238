"""How strange each image is among the others: each is judged by what the images of all other groups teach."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]  # (n, p, d): images, places, numbers
Maps = NDArray[np.float64]  # (n, p)

SHRINKAGE = 0.05
"""How far the covariance is drawn towards a multiple of the unit matrix (Ledoit & Wolf 2004), for few images."""

_DEVIATIONS = 5
_TINY = 1e-12


def left_out_distances(features: Features, groups: Sequence[int]) -> Maps:
    """Squared Mahalanobis distance of each image at each place, by the mean at that place over the other groups.

    As PaDiM has it (Defard et al. 2021), but with one covariance for all places, which few images suffice for, and with
    the image's own group left out. Nothing is fitted again: with r the difference to the mean over all images, s_p the
    sum of r over the group at place p and m images in the other groups, the others' mean is -s_p / m, and their scatter
    is A - sum r r^T - sum s_p s_p^T / m, where A is the scatter of all.

    `groups` has a number for each image; images of one group never judge each other. At least two groups.

    >>> features = np.random.default_rng(0).normal(size=(6, 40, 2)); features[4, 7] += 9
    >>> left_out_distances(features, range(6)).max(axis=1).argmax()
    np.int64(4)
    """
    count, places, depth = features.shape
    mean = features.mean(axis=0, dtype=np.float64)  # (p, d)
    members = [np.flatnonzero(np.asarray(groups) == group) for group in groups]
    scatters = np.zeros((count, depth, depth))
    for image in range(count):
        difference = features[image] - mean
        scatters[image] = difference.T @ difference
    total = scatters.sum(axis=0)
    distances = np.empty((count, places))
    for image, own in enumerate(members):
        others = count - len(own)
        together = sum((features[each] - mean for each in own), start=np.zeros_like(mean))
        scatter = total - scatters[own].sum(axis=0) - together.T @ together / others
        root = np.linalg.cholesky(np.linalg.inv(_shrunk(scatter / (others * places))))
        distances[image] = np.square((features[image] - mean + together / others) @ root).sum(axis=1)
    return distances


def in_units_of_usual(maps: Maps, groups: Sequence[int], inside: NDArray[np.bool_]) -> Maps:
    """Maps `(n, p)`, smoothed over 3 x 3 places, by what is high there: five deviations above the other groups' mean.

    Mean and deviation are those of the logarithms, outliers cut, so that one very strange image does not hide another.
    A place that often looks odd, like the edge of a part, counts less. No place counts as quieter than the median one:
    where nothing ever happens, a grain of dust would else be the strangest of all.

    `inside` `(tiles, h, w)` says where the p places lie in one or more grids.

    >>> maps = np.ones((4, 2)); maps[:, 1] = [4, 1, 4, 64]
    >>> in_units_of_usual(maps, range(4), np.ones((2, 1, 1), bool)).round(2)[:, 1]
    array([0.  , 0.  , 0.  , 0.97])
    """
    numbers = np.asarray(groups)
    logs = _without_outliers(np.log(np.maximum(maps, _TINY)))
    sums = np.stack([logs.sum(axis=0), np.square(logs).sum(axis=0)])
    scaled = np.empty_like(maps)
    for image, group in enumerate(numbers):
        own = logs[numbers == group]
        left = (sums - [own.sum(axis=0), np.square(own).sum(axis=0)]) / (len(maps) - len(own))
        mean, square = (_smoothed(one, inside) for one in left)
        high = np.exp(mean + _DEVIATIONS * np.sqrt(np.maximum(square - mean * mean, 0)))
        scaled[image] = _smoothed(maps[image], inside) / np.maximum(high, np.median(high))
    return scaled


def _without_outliers(logs: Maps) -> Maps:
    """At each place, what lies far above nine in ten images is brought down; far is meant over all places."""
    low, high = np.quantile(logs, (0.25, 0.75))
    return np.asarray(np.minimum(logs, np.quantile(logs, 0.9, axis=0) + (high - low)), np.float64)


def _shrunk(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    level = max(float(np.trace(covariance)) / len(covariance), _TINY)
    shrunk: NDArray[np.float64] = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))
    return shrunk


def _smoothed(values: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean over 3 x 3 places of each grid, of those inside."""
    grid = np.zeros(inside.shape)
    grid[inside] = values
    smooth: NDArray[np.float64] = (_summed(grid) / np.maximum(_summed(inside.astype(np.float64)), 1))[inside]
    return smooth


def _summed(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    wide = np.pad(grid, ((0, 0), (1, 1), (1, 1)))
    height, width = grid.shape[1:]
    return sum((wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)), start=np.zeros_like(grid))
