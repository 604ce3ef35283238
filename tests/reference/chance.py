"""How far a measured number may lie from what is expected before a test fails: by chance less than once in a million.

Every test draws with a fixed seed, so it gives the same answer each time; these bounds say how seldom another seed, or
another version of numpy, would fail it.
"""

import scipy.stats

FAR = 5.0
"""Standard errors: a normal variable lies farther off, on either side, with probability 5.7e-7."""


def most_of(trials: int, rate: float) -> float:
    """The share of successes that `trials` with this rate exceed with probability 1e-6 at most."""
    return float(scipy.stats.binom.isf(1e-6, trials, rate)) / trials


def fewest_of(trials: int, rate: float) -> float:
    """The share of successes that `trials` with this rate stay below with probability 1e-6 at most."""
    return 1.0 - most_of(trials, 1.0 - rate)
