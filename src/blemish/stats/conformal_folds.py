"""Promises when no good image can be spared: every image is held out once, fold by fold.

The good images are dealt at random into K folds. K detectors are fitted, each without one fold, and each image is
scored by the one detector that has not seen it. A new image is scored by all K detectors. The detectors must treat
their images symmetrically (the order of the files must not matter), and the images must be exchangeable.

What is *not* covered: one detector refitted on all images and compared with these scores. Its rate can be anything in
theory (the jackknife of Barber et al. 2021); in practice it is close when leaving a fold out changes the detector
little. Where a guarantee is wanted of a single detector, fit it on a part of the images and use `certify`.
"""

import numpy as np
from numpy.typing import ArrayLike

from blemish.errors import CalibrationError
from blemish.stats.conformal import Certificate, check_rate, paired, refuse_nan, rounded_up


def certify_cross(scores: ArrayLike, folds: ArrayLike, max_false_alarm_rate: float) -> Certificate:
    """The lowest threshold for the *smallest* of the K detectors' scores that keeps the rate, on average.

    `scores` (n,) of good images, each by the detector that was not fitted on it, and the `folds` (n,) they were in.

    A new image is flagged when all K detectors score it above the threshold. With c of n scores above the threshold,
    the rate is at most the smallest of:

    - 2 (K + c) / (n + K): the mean of K p-values, doubled, is one again (Vovk & Wang 2020); any fold sizes.
    - 2 (c + 1) / (n + 1) + min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1)): Barber et al. 2021, theorem 4;
      equal folds.
    - (m + c) / (n + m): theorem 3 there (jackknife-minmax, m = 1), carried to equal folds of m images.

    Leave-one-out thus promises 1 / (n + 1) as `certify` does, without a held-out image, for n detectors' work; few
    large folds promise much less.

    Raises:
        CalibrationError: when the folds cannot promise that rate, a score is not a number, or there is not one fold for
            each score.
        SettingsError: when the rate does not lie between 0 and 1.

    >>> certify_cross(range(19), range(19), 0.1)
    Certificate(alpha=0.1, confidence=None, threshold=17.0, n=19, kind='cross', groups=None)
    >>> certify_cross(range(100), np.arange(100) % 5, 0.01)
    Traceback (most recent call last):
    blemish.errors.CalibrationError: score.max_false_alarm_rate: 5 folds of 100 good images can promise 0.0953 at the
    least, found 0.01; make more folds, or hold images out once
    """
    check_rate(max_false_alarm_rate)
    values, sizes = paired(scores, folds, "folds")[0], _sizes(folds)
    if not sizes:
        raise CalibrationError("folds: found no scores; a promise needs good images that were left out of a fold")
    refuse_nan(values)
    ordered = np.sort(values)
    kept = [c for c in range(ordered.size) if _smallest_score_bound(c, sizes) <= max_false_alarm_rate]
    if not kept:
        raise CalibrationError(
            f"score.max_false_alarm_rate: {len(sizes)} folds of {ordered.size} good images can promise "
            f"{rounded_up(_smallest_score_bound(0, sizes)):g} at the least, found {max_false_alarm_rate:g}; "
            "make more folds, or hold images out once"
        )
    return Certificate(
        alpha=max_false_alarm_rate,
        confidence=None,
        threshold=float(ordered[-1 - max(kept)]),
        n=ordered.size,
        kind="cross",
    )


def smallest_cross_rate(folds: ArrayLike) -> float:
    """The smallest false-alarm rate that `certify_cross` can promise with these folds, (n,): that of each image.

    >>> smallest_cross_rate(np.arange(20) % 4), smallest_cross_rate(range(99))  # here m / (n + m)
    (0.2, 0.01)
    """
    return _smallest_score_bound(0, _sizes(folds))


def smallest_score_p_value(scores: ArrayLike, folds: ArrayLike, smallest_score: float) -> float:
    """How unusual the smallest of K detectors' scores is: a p-value proper, by the bound of `certify_cross`.

    With c good scores as high at the least, it is what is proven of the rule that allows c of them above the threshold.
    It is <= alpha exactly when `smallest_score` exceeds the threshold of `certify_cross(scores, folds, alpha)`.

    Raises:
        CalibrationError: when a score is not a number, or has no fold.

    >>> smallest_score_p_value([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], 9.0)  # 2 in each of 2 folds: 2 / (4 + 2)
    0.3333333333333333
    """
    values, _ = paired(scores, folds, "folds")
    refuse_nan(np.append(smallest_score, values))
    as_high = int(np.sum(values >= smallest_score))
    sizes = _sizes(folds)
    return _smallest_score_bound(as_high, sizes) if as_high < sum(sizes) else 1.0


def _sizes(folds: ArrayLike) -> list[int]:
    sizes: list[int] = np.unique(np.asarray(folds), return_counts=True)[1].tolist()
    return sizes


def _bound(allowed: int, sizes: list[int]) -> float:
    """For the rule: at most `allowed` of the n scores are as high as the new image's."""
    n, k = sum(sizes), len(sizes)
    doubled_mean = 2 * (k + allowed) / (n + k)
    if len(set(sizes)) > 1:
        return min(1.0, doubled_mean)
    extra = min(2 * (1 - 1 / k) / (n / k + 1), (1 - k / n) / (k + 1))
    return min(1.0, doubled_mean, 2 * (allowed + 1) / (n + 1) + extra)


def _smallest_score_bound(allowed: int, sizes: list[int]) -> float:
    n, m = sum(sizes), sizes[0]
    equal = len(set(sizes)) == 1
    return min(_bound(allowed, sizes), (m + allowed) / (n + m) if equal else 1.0)
