"""How well numbers order good before defective: AUROC, average precision and the ROC curve.

Every measure here is computed from counts at each level, a level being a distinct score, in ascending order. So the
functions on arrays and the ones on histograms are the same, and ties are handled exactly: what is tied shares a level.
Scores are taken as they are, of any range; nothing is squashed or rescaled.
"""

from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError
from blemish.stats.conformal import refuse_nan

Weights = NDArray[np.integer] | NDArray[np.floating]
"""How much lies at each level (n,), levels ascending; whole numbers, or shares that add up over images."""


class RocCurve(NamedTuple):
    """Points from (0, 0) to (1, 1) for drawing; at each, what is `> threshold` counts as defective."""

    false_positive_rate: NDArray[np.float64]  # (n,) ascending
    true_positive_rate: NDArray[np.float64]  # (n,) ascending
    threshold: NDArray[np.float64]  # (n,) descending, the last one -inf


def auroc(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a defective score is above a good one, a tie counting half.

    nan where one class is absent.

    >>> auroc(np.array([0.1, 0.4, 0.4, 9.0]), np.array([False, False, True, True]))
    0.875
    """
    _, good, defective = levels_of(scores, labels)
    return auroc_of_levels(good, defective)


def average_precision(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Average precision: the precision at each distinct score, weighted by the recall it adds.

    nan where one class is absent.

    >>> average_precision(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]))  # 1/2 * 1 + 1/2 * 2/3
    0.833...
    """
    _, good, defective = levels_of(scores, labels)
    return average_precision_of_levels(good, defective)


def roc_curve(scores: NDArray[np.floating], labels: NDArray[np.bool_], max_points: int = 500) -> RocCurve:
    """The ROC curve, thinned to the `max_points` points that keep its shape; nan where one class is absent.

    >>> curve = roc_curve(np.array([1.0, 2.0, 3.0]), np.array([False, True, False]))
    >>> curve.false_positive_rate, curve.true_positive_rate, curve.threshold
    (array([0. , 0.5, 0.5, 1. ]), array([0., 0., 1., 1.]), array([  3.,   2.,   1., -inf]))
    """
    return roc_curve_of_levels(*levels_of(scores, labels), max_points)


def levels_of(
    scores: NDArray[np.floating], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.intp], NDArray[np.intp]]:
    """The distinct scores, ascending, and how many good and defective ones lie at each; labels may be 0 and 1, too.

    Raises:
        CalibrationError: a score is not a number.
        DataError: as many labels as scores are wanted, each True or False, or 1 or 0.

    >>> levels_of(np.array([2.0, 1.0, 2.0]), np.array([True, False, False]))
    (array([1., 2.]), array([1, 1]), array([0, 1]))
    """
    scores, labels = np.asarray(scores).ravel(), np.asarray(labels).ravel()
    refuse_nan(scores)
    marked = labels == 1
    if labels.size != scores.size or not (marked | (labels == 0)).all():
        raise DataError(f"labels: expected {scores.size} of True and False, or of 1 and 0; found {labels.size}")
    values, level = np.unique(scores, return_inverse=True)
    good = np.bincount(level[~marked], minlength=len(values))
    defective = np.bincount(level[marked], minlength=len(values))
    return values, good, defective


def auroc_of_levels(good: Weights, defective: Weights) -> float:
    """AUROC from the counts at each level.

    >>> auroc_of_levels(np.array([1, 1]), np.array([0, 2]))
    0.75
    """
    return mean_credit(linear_credit(good, 1.0), defective)


def linear_credit(good: Weights, max_fpr: float) -> NDArray[np.float64]:
    """For each level, the share of the false-positive rates 0 to `max_fpr` at which it is called defective.

    As the false-positive rate grows, the threshold falls; a level is called defective from the rate on that its own
    good pixels bring, and in proportion while they come in (the trapezoid rule: a tie is broken evenly). The mean of
    these credits over anything - pixels, pixels of a region - is the area under its curve against that rate.

    >>> linear_credit(np.array([2, 1, 1]), max_fpr=0.5)  # the rate is 1/4 after the top level, 1/2 after the next
    array([0.  , 0.25, 0.75])
    """
    start, end = _rates(good)
    first, last = np.minimum(start, max_fpr), np.minimum(end, max_fpr)
    width = np.where(end > start, end - start, 1.0)
    credit: NDArray[np.float64] = ((last - first) ** 2 / (2.0 * width) + (max_fpr - last)) / max_fpr
    return credit


def log_credit(good: Weights, fpr_range: tuple[float, float]) -> NDArray[np.float64]:
    """The same against the logarithm of the false-positive rate, over the given range of rates.

    The interpolation within a level stays linear in the rate itself, so a rate of zero needs no special care.

    >>> log_credit(np.array([9, 1, 0]), fpr_range=(0.01, 0.1))  # in the middle: (0.1 - 0.01) / 0.1 / log(10)
    array([0.        , 0.39086503, 1.        ])
    """
    low, high = fpr_range
    start, end = _rates(good)
    first, last = np.clip(start, low, high), np.clip(end, low, high)
    width = np.where(end > start, end - start, 1.0)
    rise = ((last - first) - start * np.log1p((last - first) / first)) / width
    credit: NDArray[np.float64] = (rise + np.log(high / last)) / np.log(high / low)
    return credit


