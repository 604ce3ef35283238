"""Streams of images for a martingale to watch."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from blemish.stats.martingale import Martingale, observe

Array = NDArray[np.float64]


def watch(martingale: Martingale, scores: Iterable[float], rng: np.random.Generator) -> Martingale:
    """The state after all the scores."""
    for score in scores:
        martingale = observe(martingale, float(score), rng)
    return martingale


def watch_against_calibration_only(
    martingale: Martingale, scores: Iterable[float], rng: np.random.Generator
) -> Martingale:
    """What must not be done: ranking each score among the first ones alone."""
    values, counts = martingale.values, martingale.counts
    for score in scores:
        martingale = replace(observe(martingale, float(score), rng), values=values, counts=counts)
    return martingale


def images_until_alarm(
    martingale: Martingale, scores: Iterable[float], log_limit: float, rng: np.random.Generator
) -> int | None:
    """How many images it takes the capital to reach its limit; None when it does not."""
    for count, score in enumerate(scores, start=1):
        martingale = observe(martingale, float(score), rng)
        if martingale.log_peak >= log_limit:
            return count
    return None
