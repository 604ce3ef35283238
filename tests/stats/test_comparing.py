"""Ranks, critical differences and chances, against scipy and against counting."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import rankdata, studentized_range

from blemish.stats.comparing import NEMENYI_Q, chance_better, critical_difference, mean_ranks


def test_ranks_are_scipys() -> None:
    values = np.random.default_rng(0).integers(0, 4, (7, 5)) / 4  # with ties
    assert mean_ranks(values) == pytest.approx(rankdata(-values, axis=1).mean(axis=0))


@pytest.mark.parametrize("methods", NEMENYI_Q)
def test_the_table_is_that_of_the_studentised_range(methods: int) -> None:
    exact = studentized_range.ppf(0.95, methods, np.inf) / math.sqrt(2)
    assert NEMENYI_Q[methods] == pytest.approx(exact, abs=2e-3)


def test_too_few_or_too_many_have_no_critical_difference() -> None:
    assert all(math.isnan(critical_difference(*case)) for case in ((1, 9), (11, 9), (3, 1)))


def test_the_chance_is_that_of_all_ways_to_draw() -> None:
    a, b = np.array([0.9, 0.5, 0.7]), np.array([0.6, 0.7, 0.6])
    drawn = [sum((a - b)[list(places)]) for places in product(range(3), repeat=3)]
    exact = sum(1.0 if total > 1e-12 else 0.5 * (abs(total) <= 1e-12) for total in drawn) / len(drawn)
    # 10,000 draws: a share that far from the exact one has a chance below 1e-6
    assert chance_better(a, b, np.random.default_rng(1)) == pytest.approx(exact, abs=0.025)


def test_equal_ones_are_even_and_few_sets_are_never_sure() -> None:
    same = np.array([0.5, 0.6])
    assert chance_better(same, same, np.random.default_rng(0)) == 0.5
    assert chance_better(same + 0.1, same, np.random.default_rng(0)) == pytest.approx(2.5 / 3)
    assert chance_better(same, same + 0.1, np.random.default_rng(0)) == pytest.approx(0.5 / 3)
