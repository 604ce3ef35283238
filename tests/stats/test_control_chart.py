"""Laney's p'-chart against figures worked out by hand, and its properties."""

import numpy as np
import pytest

from blemish.errors import SettingsError
from blemish.stats import laney_p_chart

# Nonconforming cans of frozen orange juice concentrate in 30 samples of 50: Montgomery, "Introduction to Statistical
# Quality Control", the p-chart's example, where the centre is .2313 and the limits of the p-chart are .0524 and .4102.
CANS = [12, 15, 8, 10, 4, 7, 16, 9, 14, 10, 5, 6, 17, 12, 22, 8, 10, 5, 13, 11, 20, 18, 24, 15, 9, 12, 7, 13, 9, 6]


def test_the_cans_by_hand() -> None:
    chart = laney_p_chart(CANS, [50] * 30)
    assert chart is not None
    assert chart.centre == pytest.approx(347 / 1500)
    # |differences| add up to 162 cans in 29 steps: 162 / 29 / 50 / 1.128 = .099046, over sqrt(p (1 - p) / 50) = .059635
    assert chart.sigma_z == pytest.approx(1.66087, abs=1e-4)
    # .231333 + 3 x .059635 x 1.66087
    assert chart.points[0].high == pytest.approx(0.52847, abs=1e-4)
    assert chart.points[0].low == 0.0
    assert not any(point.is_outside for point in chart.points)


def test_with_sigma_z_of_one_it_is_the_p_chart_of_the_book() -> None:
    chart = laney_p_chart(CANS, [50] * 30)
    assert chart is not None
    reach = (chart.points[0].high - chart.centre) / chart.sigma_z
    assert chart.centre - reach == pytest.approx(0.0524, abs=5e-5)
    assert chart.centre + reach == pytest.approx(0.4102, abs=6e-5)


def test_limits_of_unequal_subgroups_by_hand() -> None:
    # p = 30 / 300; s = .03, .03, .021213; z = 0, 3.333333, -2.357023: (3.333333 + 5.690356) / 2 / 1.128 = 3.999862
    chart = laney_p_chart([10, 20, 10], [100, 100, 200])
    assert chart is not None
    assert chart.centre == pytest.approx(0.1)
    assert chart.sigma_z == pytest.approx(3.999862, abs=1e-5)
    assert [point.high for point in chart.points] == pytest.approx([0.459988, 0.459988, 0.354550], abs=1e-5)


def test_large_subgroups_that_differ_are_inside_here_and_outside_a_p_chart() -> None:
    rng = np.random.default_rng(0)
    rates = rng.normal(0.05, 0.01, 40).clip(0.01)
    hits = rng.binomial(10_000, rates).tolist()
    chart = laney_p_chart(hits, [10_000] * 40)
    assert chart is not None
    outside = sum(point.is_outside for point in chart.points)
    narrow = 3 * (chart.centre * (1 - chart.centre) / 10_000) ** 0.5
    assert sum(abs(point.share - chart.centre) > narrow for point in chart.points) > 10
    assert outside <= 1


def test_without_a_spread_the_limits_are_the_centre() -> None:
    for hits in ([0, 0, 0], [5, 5, 5]):
        chart = laney_p_chart(hits, [5, 5, 5])
        assert chart is not None
        assert {(point.low, point.high) for point in chart.points} == {(chart.centre, chart.centre)}
    assert laney_p_chart([1], [5]) is None
    assert laney_p_chart([], []) is None


@pytest.mark.parametrize(("hits", "of"), [([1], [0]), ([3], [2]), ([-1], [2]), ([1, 2], [3])])
def test_subgroups_that_are_none_are_refused(hits: list[int], of: list[int]) -> None:
    with pytest.raises(SettingsError, match="control chart"):
        laney_p_chart(hits, of)
