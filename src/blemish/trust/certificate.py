"""A threshold that keeps its promise: from the scores of good images to a limit on false alarms.

The good images ranked here must not have been fitted on, and must be exchangeable with the images to come:
any order of all of them equally likely. Nothing else is assumed, no shape of the distribution in particular.

An image is flagged when `score > threshold`. Two promises are on offer:

- *on average* (`confidence=None`): a new good image is flagged with probability <= alpha, the draw of the
  calibration images included (Vovk, Gammerman & Shafer 2005; Lei et al. 2018, theorem 2.2).
- *with confidence* 1 - delta: for all but a share delta of calibration sets, the false-alarm rate of this very
  threshold, over all good images to come, is <= alpha (Vovk 2012; the exact bound is Clopper & Pearson's, 1934).

Equal scores only make both promises safer. Too few images raise; no promise is ever quietly weakened.
"""

import math
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import CalibrationError, SettingsError

_ROUNDING = 1e-12
"""What float arithmetic may add to the logarithm of a binomial tail without it counting as too much."""


def conformal_threshold(scores: ArrayLike, max_false_alarm_rate: float) -> float:
    """The threshold that at most this share of new good images exceeds, on average.

    It is the k-th smallest of n held-out scores, k = ceil((n + 1) (1 - alpha)). For the same scores,
    `score > threshold` exactly when `p_value(scores, score) <= alpha`, rounding included.

    Raises:
        CalibrationError: when alpha < 1 / (n + 1), for then k > n; or when a score is not a number.

    >>> conformal_threshold([3.0, 1.0, 2.0, 4.0], 0.4)  # k = ceil(5 x 0.6) = 3
    3.0
    >>> conformal_threshold([3.0, 1.0, 2.0, 4.0], 0.05)
    Traceback (most recent call last):
    blemish.errors.CalibrationError: score.max_false_alarm_rate: 0.05 needs 19 good images that were not fitted on,
    found 4; add 15, or ask for 0.2 or more
    """
    ordered = _ordered(scores)
    return float(ordered[_rank(ordered.size, max_false_alarm_rate, None) - 1])


@overload
def p_value(scores: ArrayLike, score: float) -> float: ...
@overload
def p_value(scores: ArrayLike, score: NDArray[np.floating]) -> NDArray[np.float64]: ...
def p_value(scores: ArrayLike, score: float | NDArray[np.floating]) -> float | NDArray[np.float64]:
    """How unusual a score is among good ones: (1 + #{good scores >= score}) / (n + 1).

    For a good image, P(p <= alpha) <= alpha for every alpha (Vovk, Gammerman & Shafer 2005, proposition 2.8).
    Images ranked against the same good scores share their luck: their p-values are dependent.

    Raises:
        CalibrationError: when a score is not a number.

    >>> p_value([1.0, 2.0, 2.0, 3.0], 2.0)  # three of four are as high
    0.8
    >>> p_value([1.0, 2.0, 2.0, 3.0], np.array([0.5, 3.5]))
    array([1. , 0.2])
    """
    ordered = _ordered(scores)
    wanted = np.asarray(score, dtype=np.float64)
    _refuse_nan(wanted)
    as_high = ordered.size - np.searchsorted(ordered, wanted, side="left")
    p_values = (1 + as_high) / (ordered.size + 1)
    return p_values if wanted.ndim else float(p_values)


def smallest_rate(n: int, confidence: float | None = None) -> float:
    """The smallest false-alarm rate that n good images can promise: 1 / (n + 1), or 1 - delta^(1 / n).

    >>> smallest_rate(99)
    0.01
    >>> round(smallest_rate(59, confidence=0.95), 4)
    0.0495
    """
    if confidence is None:
        return 1 / (n + 1)
    return -math.expm1(math.log(_delta(confidence)) / n) if n else 1.0


def images_needed(max_false_alarm_rate: float, confidence: float | None = None) -> int:
    """How many good images, not fitted on, a promise takes at the least.

    >>> images_needed(0.01), images_needed(0.01, confidence=0.95)
    (99, 299)
    """
    alpha = _rate(max_false_alarm_rate)
    rough = 1 / alpha if confidence is None else math.log(_delta(confidence)) / math.log1p(-alpha)
    n = math.ceil(rough) + 1
    while _is_enough(n - 1, alpha, confidence):
        n -= 1
    return n


def _is_enough(n: int, alpha: float, confidence: float | None) -> bool:
    """Whether the promise holds for the highest threshold there is, the largest of n scores."""
    if confidence is None:
        return 1 / (n + 1) <= alpha
    return n * math.log1p(-alpha) <= math.log(_delta(confidence)) + _ROUNDING


def _rank(n: int, alpha: float, confidence: float | None) -> int:
    allowed = _allowed_above(n, _rate(alpha), confidence)
    if allowed < 0:
        raise CalibrationError(_too_few(n, alpha, confidence))
    return n - allowed


def _allowed_above(n: int, alpha: float, confidence: float | None) -> int:
    """How many of the n scores may lie above the threshold; -1 when even none is too many."""
    if confidence is None:
        allowed = math.floor(alpha * (n + 1)) + 1
        while allowed / (n + 1) > alpha:  # the very division of p_value, so that both round alike
            allowed -= 1
        return allowed - 1
    log_delta = math.log(_delta(confidence)) + _ROUNDING
    return int(np.searchsorted(_log_binomial_cdf(n, alpha), log_delta, side="right")) - 1


def _log_binomial_cdf(n: int, probability: float) -> NDArray[np.float64]:
    """log P(Bin(n, probability) <= j) for j = 0 .. n.

    P(Bin(n, alpha) <= j) = P(Beta(j + 1, n - j) > alpha): the chance that the rate above the (n - j)-th smallest
    of n scores exceeds alpha.
    """
    j = np.arange(n + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((n - j[1:] + 1) / j[1:]))])
    log_mass = log_choose + j * math.log(probability) + (n - j) * math.log1p(-probability)
    return np.asarray(np.logaddexp.accumulate(log_mass))


def _too_few(n: int, alpha: float, confidence: float | None) -> str:
    needed = images_needed(alpha, confidence)
    sure = "" if confidence is None else f" with confidence {confidence:g}"
    return (
        f"score.max_false_alarm_rate: {alpha:g}{sure} needs {needed} good images that were not fitted on, "
        f"found {n}; add {needed - n}, or ask for {_rounded_up(smallest_rate(n, confidence)):g} or more"
    )


def _rounded_up(rate: float) -> float:
    """Three digits, never less than the rate, so that what a message suggests is accepted.

    >>> _rounded_up(1 / 41)
    0.0244
    """
    digits = 2 - math.floor(math.log10(rate))
    short = round(rate, digits)
    return short if short >= rate else round(short + 10.0**-digits, digits)


def _ordered(scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64).ravel()
    _refuse_nan(array)
    return np.sort(array)


def _refuse_nan(scores: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(np.isnan(scores))
    if bad.size:
        raise CalibrationError(
            f"scores: number {bad[0] + 1} of {scores.size} is not a number (nan); "
            "look at that image and at the training loss"
        )


def _rate(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise SettingsError(f"score.max_false_alarm_rate: found {alpha:g}; it must lie between 0 and 1")
    return alpha


def _delta(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise SettingsError(f"confidence: found {confidence:g}; it must lie between 0 and 1, for example 0.95")
    return 1 - confidence
