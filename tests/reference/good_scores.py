"""Scores of good images from known distributions, and the rates that thresholds and selections then truly have."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.stats.conformal import certify, p_value, worst_of_groups
from blemish.stats.conformal_folds import certify_cross
from blemish.stats.false_discovery import benjamini_hochberg
from reference.folds import cross_p_value

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Distribution:
    """How scores fall, and the exact chance that a new one is greater than a threshold."""

    draw: Callable[[np.random.Generator, int], Array]
    rate_above: Callable[[float], float]


DISTRIBUTIONS = {
    "normal": Distribution(lambda rng, n: rng.normal(size=n), lambda t: 0.5 * math.erfc(t / math.sqrt(2))),
    "exponential": Distribution(lambda rng, n: rng.exponential(size=n), lambda t: math.exp(-max(t, 0.0))),
    "cauchy": Distribution(lambda rng, n: rng.standard_cauchy(n), lambda t: 0.5 - math.atan(t) / math.pi),
    "two humps": Distribution(
        lambda rng, n: rng.normal(size=n) * 0.1 + 5 * (rng.random(n) < 0.1),
        lambda t: 0.45 * math.erfc(10 * t / math.sqrt(2)) + 0.05 * math.erfc(10 * (t - 5) / math.sqrt(2)),
    ),
    "tied": Distribution(
        lambda rng, n: np.floor(rng.exponential(2.0, n)), lambda t: math.exp(-(math.floor(t) + 1) / 2)
    ),
}


def true_rates(
    distribution: Distribution,
    choose_threshold: Callable[[Array], float],
    n: int,
    draws: int,
    rng: np.random.Generator,
) -> Array:
    """The false-alarm rate of each of many thresholds, each chosen from n fresh scores."""
    return np.array([distribution.rate_above(choose_threshold(distribution.draw(rng, n))) for _ in range(draws)])


def standard_error(values: Array) -> float:
    """Of the mean of independent values."""
    return float(values.std(ddof=1) / math.sqrt(values.size))


def photos_of_parts(rng: np.random.Generator, parts: int) -> tuple[Array, Array]:
    """Several photos of each part: parts differ much, photos of one part little."""
    part_of = np.repeat(np.arange(parts), rng.integers(5, 30, parts))
    return rng.normal(size=parts)[part_of] + 0.1 * rng.normal(size=part_of.size), part_of


def grouped_rates(alpha: float, draws: int, rng: np.random.Generator, by_part: bool) -> Array:
    """Share of new parts with any photo flagged (by_part), or of new photos, for each calibration set."""
    rates = np.empty(draws)
    for i in range(draws):
        scores, part_of = photos_of_parts(rng, 20)
        threshold = certify(scores, alpha, groups=part_of if by_part else None).threshold
        new, new_part_of = photos_of_parts(rng, 200)
        rates[i] = np.mean((worst_of_groups(new, new_part_of) if by_part else new) > threshold)
    return rates


def false_discoveries(draws: int, rng: np.random.Generator, measure: Callable[[Array], Array]) -> Array:
    """The share of good images among those selected, in batches of 40 good and 10 anomalous."""
    anomalous = np.arange(50) >= 40
    shares = np.empty(draws)
    for i in range(draws):
        good = measure(rng.normal(size=200))
        batch = measure(rng.normal(size=50) + 2.5 * anomalous)
        selected = benjamini_hochberg(p_value(good, batch), 0.2)
        shares[i] = np.sum(selected & ~anomalous) / max(1, selected.sum())
    return shares


def leave_out(train: Array, new: Array, folds: Array, detector: str) -> tuple[Array, Array]:
    """Scores of the training images by the detector without them (n,), and of new ones by each detector (t, K)."""
    kept = folds[None, :] != np.unique(folds)[:, None]  # (K, n)
    if detector == "nearest neighbour":
        apart = np.abs(np.concatenate([train, new])[:, None] - train)  # (n + t, n)
        by_each = np.where(kept, apart[:, None, :], np.inf).min(-1)  # (n + t, K)
    else:  # it turns its scale over when its training images happen to have a positive sum
        by_each = np.concatenate([train, new])[:, None] * np.sign(kept @ train)
    return by_each[np.arange(train.size), folds], by_each[train.size :]


def fold_rates(
    detector: str, n: int, k: int, alpha: float, draws: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Share of 20 new good images flagged by `certify_cross`, and with cross_p_value <= alpha / 2, in each draw."""
    flagged, small = np.empty(draws), np.empty(draws)
    for i in range(draws):
        folds = rng.permutation(np.arange(n) % k)
        scores, by_each = leave_out(rng.normal(size=n), rng.normal(size=20), folds, detector)
        flagged[i] = np.mean(by_each.min(axis=1) > certify_cross(scores, folds, alpha).threshold)
        small[i] = np.mean(cross_p_value(scores, folds, by_each) <= alpha / 2)
    return flagged, small
