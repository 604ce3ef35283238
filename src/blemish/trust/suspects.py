"""Which of the images given as good score as if they were not."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.trust.certificate import refuse_nan

SUSPICIOUS = 0.01
"""From here on a good image is called suspicious."""

_STEPS = 4_001
_NORMAL_MAD = 1.482602218505602
"""The standard deviation of a normal distribution in units of its median absolute deviation."""


def suspicion(scores: ArrayLike) -> NDArray[np.float64]:
    """For each score, a p-value against "it belongs to the others"; small for high scores, already times their number.

    A conformal p-value cannot tell a score just above all others from one ten times as high, so this one makes an
    assumption: that logarithms of good scores are about normal. Centre and spread are the median and the median
    absolute deviation, which a few defective images do not move (Hampel 1974); the tail is Student's with n - 1 degrees
    of freedom, times n for the n looks (Bonferroni). It is for a warning, never for a verdict: where the logarithms are
    skewed (Gumbel), it named an image in 7 of 100 clean folders at 0.01; with heavy lower tails it names none.

    Of fewer than 5 scores, or where half of them are equal, nothing can be said: all are 1.

    >>> suspicion([0.11, 0.12, 0.13, 0.10, 0.12, 0.11, 0.30]).round(3)
    array([1.   , 1.   , 1.   , 1.   , 1.   , 1.   , 0.001])
    """
    values = np.asarray(scores, dtype=np.float64).ravel()
    refuse_nan(values)
    positive = values[values > 0]
    if values.size < 5 or not positive.size:
        return np.ones(values.size)
    logs = np.log(np.maximum(values, positive.min()))
    centre = np.median(logs)
    spread = _NORMAL_MAD * np.median(np.abs(logs - centre))
    if spread == 0:
        return np.ones(values.size)
    tails = [student_tail(z, values.size - 1) if z > 1 else 1.0 for z in ((logs - centre) / spread).tolist()]
    return np.asarray(np.minimum(1.0, values.size * np.array(tails)))


def student_tail(t: float, degrees: int) -> float:
    """P(T > t) for Student's distribution.

    With t = sqrt(degrees) tan(theta) the density is proportional to cos(theta)^(degrees - 1).

    >>> round(student_tail(2.228139, 10), 6)  # the 97.5 % quantile
    0.025
    """
    start = math.atan(t / math.sqrt(degrees))
    return _cosine_integral(start, degrees - 1) / _cosine_integral(-math.pi / 2, degrees - 1)


def _cosine_integral(start: float, power: int) -> float:
    angles = np.linspace(start, math.pi / 2, _STEPS)
    heights = np.cos(angles) ** power
    return float((heights.sum() - (heights[0] + heights[-1]) / 2) * (angles[1] - angles[0]))
