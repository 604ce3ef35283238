"""Measures that look at defects as connected regions, and at each image by itself: AUPRO and AUPIMO.

The functions on whole sets of maps are exact and hold everything in memory; for large sets see `PixelScores`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.stats.ranking import linear_credit, log_credit, mean_credit

MAX_FPR = 0.3
FPR_RANGE = (1e-5, 1e-4)


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


def aupro(maps: Sequence[NDArray[np.floating]], masks: Sequence[NDArray[np.bool_]], max_fpr: float = MAX_FPR) -> float:
    """Area under the per-region overlap curve up to a false-positive rate, divided by that rate.

    At each threshold, the share of each defective region (8-connected) that is found, averaged over all regions of
    all images, against the share of all good pixels that is called defective (Bergmann et al. 2021, IJCV 129).
    Trapezoid rule, with linear interpolation at `max_fpr`. nan without defective regions or without good pixels.

    >>> anomaly_map = np.array([[0.9, 0.2, 0.5, 0.1]])
    >>> aupro([anomaly_map], [np.array([[True, False, True, False]])], max_fpr=1.0)
    1.0
    >>> aupro([anomaly_map], [np.array([[True, False, False, True]])], max_fpr=0.5)  # one region of two
    0.5
    """
    values = np.concatenate([np.ravel(each) for each in maps])
    mask = np.concatenate([np.ravel(each) for each in masks])
    _, level = np.unique(values, return_inverse=True)
    good = np.bincount(level[~mask], minlength=level.max() + 1)
    share = np.concatenate([_region_shares(each) for each in masks])
    overlap = np.bincount(level, weights=share)
    return mean_credit(linear_credit(good, max_fpr), overlap)


def aupimo(
    maps: Sequence[NDArray[np.floating]],
    masks: Sequence[NDArray[np.bool_]],
    fpr_range: tuple[float, float] = FPR_RANGE,
) -> NDArray[np.float64]:
    """AUPIMO of each image: its recall, averaged over the thresholds at which good images are almost clean.

    The recall of the image's pixels is averaged over the logarithm of the false-positive rate in `fpr_range`; the
    rate is that of good images only, the mean of theirs (Bertoldo et al. 2024, arXiv 2401.01984). Between two
    thresholds both rates are interpolated linearly, also from a rate of zero, where the official code leaves the
    interval out. nan for good images, and for all without good images.

    >>> good, defective = np.array([[0.3, 0.1]]), np.array([[0.9, 0.2]])
    >>> aupimo([good, defective], [np.zeros((1, 2), np.bool_), np.array([[True, True]])])
    array([nan, 0.5])
    """
    _, level = np.unique(np.concatenate([np.ravel(each) for each in maps]), return_inverse=True)
    levels = np.split(level, np.cumsum([each.size for each in maps])[:-1])
    false_share = np.zeros(level.max() + 1)
    for at, mask in zip(levels, masks, strict=True):
        if not mask.any():
            false_share += np.bincount(at, minlength=len(false_share)) / at.size
    credit = log_credit(false_share, fpr_range)
    pairs = zip(levels, masks, strict=True)
    return np.array([credit[at[mask.ravel()]].mean() if mask.any() else np.nan for at, mask in pairs])


def _region_shares(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For each pixel, flat: what share of its region it is; 0 on the ground."""
    region = label_regions(mask).ravel()
    size = np.bincount(region).astype(np.float64)
    share = 1.0 / size[region]
    share[region == 0] = 0.0
    return share
