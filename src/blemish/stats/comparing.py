"""Which of several methods is better over several data sets: ranks, critical differences, and resampled means."""

import numpy as np
from numpy.typing import NDArray

NEMENYI_Q = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
"""Of two-tailed Nemenyi tests at 5 %, by the number of methods: Demsar 2006 (JMLR 7), table 5a."""


def mean_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean rank of each method over data sets, from values (sets, methods), higher being better; 1 is the best.

    Methods with equal values share the mean of their ranks.

    >>> mean_ranks(np.array([[0.9, 0.8, 0.8], [0.7, 0.9, 0.5]]))
    array([1.5 , 1.75, 2.75])
    """
    above = (values[:, None, :] > values[:, :, None]).sum(axis=2)
    equal = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    ranks: NDArray[np.float64] = (1 + above + (equal - 1) / 2).mean(axis=0)
    return ranks


def critical_difference(methods: int, sets: int) -> float:
    """How far two mean ranks must be apart to differ at 5 %, all pairs looked at (Nemenyi; Demsar 2006, section 3.2.2).

    nan for fewer than two sets, fewer than two methods or more than ten.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    if sets < 2 or methods not in NEMENYI_Q:
        return float("nan")
    return float(NEMENYI_Q[methods] * np.sqrt(methods * (methods + 1) / (6 * sets)))


def chance_better(
    a: NDArray[np.floating], b: NDArray[np.floating], rng: np.random.Generator, repeats: int = 10_000
) -> float:
    """How often the mean of `a` lies above that of `b` when the sets they share are drawn again; a tie counts half.

    Values (sets,) in the same order. It treats the sets as drawn from all there may be; few sets say little whatever it
    is, and it is never nearer to 0 or 1 than that allows: all of n sets in favour are reported as
    (n + 0.5) / (n + 1) at most.

    >>> chance_better(np.array([0.9, 0.8, 0.7]), np.array([0.8, 0.7, 0.6]), np.random.default_rng(0))
    0.875
    """
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    drawn = difference[rng.integers(difference.size, size=(repeats, difference.size))].mean(axis=1)
    share = float(((drawn > 0) + 0.5 * (drawn == 0)).mean())
    least = 0.5 / (difference.size + 1)
    return min(max(share, least), 1 - least)
