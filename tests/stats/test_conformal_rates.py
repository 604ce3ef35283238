"""The promised false-alarm rates hold where the truth is known, and the plain quantile breaks them."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import CalibrationError
from blemish.stats.conformal import (
    certify,
    images_needed,
    rounded_up,
    smallest_rate,
    worst_of_groups,
)
from reference.chance import FAR, most_of
from reference.good_scores import DISTRIBUTIONS, grouped_rates, standard_error, true_rates

MANY = pytest.param(10_000, marks=pytest.mark.slow)
"""Draws that show a rate which is off by a tenth of itself or less."""


@pytest.mark.parametrize("draws", [500, MANY])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(("n", "alpha"), [(20, 0.05), (99, 0.01), (500, 0.1)])
def test_on_average_the_rate_is_kept(name: str, n: int, alpha: float, draws: int) -> None:
    rates = true_rates(
        DISTRIBUTIONS[name], lambda scores: certify(scores, alpha).threshold, n, draws, np.random.default_rng(n)
    )
    assert rates.mean() <= alpha + FAR * standard_error(rates)
    if name != "tied":  # and not by being lax: the rate is (n + 1 - k) / (n + 1) where scores never tie
        assert rates.mean() == pytest.approx(
            math.floor(alpha * (n + 1) + 1e-9) / (n + 1), abs=FAR * standard_error(rates)
        )


@pytest.mark.parametrize(("n", "alpha"), [(20, 0.05), (99, 0.01)])
def test_the_plain_quantile_breaks_it(n: int, alpha: float) -> None:
    rates = true_rates(
        DISTRIBUTIONS["exponential"], lambda s: float(np.quantile(s, 1 - alpha)), n, 500, np.random.default_rng(n)
    )
    assert rates.mean() - FAR * standard_error(rates) > 1.3 * alpha


@pytest.mark.parametrize("draws", [500, MANY])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(
    ("n", "alpha", "confidence"),
    [
        (120, 0.05, 0.9),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((59, 0.05, 0.95), (500, 0.01, 0.95))),
    ],
)
def test_with_confidence_few_thresholds_exceed_the_rate(
    name: str, n: int, alpha: float, confidence: float, draws: int
) -> None:
    rates = true_rates(
        DISTRIBUTIONS[name],
        lambda scores: certify(scores, alpha, confidence=confidence).threshold,
        n,
        draws,
        np.random.default_rng(1),
    )
    assert np.mean(rates > alpha) <= most_of(draws, 1 - confidence)


@given(
    n=st.integers(1, 3000),
    alpha=st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.3, 0.9]),
    confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_the_rank_with_confidence_is_the_smallest_that_the_beta_law_allows(
    n: int, alpha: float, confidence: float
) -> None:
    ranks = np.arange(1, n + 1)
    sure = scipy.stats.beta.cdf(alpha, n + 1 - ranks, ranks) >= confidence
    if not sure.any():
        with pytest.raises(CalibrationError, match=f"with confidence {confidence}"):
            certify(ranks, alpha, confidence=confidence)
    else:
        assert certify(ranks, alpha, confidence=confidence).threshold == ranks[sure].min()


@given(alpha=st.floats(0.001, 0.9), confidence=st.floats(0.01, 0.999))
def test_images_needed_with_confidence_is_the_smallest_number_accepted(alpha: float, confidence: float) -> None:
    n = images_needed(alpha, confidence)
    certify(np.zeros(n), alpha, confidence=confidence)
    if n > 1:
        with pytest.raises(CalibrationError):
            certify(np.zeros(n - 1), alpha, confidence=confidence)


def test_no_more_confidence_is_said_than_there_is() -> None:
    assert certify(range(100), 0.5, confidence=0.9999999).promise.startswith("With confidence 99.99999 % at most 50 %")
    with pytest.raises(CalibrationError, match=r"0\.2 with confidence 0\.9999999 needs 73 good images"):
        certify(range(9), 0.2, confidence=0.9999999)


@pytest.mark.parametrize("confidence", [None, 0.9])
@given(n=st.integers(1, 400))
def test_the_smallest_rate_is_accepted_rounded_up_or_not(confidence: float | None, n: int) -> None:
    rate = smallest_rate(n, confidence)
    certify(np.zeros(n), rate, confidence=confidence)
    certify(np.zeros(n), rounded_up(rate), confidence=confidence)
    with pytest.raises(CalibrationError):
        certify(np.zeros(n), rate * 0.999, confidence=confidence)


@given(
    scores=st.lists(st.floats(0, 10), min_size=60, max_size=80),
    confidences=st.tuples(st.floats(0.3, 0.95), st.floats(0.3, 0.95)).map(sorted),
)
def test_more_confidence_or_a_lower_rate_never_lower_the_threshold(
    scores: list[float], confidences: list[float]
) -> None:
    less, more = (certify(scores, 0.05, confidence=confidence).threshold for confidence in confidences)
    assert less <= more
    assert certify(scores, 0.05).threshold <= certify(scores, 0.04).threshold


def test_groups_are_counted_as_one_each() -> None:
    certificate = certify(range(100), 0.05, groups=np.arange(100) // 5)
    assert (certificate.n, certificate.groups) == (100, 20)
    assert certificate.promise == (
        "On average at most 5 % of new groups of good images have an image flagged (from 100 good images in 20 groups)."
    )
    with pytest.raises(CalibrationError, match=r"0\.01 needs 99 groups of good images .* found 20; add 79"):
        certify(range(100), 0.01, groups=np.arange(100) // 5)


def test_a_group_of_one_each_changes_nothing() -> None:
    scores = np.random.default_rng(0).normal(size=50)
    assert certify(scores, 0.1).threshold == certify(scores, 0.1, groups=np.arange(50)).threshold


def test_groups_must_be_as_many_as_scores() -> None:
    with pytest.raises(CalibrationError, match="found 2 ids for 3 scores"):
        worst_of_groups([1.0, 2.0, 3.0], ["a", "b"])


@pytest.mark.parametrize("draws", [300, pytest.param(5_000, marks=pytest.mark.slow)])
def test_several_photos_of_one_part_break_the_rate_unless_they_are_grouped(draws: int) -> None:
    rng = np.random.default_rng(0)
    ungrouped = grouped_rates(0.02, draws, rng, by_part=False)
    assert ungrouped.mean() - FAR * standard_error(ungrouped) > 1.5 * 0.02
    grouped = grouped_rates(0.1, draws, rng, by_part=True)
    assert grouped.mean() <= 0.1 + FAR * standard_error(grouped)
    assert grouped.mean() == pytest.approx(2 / 21, abs=FAR * standard_error(grouped))
