"""Leave-one-group-out distances against plain sums, and what the scale is for."""

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.evaluation.data_check.leave_one_out import (
    PRIOR_IMAGES,
    SHRINKAGE,
    in_units_of_usual,
    leave_one_out_distances,
)


def features(count: int = 9, places: int = 12, depth: int = 4, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, places, depth)) @ rng.normal(size=(depth, depth)) + rng.normal(
        size=(1, places, depth)
    )


def by_refitting(values: NDArray[np.float64], groups: list[int]) -> NDArray[np.float64]:
    """The definition: take the group out, fit each place's mean and covariance anew, draw it to all places', invert."""
    distances = np.empty(values.shape[:2])
    for image, group in enumerate(groups):
        others = values[[other for other, number in enumerate(groups) if number != group]]
        spread = (others - others.mean(axis=0)).reshape(-1, values.shape[2])
        everywhere = spread.T @ spread / len(spread)
        level = np.trace(everywhere) / len(everywhere)
        everywhere = (1 - SHRINKAGE) * everywhere + SHRINKAGE * level * np.eye(len(everywhere))
        weight = len(others) + PRIOR_IMAGES
        for place in range(values.shape[1]):
            rest = others[:, place] - others[:, place].mean(axis=0)
            inverse = np.linalg.inv((rest.T @ rest + PRIOR_IMAGES * everywhere) / weight)
            difference = values[image, place] - others[:, place].mean(axis=0)
            distances[image, place] = difference @ inverse @ difference
    return distances


@pytest.mark.parametrize("groups", [list(range(9)), [0, 0, 1, 2, 2, 2, 3, 4, 5]])
def test_distances_are_those_of_fitting_anew_without_the_group(groups: list[int]) -> None:
    values = features()
    np.testing.assert_allclose(leave_one_out_distances(values, groups), by_refitting(values, groups), rtol=1e-8)


def test_half_precision_features_change_little() -> None:
    values = features()
    exact = leave_one_out_distances(values, range(9))
    np.testing.assert_allclose(
        leave_one_out_distances(values.astype(np.float16), range(9)), exact, rtol=0.02, atol=0.02
    )


def test_images_without_any_variation_are_not_strange() -> None:
    assert leave_one_out_distances(np.ones((5, 4, 3)), range(5)).max() == 0


def test_twins_hide_each_other_unless_they_are_of_one_group() -> None:
    values = features(count=20)
    values[3, 5] += 25
    values[4] = values[3]
    apart = leave_one_out_distances(values, range(20)).max(axis=1)
    together = leave_one_out_distances(values, [*range(4), 3, *range(4, 19)]).max(axis=1)
    assert together[3] > 2 * apart[3]


def test_a_place_that_is_often_odd_counts_less() -> None:
    maps = np.exp(np.random.default_rng(0).normal(size=(30, 36)) * 0.2)
    often, seldom = 7, 28  # far from each other in a grid of 6 x 6
    maps[::2, often] *= 20
    maps[5, seldom] = maps[6, often] = 15
    scaled = in_units_of_usual(maps, range(30), np.ones((1, 6, 6), bool))
    assert scaled[5, seldom] > 3 * scaled[6, often]


def test_one_very_strange_image_does_not_hide_another() -> None:
    maps = np.exp(np.random.default_rng(0).normal(size=(30, 36)) * 0.2)
    maps[3, 14] = 50
    alone = in_units_of_usual(maps, range(30), np.ones((1, 6, 6), bool))[3].max()
    maps[4, 14] = 5000
    scores = in_units_of_usual(maps, range(30), np.ones((1, 6, 6), bool)).max(axis=1)
    assert scores.argsort()[::-1][:2].tolist() == [4, 3]
    assert scores[3] > alone / 4
