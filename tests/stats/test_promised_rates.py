"""The promises of the fast tier again, with enough draws to see a rate that is off by a tenth of itself or less."""

import math

import numpy as np
import pytest

from blemish.stats.conformal import certify
from reference.chance import FAR, most_of
from reference.folds import cross_bound
from reference.good_scores import (
    DISTRIBUTIONS,
    false_discoveries,
    fold_rates,
    grouped_rates,
    standard_error,
    true_rates,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(("n", "alpha"), [(20, 0.05), (99, 0.01), (99, 0.05), (500, 0.01), (500, 0.1)])
def test_on_average_the_rate_is_kept(name: str, n: int, alpha: float) -> None:
    rng = np.random.default_rng(n)
    rates = true_rates(DISTRIBUTIONS[name], lambda scores: certify(scores, alpha).threshold, n, 10_000, rng)
    assert rates.mean() <= alpha + FAR * standard_error(rates)
    if name != "tied":
        exact = math.floor(alpha * (n + 1) + 1e-9) / (n + 1)
        assert rates.mean() == pytest.approx(exact, abs=FAR * standard_error(rates))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(("n", "alpha"), [(20, 0.05), (99, 0.01), (99, 0.05), (500, 0.01)])
def test_the_plain_quantile_breaks_it_wherever_scores_do_not_tie(name: str, n: int, alpha: float) -> None:
    rng = np.random.default_rng(n)
    rates = true_rates(DISTRIBUTIONS[name], lambda scores: float(np.quantile(scores, 1 - alpha)), n, 10_000, rng)
    if name != "tied":
        assert rates.mean() - FAR * standard_error(rates) > alpha


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(("n", "alpha", "confidence"), [(59, 0.05, 0.95), (120, 0.05, 0.9), (500, 0.01, 0.95)])
def test_with_confidence_few_thresholds_exceed_the_rate(name: str, n: int, alpha: float, confidence: float) -> None:
    rng = np.random.default_rng(n)
    rates = true_rates(
        DISTRIBUTIONS[name], lambda s: certify(s, alpha, confidence=confidence).threshold, n, 10_000, rng
    )
    assert np.mean(rates > alpha) <= most_of(10_000, 1 - confidence)


@pytest.mark.parametrize("measure", [np.array, np.round], ids=["continuous", "tied"])
def test_the_share_of_good_images_among_the_selected_is_kept(measure) -> None:  # type: ignore[no-untyped-def]
    shares = false_discoveries(20_000, np.random.default_rng(1), measure)
    assert shares.mean() <= 0.2 * 0.8 + FAR * standard_error(shares)


def test_groups_keep_the_rate() -> None:
    rates = grouped_rates(0.1, 5_000, np.random.default_rng(1), by_part=True)
    assert rates.mean() == pytest.approx(2 / 21, abs=FAR * standard_error(rates))


@pytest.mark.parametrize("detector", ["nearest neighbour", "turncoat"])
@pytest.mark.parametrize(("n", "k", "alpha"), [(30, 30, 0.1), (60, 4, 0.2), (31, 4, 0.4)])
def test_folds_keep_the_rate(detector: str, n: int, k: int, alpha: float) -> None:
    flagged, small = fold_rates(detector, n, k, alpha, 8_000, np.random.default_rng(n + k))
    assert flagged.mean() <= alpha + FAR * standard_error(flagged)
    assert small.mean() <= cross_bound(alpha / 2, np.bincount(np.arange(n) % k)) + FAR * standard_error(small)
