"""Which of the images given as good score as if they were not."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.stats.conformal import refuse_nan

SUSPICIOUS = 0.01
"""From here on a good image is called suspicious."""

MIN_SCORES = 8
"""Of fewer scores nothing is said."""

_GUMBEL_MAD = 0.7670493
"""The median absolute deviation of Gumbel's distribution in units of its scale."""


def suspicion(scores: ArrayLike) -> NDArray[np.float64]:
    """For each score, a p-value against "it belongs to the others"; small for high scores, already times their number.

    A conformal p-value cannot tell a score just above all others from one ten times as high, so this one makes an
    assumption: that good scores, being maxima of many pixels, follow about Gumbel's law (1935), 1 - exp(-exp(-z)) above
    z. Its place and scale are fitted by the median and the median absolute deviation, which a few defective images do
    not move (Hampel 1974); times n for the n looks (Bonferroni). It is for a warning, never for a verdict: at 0.01 it
    named an image in 0 to 4 of 100 clean sets of 20 to 200 normal, lognormal (0.2) or Gumbel scores, in 19 to 47 where
    the logarithms were Gumbel; and one of twice the largest good score in 90 to 100.

    All are 1 where nothing can be said: of fewer than 8 scores, or when half of them are equal.

    >>> suspicion([0.11, 0.12, 0.14, 0.10, 0.12, 0.11, 0.13, 0.20]).round(3)[-2:]
    array([1.   , 0.012])
    """
    values = np.asarray(scores, dtype=np.float64).ravel()
    refuse_nan(values)
    if values.size < MIN_SCORES:
        return np.ones(values.size)
    centre = np.median(values)
    scale = np.median(np.abs(values - centre)) / _GUMBEL_MAD
    if scale == 0:
        return np.ones(values.size)
    z = (values - centre) / scale - math.log(math.log(2))  # the median lies at -log(log 2)
    tail = -np.expm1(-np.exp(-np.maximum(z, 0.0)))
    return np.asarray(np.minimum(1.0, values.size * tail))


def suspicious_message(name: str, p_value: float) -> str:
    """What is said of a good image that scores as if it were not."""
    return (
        f"{name} scores as a defective image would (p = {p_value:.2g}); look at it, and take it out if it is one. "
        "A good one must stay: leaving out what scores high voids the promise"
    )
