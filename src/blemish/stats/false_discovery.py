"""Which images of a batch to call anomalous, with a limit on the share of wrong calls."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import DataError, SettingsError

_ROUNDING = 1e-12
"""p-values are fractions that meet the limit exactly, so the last bit must not decide."""


def benjamini_hochberg(p_values: ArrayLike, max_false_discovery_rate: float) -> NDArray[np.bool_]:
    """True for the images to call anomalous: of those, the expected share of good ones is at most the given rate.

    With p_(1) <= ... <= p_(m), all p-values up to the largest p_(k) <= rate x k / m are selected (Benjamini &
    Hochberg 1995). Conformal p-values that share one calibration set are dependent, but in the way this method
    allows (Bates et al. 2023, theorem 2); equal scores do not change that. The expected share is even at most
    rate x (good images in the batch) / m.

    n calibration images give no p-value below 1 / (n + 1): to single out k images of m, n must be at least
    m / (k x rate) - 1.

    Raises:
        DataError, SettingsError: as `largest_selected`.

    >>> benjamini_hochberg([0.01, 0.6, 0.04, 0.03, 0.9], 0.1)  # limits 0.02, 0.04, 0.06, 0.08, 0.1
    array([ True, False,  True,  True, False])
    """
    values = np.asarray(p_values, dtype=np.float64)
    return values <= largest_selected(*np.unique(values, return_counts=True), max_false_discovery_rate)


def largest_selected(p_values: ArrayLike, counts: ArrayLike, max_false_discovery_rate: float) -> float:
    """The largest p-value that `benjamini_hochberg` selects, minus infinity where it selects none.

    `p_values` (n,) are the different ones in any order, `counts` (n,) how many images have each. Conformal
    p-values are few, however many images there are.

    Raises:
        DataError: a p-value outside [0, 1], as scores are.
        SettingsError: a rate outside (0, 1).

    >>> largest_selected([0.01, 0.03, 0.04, 0.6, 0.9], [1, 1, 1, 1, 1], 0.1)
    0.04
    """
    _refuse_outside(max_false_discovery_rate)
    values, k = np.asarray(p_values, dtype=np.float64), np.asarray(counts, dtype=np.int64)
    if (strange := values[~((values >= 0) & (values <= 1))]).size:
        raise DataError(f"p_values: found {strange[0]:g}; they lie between 0 and 1 (p_value makes them of scores)")
    order = np.argsort(values)
    values, k = values[order], np.cumsum(k[order])
    passes = values * k[-1:] <= max_false_discovery_rate * k * (1 + _ROUNDING)
    return float(max(values[passes], default=-np.inf))


def any_dependence(max_false_discovery_rate: float, n: int) -> float:
    """The rate to give `benjamini_hochberg` where nothing is known of how the n p-values depend on each other.

    It is divided by 1 + 1/2 + ... + 1/n (Benjamini & Yekutieli 2001, theorem 1.3).

    >>> round(any_dependence(0.1, 4), 3)
    0.048
    """
    _refuse_outside(max_false_discovery_rate)
    return max_false_discovery_rate / float(np.sum(1 / np.arange(1, n + 1)))


def _refuse_outside(rate: float) -> None:
    if not 0 < rate < 1:
        raise SettingsError(f"max_false_discovery_rate: found {rate:g}; it must lie between 0 and 1")