def mean_credit(credit: NDArray[np.float64], weights: Weights) -> float:
    """The weighted mean of credits; nan where a credit is (nothing good) or where there is no weight.

    >>> mean_credit(np.array([0.0, 1.0]), np.array([1, 3])), mean_credit(np.array([0.0, 1.0]), np.array([0, 0]))
    (0.75, nan)
    """
    total = weights.sum()
    return min(float(credit @ weights / total), 1.0) if total else np.nan  # rounding may exceed 1; nan stays


def average_precision_of_levels(good: Weights, defective: Weights) -> float:
    """Average precision from the counts at each level.

    >>> average_precision_of_levels(np.array([0, 1, 0]), np.array([1, 0, 1]))
    0.833...
    """
    if not good.sum() or not defective.sum():
        return np.nan
    tp, fp = _above(defective), _above(good)
    here = defective > 0  # also keeps 0 / 0 out where a resample left a level empty
    gained = defective[here] / defective.sum()
    return min(float(gained @ (tp[here] / (tp[here] + fp[here]))), 1.0)


def best_f1_of_levels(good: Weights, defective: Weights) -> tuple[float, int]:
    """The best F1 that calling everything from some level up defective can give, and that level.

    The highest such level where several give the same; (nan, -1) without anything defective.

    >>> best_f1_of_levels(np.array([3, 1, 0]), np.array([0, 1, 1]))
    (0.8, 1)
    """
    if not defective.sum():
        return np.nan, -1
    tp, fp = _above(defective), _above(good)
    f1 = 2.0 * tp / (tp + fp + defective.sum())
    level = len(f1) - 1 - int(np.argmax(f1[::-1]))
    return float(f1[level]), level


def roc_curve_of_levels(
    values: NDArray[np.floating], good: Weights, defective: Weights, max_points: int = 500
) -> RocCurve:
    """The ROC curve from the counts at each level; nan where one class is absent.

    >>> roc_curve_of_levels(np.array([1.0, 2.0]), np.array([1, 0]), np.array([0, 1])).true_positive_rate
    array([0., 1., 1.])
    """
    if not good.sum() or not defective.sum():
        return RocCurve(*np.full((3, 2), np.nan))
    x = np.append(0.0, _above(good)[::-1] / good.sum())
    y = np.append(0.0, _above(defective)[::-1] / defective.sum())
    kept = thin(x, y, max_points)
    thresholds = np.append(values[::-1].astype(np.float64), -np.inf)
    return RocCurve(x[kept], y[kept], thresholds[kept])


def thin(x: NDArray[np.float64], y: NDArray[np.float64], max_points: int) -> NDArray[np.intp]:
    """Indices of at most `max_points` points that keep the shape of a curve; points on a straight line go first.

    Takes both ends, then again and again the point farthest from the line drawn so far (after Douglas and Peucker
    1973), so corners come early. No two points next to each other may be the same.

    >>> thin(np.array([0.0, 0.0, 0.1, 0.6, 1.0]), np.array([0.0, 0.9, 1.0, 1.0, 1.0]), max_points=3)
    array([0, 1, 4])
    """
    kept = [0, len(x) - 1]
    gaps = [_farthest(x, y, 0, len(x) - 1)]
    heapify(gaps)
    while gaps and len(kept) < max_points:
        distance, first, middle, last = heappop(gaps)
        if -distance <= 1e-12:
            break
        kept.append(middle)
        for gap in ((first, middle), (middle, last)):
            if gap[1] - gap[0] > 1:
                heappush(gaps, _farthest(x, y, *gap))
    return np.sort(np.array(kept, np.intp))


def _farthest(x: NDArray[np.float64], y: NDArray[np.float64], first: int, last: int) -> tuple[float, int, int, int]:
    if last - first < 2:
        return 0.0, first, first, last
    dx, dy = x[last] - x[first], y[last] - y[first]
    between = slice(first + 1, last)
    distance = np.abs(dx * (y[between] - y[first]) - dy * (x[between] - x[first])) / np.hypot(dx, dy)
    nearest_to_none = int(np.argmax(distance))
    return -float(distance[nearest_to_none]), first, first + 1 + nearest_to_none, last


def _above(weights: Weights) -> NDArray[np.float64]:
    """What lies at each level or above it."""
    return np.cumsum(weights[::-1], dtype=np.float64)[::-1]


def _rates(good: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The false-positive rate above each level, and with it; nan where nothing is good."""
    end = _above(good)
    total = end[0] if end.size and end[0] else np.nan
    end = end / total
    return np.append(end[1:], 0.0), end
