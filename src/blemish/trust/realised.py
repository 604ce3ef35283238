"""Did a promise hold? What new good images say about it, without blaming a threshold for its luck."""

import math


def chance_of_flagged(flagged: int, n_new: int, above: int, n: int) -> float:
    """P(at least so many of n_new good images are flagged), when `above` of n calibration scores exceed the threshold.

    It holds for exchangeable images whose scores never tie (where they do, it is less): the rate above the (n - c)-th
    smallest of n scores follows Beta(c + 1, n - c), the flagged among new ones the beta-binomial law to it (Vovk 2012).

    A promise on average allows a threshold to have a rate of its own above alpha, for a lucky draw of calibration
    images; an interval for that rate alone would call every second such promise broken, given enough new images.

    >>> chance_of_flagged(1, 1, above=0, n=19)  # the promise itself: 1 / 20
    0.05...
    >>> round(chance_of_flagged(8, 60, above=1, n=19), 3)  # 13 %, where 10 % were promised
    0.308
    """
    a, b = above + 1, n - above
    return min(1.0, math.fsum(math.exp(_log_mass(k, n_new, a, b)) for k in range(flagged, n_new + 1)))  # rounding


def _log_mass(k: int, n_new: int, a: int, b: int) -> float:
    ways = math.lgamma(n_new + 1) - math.lgamma(k + 1) - math.lgamma(n_new - k + 1)
    return ways + _log_beta(k + a, n_new - k + b) - _log_beta(a, b)


def _log_beta(a: int, b: int) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
