"""Thresholds with a promise: their arithmetic, their refusals, their agreement with p-values."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import CalibrationError, SettingsError
from blemish.stats.conformal import certify, images_needed, p_value, smallest_rate

few_values = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=40)
many_values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)
rates = st.one_of(
    st.floats(0.001, 0.999),
    st.integers(1, 99).map(lambda percent: percent / 100),
    st.integers(1, 50).map(lambda n: 1 / (n + 1)),
)


@given(scores=st.one_of(few_values, many_values), alpha=rates, new=st.floats(-1, 7))
def test_flagged_exactly_when_the_p_value_is_at_most_alpha(scores: list[float], alpha: float, new: float) -> None:
    if alpha < smallest_rate(len(scores)):
        with pytest.raises(CalibrationError):
            certify(scores, alpha)
        return
    threshold = certify(scores, alpha).threshold
    for score in [new, *scores]:
        assert (score > threshold) == (p_value(scores, score) <= alpha)


@given(scores=many_values, alpha=st.integers(1, 999).map(lambda permille: Fraction(permille, 1000)))
def test_the_rank_is_that_of_exact_arithmetic(scores: list[float], alpha: Fraction) -> None:
    k = math.ceil((len(scores) + 1) * (1 - alpha))
    if k > len(scores):
        with pytest.raises(CalibrationError):
            certify(scores, float(alpha))
    else:
        assert certify(scores, float(alpha)).threshold == sorted(scores)[k - 1]


@given(alpha=rates)
def test_images_needed_is_the_smallest_number_that_is_accepted(alpha: float) -> None:
    n = images_needed(alpha)
    certify(np.zeros(n), alpha)
    with pytest.raises(CalibrationError):
        certify(np.zeros(n - 1), alpha)


@given(n=st.integers(1, 2000))
def test_the_smallest_rate_is_accepted_and_nothing_below_it(n: int) -> None:
    rate = smallest_rate(n)
    assert images_needed(rate) == n
    assert images_needed(np.nextafter(rate, 0.0)) == n + 1


def test_the_message_names_a_rate_that_is_then_accepted() -> None:
    with pytest.raises(CalibrationError, match=r"0\.01 needs 99 .* found 40; add 59, or ask for 0\.0244 or more"):
        certify(np.zeros(40), 0.01)
    assert certify(np.zeros(40), 0.0244).threshold == 0.0


def test_p_values_of_an_array_equal_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    good, new = rng.integers(0, 9, 30) / 2, rng.integers(0, 9, (4, 5)) / 2
    together = p_value(good, new)
    assert together.shape == (4, 5)
    assert together.ravel().tolist() == [p_value(good, float(score)) for score in new.ravel()]


def test_single_precision_scores_are_compared_as_they_are() -> None:
    good = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    assert p_value(good, 0.3) == 0.5  # float32(0.3) lies just above 0.3
    assert certify(good, 0.25).threshold == float(np.float32(0.3))


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(CalibrationError, match="number 2 of 3"):
        certify([1.0, math.nan, 2.0], 0.5)
    with pytest.raises(CalibrationError, match="not a number"):
        p_value([1.0, 2.0], math.nan)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_outside_zero_and_one_is_refused(alpha: float) -> None:
    with pytest.raises(SettingsError, match=r"score\.max_false_alarm_rate"):
        certify([1.0], alpha)


def test_without_any_image_no_rate_is_suggested() -> None:
    with pytest.raises(CalibrationError, match=r"needs 19 good images .* found 0; add 19$"):
        certify([], 0.05)
    assert p_value([], 3.0) == 1.0
