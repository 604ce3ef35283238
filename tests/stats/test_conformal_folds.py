"""Folds: the bounds against the formulas they are quoted from, and the rates of detectors that make it hard."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import CalibrationError, SettingsError
from blemish.stats.conformal_folds import certify_cross, smallest_cross_rate, smallest_score_p_value
from reference.chance import FAR
from reference.folds import cross_bound, cross_p_value
from reference.good_scores import fold_rates, standard_error


@given(m=st.integers(2, 200), k=st.integers(2, 20), a_times=st.integers(1, 50))
def test_the_bound_is_the_smaller_of_the_two_published(m: int, k: int, a_times: int) -> None:
    n = m * k
    a = a_times / (n + 1)
    vovk_wang = 2 * a + 2 * (1 - a) * (1 - 1 / k) / (n / k + 1)
    barber = 2 * a + min(2 * (1 - 1 / k) / (n / k + 1), (1 - k / n) / (k + 1))
    assert cross_bound(a, [m] * k) == pytest.approx(min(1, vovk_wang, barber))


@given(
    scores=st.lists(st.integers(0, 9).map(float), min_size=6, max_size=6),
    new=st.lists(st.integers(0, 9).map(float), min_size=3, max_size=3),
)
def test_p_values_follow_their_definition_image_by_image(scores: list[float], new: list[float]) -> None:
    folds = [0, 1, 2, 0, 1, 2]
    as_high = sum(scores[i] >= new[folds[i]] for i in range(6))
    assert cross_p_value(scores, folds, new) == (1 + as_high) / 7


@given(
    scores=st.lists(st.floats(0, 9), min_size=20, max_size=20),
    above=st.lists(st.floats(0.001, 9), min_size=20, max_size=20),
    alpha=st.floats(0.05, 0.9),
)
def test_flagged_by_the_smallest_score_implies_a_small_p_value(
    scores: list[float], above: list[float], alpha: float
) -> None:
    threshold = certify_cross(scores, range(20), alpha).threshold
    assert cross_p_value(scores, range(20), [threshold + one for one in above]) <= alpha


@pytest.mark.parametrize("draws", [400, pytest.param(8_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("detector", ["nearest neighbour", "turncoat"])
@pytest.mark.parametrize(("n", "k", "alpha"), [(30, 30, 0.1), (60, 4, 0.2), (31, 4, 0.4)])
def test_the_rate_is_kept_by_folds(detector: str, n: int, k: int, alpha: float, draws: int) -> None:
    flagged, small = fold_rates(detector, n, k, alpha, draws, np.random.default_rng(n))
    assert flagged.mean() <= alpha + FAR * standard_error(flagged)
    assert small.mean() <= cross_bound(alpha / 2, np.bincount(np.arange(n) % k)) + FAR * standard_error(small)


def test_a_detector_refitted_on_all_images_can_flag_every_good_one() -> None:
    good = np.random.default_rng(0).exponential(size=99)
    scores = -good  # a detector whose scale depends on whether it saw an even number of images: 98 here
    refitted = np.random.default_rng(1).exponential(size=1000)  # and 99 here
    assert np.all(refitted > certify_cross(scores, range(99), 0.01).threshold)


def test_few_large_folds_refuse_a_small_rate_and_name_one_they_can_promise() -> None:
    scores, folds = np.arange(100.0), np.arange(100) % 5
    with pytest.raises(CalibrationError, match=r"5 folds of 100 good images can promise 0\.0953 at the least"):
        certify_cross(scores, folds, 0.05)
    assert certify_cross(scores, folds, 0.0953).threshold == 99.0


@pytest.mark.parametrize(
    ("scores", "folds", "rate", "message"),
    [
        ([1.0, np.nan, 2.0, 3.0], [0, 0, 1, 1], 0.5, "number 2 of 4 is not a number"),
        ([1.0, 2.0, 3.0], [0, 0, 1, 1], 0.5, "folds: found 4 ids for 3 scores"),
        ([], [], 0.5, "folds: found no scores"),
        ([1.0, 2.0], [0, 1], 2.0, "max_false_alarm_rate: found 2; it must lie between 0 and 1"),
    ],
)
def test_what_folds_cannot_tell_is_refused(scores: list[float], folds: list[int], rate: float, message: str) -> None:
    with pytest.raises((CalibrationError, SettingsError), match=message):
        certify_cross(scores, folds, rate)


def test_a_score_without_a_fold_has_no_p_value() -> None:
    with pytest.raises(CalibrationError, match="folds: found 3 ids for 4 scores"):
        smallest_score_p_value([1.0, 2.0, 3.0, 4.0], [0, 0, 1], 9.0)


def test_leave_one_out_promises_what_held_out_images_would() -> None:
    assert certify_cross(np.arange(99.0), range(99), 0.01).threshold == 98.0
    with pytest.raises(CalibrationError):
        certify_cross(np.arange(98.0), range(98), 0.01)


def test_folds_of_several_sizes_promise_no_more_than_any_fold_sizes_may() -> None:
    """Theorem 3 of Barber et al. is for folds of one size."""
    assert smallest_cross_rate([0, 0, 0, 1, 1]) == 2 * 2 / (5 + 2)
    assert certify_cross(range(5), [0, 0, 0, 1, 1], 0.6).threshold == 4.0
    with pytest.raises(CalibrationError, match=r"2 folds of 5 good images can promise 0\.572 at the least"):
        certify_cross(range(5), [0, 0, 0, 1, 1], 0.4)
