"""Probability of detection: against other fits, published figures, hand-computed cases and the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from blemish.errors import CalibrationError, SettingsError
from blemish.stats.pod import PodCurve, fit_pod
from reference.detection import largest_possible_a90, study

SIZES, HITS = study(150, 6.0, 3.0, np.random.default_rng(0))


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_maximum_likelihood_is_that_of_scikit_learn(scale: str) -> None:
    curve = fit_pod(SIZES, HITS, scale=scale, method="maximum likelihood")
    x = (np.log(SIZES) if scale == "log" else SIZES)[:, None]
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, HITS)
    assert curve.slope == pytest.approx(reference.coef_[0, 0], rel=1e-5)
    assert curve.intercept == pytest.approx(reference.intercept_[0], rel=1e-5)
    np.testing.assert_allclose(curve.pod(SIZES), reference.predict_proba(x)[:, 1], atol=1e-6)


def test_the_published_fit_of_the_o_rings() -> None:
    """Damage at 23 launches against degrees Fahrenheit (Dalal, Fowlkes & Hoadley 1989): 15.043 - 0.2322 t."""
    damaged = [53, 57, 58, 63, 70, 70, 75]
    sound = [66, 67, 67, 67, 68, 69, 70, 70, 72, 73, 75, 76, 76, 78, 79, 81]
    hits = [True] * len(damaged) + [False] * len(sound)
    curve = fit_pod(damaged + sound, hits, scale="linear", method="maximum likelihood")
    assert (round(curve.intercept, 3), round(curve.slope, 4)) == (15.043, -0.2322)
    assert curve.a90.status == curve.a90_95.status == "never"  # warmer is safer: damage falls with temperature


@settings(max_examples=30)
@given(hits=st.tuples(st.integers(0, 20), st.integers(0, 20)))
def test_firth_adds_half_a_hit_and_half_a_miss_at_each_of_two_sizes(hits: tuple[int, int]) -> None:
    """With two sizes the model is saturated; Jeffreys' prior is then a beta(1/2, 1/2) for each proportion."""
    found = [index < hits[0] for index in range(20)] + [index < hits[1] for index in range(20)]
    if sum(hits) in (0, 40):
        with pytest.raises(CalibrationError):
            fit_pod([1.0] * 20 + [2.0] * 20, found)
        return
    curve = fit_pod([1.0] * 20 + [2.0] * 20, found)
    np.testing.assert_allclose(curve.pod([1.0, 2.0]), (np.array(hits) + 0.5) / 21, rtol=1e-6)


def test_the_traced_bound_is_the_profile_likelihood_bound() -> None:
    curve = fit_pod(SIZES, HITS, method="maximum likelihood")
    reference = largest_possible_a90(SIZES, HITS, 1.6448536**2)
    assert curve.a90_95.size == pytest.approx(reference, rel=1e-4)
    assert curve.a90.size < reference


def test_the_band_reaches_nine_tenths_at_a90_95() -> None:
    curve = fit_pod(SIZES, HITS)
    low, high = curve.band([curve.a90_95.size])
    assert low[0] == pytest.approx(0.9, abs=1e-9)
    assert low[0] < curve.pod([curve.a90_95.size])[0] < high[0]


@pytest.mark.slow
@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_band_holds_the_curve_and_widens_with_confidence(seed: int, confidence: float) -> None:
    sizes, hits = study(40, 6.0, 2.0, np.random.default_rng(seed))
    curve, surer = (fit_pod(sizes, hits, confidence=c) for c in (confidence, 0.995))
    grid = np.geomspace(0.5, 50, 15)
    low, high = curve.band(grid)
    wider_low, wider_high = surer.band(grid)
    assert np.all((wider_low <= low) & (low <= curve.pod(grid)) & (curve.pod(grid) <= high) & (high <= wider_high))
    assert curve.a50.size <= curve.a90.size <= curve.a90_95.size <= surer.a90_95.size


@pytest.mark.slow
@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), factor=st.floats(1e-3, 1e3))
def test_sizes_in_another_unit_give_the_same_sizes_in_that_unit(seed: int, factor: float) -> None:
    sizes, hits = study(60, 6.0, 2.0, np.random.default_rng(seed))
    curve, other = fit_pod(sizes, hits), fit_pod(sizes * factor, hits)
    assert other.a90.size == pytest.approx(curve.a90.size * factor, rel=1e-6)
    assert other.a90_95.size == pytest.approx(curve.a90_95.size * factor, rel=1e-5)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_at_maximum_likelihood_expected_hits_equal_the_hits(seed: int) -> None:
    sizes, hits = study(60, 6.0, 2.0, np.random.default_rng(seed))
    surplus = hits - fit_pod(sizes, hits, method="maximum likelihood").pod(sizes)
    assert abs(surplus.sum()) < 1e-8
    assert abs(surplus @ np.log(sizes)) < 1e-8


SEPARATED = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0] * 5, ([False] * 3 + [True] * 3) * 5)


def test_separated_hits_and_misses_have_a_penalised_curve_only() -> None:
    curve = fit_pod(*SEPARATED)
    assert 3.0 < curve.a50.size < 4.0
    assert curve.a90_95.status == "found"
    with pytest.raises(CalibrationError, match=r"the likelihood has no maximum; .* 'firth'"):
        fit_pod(*SEPARATED, method="maximum likelihood")


def test_statuses_say_when_the_sizes_tested_cannot_tell() -> None:
    rng = np.random.default_rng(3)
    sizes, hits = study(400, 6.0, 3.0, rng)
    small, large = sizes < 7, sizes > 14
    assert fit_pod(sizes, hits).a90.status == "found"
    assert fit_pod(sizes[small], hits[small]).a90.status == "above_range"
    assert fit_pod(sizes[large], hits[large]).a50.status == "below_range"
    by_chance = fit_pod(sizes, rng.random(400) < 0.5)
    assert (by_chance.a90_95.size, by_chance.a90_95.status) == (math.inf, "never")


def test_sizes_too_large_for_a_float_are_infinite_but_above_the_range() -> None:
    curve = PodCurve(0.0, 1e-3, "log", "firth", 0.95, 1, 1, 1.0, 2.0, np.array([[0.0, 1e-3]]))
    assert (curve.a90.size, curve.a90.status) == (math.inf, "above_range")


@pytest.mark.parametrize(
    ("sizes", "hits", "message"),
    [
        ([1.0, 2.0], [True, True], "all of the 2 defects were found, so there is no curve; add smaller or fainter"),
        ([1.0, 2.0], [False, False], "none of the 2 defects were found, so there is no curve; add larger or stronger"),
        ([2.0, 2.0], [True, False], "all defects are of one size"),
        ([0.0, 2.0], [True, False], "found size 0; the logarithm takes sizes above 0"),
        ([1.0, 2.0, 3.0], [True, False], "found 2 hits for 3 sizes"),
        ([1.0, math.nan, math.inf], [True, False, True], "found 2 sizes that are not finite"),
    ],
)
def test_no_curve_is_an_error_that_says_what_to_add(sizes: list[float], hits: list[bool], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        fit_pod(sizes, hits)


def test_confidence_is_one_sided_and_above_a_half() -> None:
    with pytest.raises(SettingsError, match=r"confidence: found 0\.4"):
        fit_pod(SIZES, HITS, confidence=0.4)
