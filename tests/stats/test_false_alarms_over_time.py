"""Ville's promise over long streams: kept when scores are ranked rightly, broken when they are not."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.stats.martingale import drifted, start_martingale
from reference.chance import most_of
from reference.streams import watch, watch_against_calibration_only

pytestmark = pytest.mark.slow

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


@pytest.mark.parametrize(
    ("draw", "digits"),
    [
        (lambda rng, n: rng.normal(size=n), None),
        (lambda rng, n: rng.lognormal(size=n), 1),
        (lambda rng, n: rng.poisson(1.0, n).astype(float), None),
        (lambda rng, n: rng.permutation(np.arange(float(n))), None),  # exchangeable, not independent
    ],
    ids=["normal", "rounded", "tied", "without replacement"],
)
def test_false_alarms_are_no_more_than_promised(draw: Draw, digits: int | None) -> None:
    rng = np.random.default_rng(0)
    streams, delta = 400, 0.1
    peaks = np.empty(streams)
    for i in range(streams):
        scores = draw(rng, 330)
        peaks[i] = watch(start_martingale(scores[:30], digits=digits), scores[30:], rng).log_peak
    assert np.mean(peaks >= math.log(1 / delta)) <= most_of(streams, delta)


def test_dependent_streams_together_keep_the_promise() -> None:
    rng = np.random.default_rng(1)
    repeats, delta, alarms = 200, 0.1, 0
    for _ in range(repeats):
        shared = rng.normal(size=(130, 1))
        scores = shared + 0.3 * rng.normal(size=(130, 3))
        states = {str(k): watch(start_martingale(scores[:30, k]), scores[30:, k], rng) for k in range(scores.shape[1])}
        alarms += bool(drifted(states, delta))
    assert alarms / repeats <= most_of(repeats, delta)


def test_ranking_among_the_calibration_scores_alone_breaks_it() -> None:
    rng = np.random.default_rng(2)
    peaks = [
        watch_against_calibration_only(start_martingale(rng.normal(size=30)), rng.normal(size=1000), rng).log_peak
        for _ in range(60)
    ]
    assert np.mean(np.array(peaks) >= math.log(1 / 0.05)) > 4 * 0.05
