"""Cross-conformal p-values, of which the rule of `certify_cross` is a stricter case; to check its bounds with."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.stats.conformal_folds import _bound


def cross_p_value(scores: ArrayLike, folds: ArrayLike, new_scores: ArrayLike) -> NDArray[np.float64]:
    """How unusual new images are: (1 + #{good image i: score_i >= new score by i's own detector}) / (n + 1).

    Args:
        scores: of n good images, each by the detector that was fitted without it.
        folds: which fold, 0 .. K - 1, each of them was left out with.
        new_scores: (..., K), the scores of the new images by each of the K detectors.

    Not quite a p-value: P(p <= a) can exceed a, by no more than `cross_bound` says (Vovk 2015).

    >>> cross_p_value([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], [[1.5, 3.5], [9.0, 9.0]])
    array([0.6, 0.2])
    """
    good, fold_of = np.asarray(scores, dtype=np.float64), np.asarray(folds)
    against = np.asarray(new_scores, dtype=np.float64)[..., fold_of]  # (..., n)
    return np.asarray((1 + np.sum(good >= against, axis=-1)) / (good.size + 1))


def cross_bound(a: float, fold_sizes: Iterable[int]) -> float:
    """What P(cross_p_value <= a) is proven not to exceed, for a good image.

    Roughly 2 a with as many folds as images, more with fewer.

    With c + 1 = floor(a (n + 1)), the smaller of two bounds:

    - 2 (K + c) / (n + K): the mean of K p-values, doubled, is one again (Vovk & Wang 2020); any fold sizes.
    - 2 a + min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1)): Barber et al. 2021, theorem 4; equal folds.

    >>> round(cross_bound(0.05, [1] * 100), 4)  # leave one out: 2 a, at a = 5 / 101
    0.099
    >>> round(cross_bound(0.05, [200] * 5), 4)
    0.1075
    """
    sizes = list(fold_sizes)
    allowed = math.floor(a * (sum(sizes) + 1) * (1 + 1e-12)) - 1
    return _bound(allowed, sizes) if allowed >= 0 else 0.0
