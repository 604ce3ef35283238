"""Defects found with a known probability, and the profile likelihood computed the long way."""

import math

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from blemish.errors import CalibrationError
from blemish.stats.pod import fit_pod

Array = NDArray[np.float64]


def study(n: int, half_size: float, slope: float, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_]]:
    """Sizes from 1 to 30, evenly in the logarithm, and hits of the logistic model with this a50 and slope."""
    sizes = np.exp(rng.uniform(0, math.log(30), n))
    return sizes, rng.random(n) < 1 / (1 + (half_size / sizes) ** slope)


def covered(n: int, half_size: float, slope: float, studies: int, rng: np.random.Generator) -> float:
    """The share of studies whose a90/95 is not below the true a90; those without any curve are not counted."""
    true_a90 = half_size * 9 ** (1 / slope)
    outcomes = []
    for _ in range(studies):
        try:
            outcomes.append(fit_pod(*study(n, half_size, slope, rng)).a90_95.size >= true_a90)
        except CalibrationError:
            continue
    return float(np.mean(outcomes))


def largest_possible_a90(sizes: Array, hits: NDArray[np.bool_], drop: float) -> float:
    """Where the profile likelihood of a90 has fallen by `drop` / 2: one maximisation for each a90 looked at."""
    x = np.log(sizes)

    def minus(intercept: float, slope: float) -> float:
        logits = intercept + slope * x
        return float(np.sum(np.logaddexp(0, logits) - hits * logits))

    best = scipy.optimize.minimize(lambda b: minus(*b), [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-9})
    logit = math.log(9)
    estimate = (logit - best.x[0]) / best.x[1]

    def fallen(log_a90: float) -> float:
        slope = scipy.optimize.minimize_scalar(
            lambda b: minus(logit - b * log_a90, b), bracket=(0.1, 2.0), options={"xtol": 1e-11}
        )
        return 2 * (slope.fun - best.fun) - drop

    return math.exp(scipy.optimize.brentq(fallen, estimate, estimate + 3))
