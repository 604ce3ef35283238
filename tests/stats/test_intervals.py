import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from blemish.stats import (
    auroc_interval,
    rate_interval,
)
from blemish.stats.intervals import mean_interval, resample


@given(st.integers(0, 60), st.integers(1, 60), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=50)
def test_rate_interval_is_scipys_clopper_pearson(hits: int, trials: int, confidence: float) -> None:
    hits = min(hits, trials)
    expected = stats.binomtest(hits, trials).proportion_ci(confidence, method="exact")
    assert rate_interval(hits, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.93])
def test_rate_interval_covers_at_least_as_often_as_promised(rate: float) -> None:
    covering = [low <= rate <= high for low, high in (rate_interval(hits, 25) for hits in range(26))]
    assert stats.binom.pmf(np.arange(26), 25, rate)[covering].sum() >= 0.95


def test_rate_interval_of_many_images() -> None:
    expected = stats.binomtest(9_990, 10_000).proportion_ci(0.95, method="exact")
    assert rate_interval(9_990, 10_000) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_trials_tell_nothing() -> None:
    assert rate_interval(0, 0) == (0.0, 1.0)


@given(st.floats(0.0, 1.0), st.integers(1, 300), st.integers(1, 300), st.sampled_from([0.8, 0.95]))
@settings(max_examples=50)
def test_the_ends_of_an_auroc_interval_are_just_so_far_away(
    area: float, good: int, bad: int, confidence: float
) -> None:
    low, high = auroc_interval(area, good, bad, confidence)
    assert 0.0 <= low <= area <= high <= 1.0
    for end in (low, high):
        half = (good + bad) / 2 - 1
        variance = end * (1 - end) * (1 + half * (1 - end) / (2 - end) + half * end / (1 + end)) / (good * bad)
        if 1e-9 < end < 1 - 1e-9:
            assert abs(area - end) == pytest.approx(stats.norm.ppf((1 + confidence) / 2) * variance**0.5, rel=1e-3)


def test_all_ranked_right_is_not_taken_as_certain() -> None:
    assert auroc_interval(1.0, 8, 8).low == pytest.approx(1 - auroc_interval(0.0, 8, 8).high)
    assert auroc_interval(1.0, 8, 8).low < 0.8


@pytest.mark.parametrize("spread", [1.0, 3.0])
@pytest.mark.parametrize("area", [0.9, 0.995])
def test_an_auroc_interval_covers_about_as_often_as_promised(area: float, spread: float) -> None:
    rng = np.random.default_rng(3)
    good, bad = rng.normal(size=(400, 20)), rng.normal(size=(400, 20)) * spread
    bad += stats.norm.ppf(area) * np.hypot(1, spread)
    areas = (good[:, :, None] < bad[:, None, :]).mean(axis=(1, 2))
    intervals = {value: auroc_interval(value, 20, 20) for value in set(areas.tolist())}
    assert np.mean([intervals[value].low <= area <= intervals[value].high for value in areas.tolist()]) >= 0.91


@given(st.lists(st.booleans(), min_size=1, max_size=20).map(np.array), st.integers(0, 5))
def test_resamples_keep_the_number_of_good_and_of_defective_images(labels: np.ndarray, seed: int) -> None:
    drawn = resample(labels, 7, np.random.default_rng(seed))
    assert (drawn[:, labels].sum(axis=1) == labels.sum()).all()
    assert (drawn[:, ~labels].sum(axis=1) == (~labels).sum()).all()


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_the_interval_of_a_mean_holds_as_often_as_it_says(low: float) -> None:
    """A skewed law near the top, where a bootstrap of 12 values holds the mean in well below 95 % of sets."""
    rng, kept = np.random.default_rng(0), []
    for _ in range(60):
        values = low + (1 - low) * rng.beta(4.0, 0.3, size=12)
        interval = mean_interval(values, 0.95, low, 1.0)
        kept.append(interval.low <= low + (1 - low) * 4.0 / 4.3 <= interval.high)
        assert low <= interval.low <= values.mean() <= interval.high <= 1.0
    assert np.mean(kept) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.12345, 0.0105, 0.98765])
def test_the_interval_of_a_mean_holds_where_it_is_narrower_than_its_steps(value: float) -> None:
    interval = mean_interval(np.full(12_000, value))
    assert interval.low < value < interval.high < interval.low + 0.004


def test_the_interval_of_a_mean_narrows_and_has_a_width_where_all_are_equal() -> None:
    rng = np.random.default_rng(1)
    widths = [np.ptp(mean_interval(rng.beta(2.0, 2.0, size=n))) for n in (10, 60, 360)]
    assert widths[0] > 1.5 * widths[1] > 3.0 * widths[2]
    assert mean_interval(np.ones(30)).low < 1.0
    assert mean_interval(np.zeros(30)).high > 0.0
    assert all(math.isnan(end) for end in mean_interval(np.zeros(0)))
