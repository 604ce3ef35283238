from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import auc

from blemish.stats import PixelScores, auroc, label_regions
from reference.slow_areas import flood_regions, slow_aupimo, slow_aupro

masks = hnp.arrays(np.bool_, (6, 7), elements=st.sampled_from([False, False, True]))


@st.composite
def map_sets(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Three maps with ties; the first is good, the last has a defect."""
    levels = hnp.arrays(np.float32, (6, 7), elements=st.integers(0, 12).map(lambda n: n / 4))
    marked = draw(masks)
    marked[2, 3] = True
    marked[0, 0] = False
    return [draw(levels) for _ in range(3)], [np.zeros((6, 7), bool), draw(masks), marked]


def scores_of(maps: Sequence[np.ndarray], marked: Sequence[np.ndarray]) -> PixelScores:
    scores = PixelScores()
    for place, (anomaly_map, mask) in enumerate(zip(maps, marked, strict=True)):
        scores.add(str(place), anomaly_map, mask)
    return scores


def aupro(maps: Sequence[np.ndarray], marked: Sequence[np.ndarray], max_fpr: float = 0.3) -> float:
    return scores_of(maps, marked).aupro(max_fpr)


def aupimo(
    maps: Sequence[np.ndarray], marked: Sequence[np.ndarray], fpr_range: tuple[float, float] = (1e-5, 1e-4)
) -> np.ndarray:
    """Of each image; nan for good ones."""
    found = scores_of(maps, marked).aupimo_each(fpr_range)
    return np.array([found.get(str(place), np.nan) for place in range(len(maps))])


@given(masks)
def test_regions_are_those_of_a_flood(mask: np.ndarray) -> None:
    labels = label_regions(mask)
    regions = flood_regions(mask)
    assert labels.max(initial=0) == len(regions)
    assert ((labels > 0) == mask).all()
    for region in regions:
        rows, columns = zip(*region, strict=True)
        assert len(np.unique(labels[rows, columns])) == 1


@given(map_sets(), st.sampled_from([0.07, 0.3, 1.0]))
@settings(max_examples=20)
def test_aupro_is_what_all_thresholds_give(data: tuple[list, list], max_fpr: float) -> None:
    maps, marked = data
    assert aupro(maps, marked, max_fpr) == pytest.approx(slow_aupro(maps, marked, max_fpr))


@given(map_sets(), st.sampled_from([(0.01, 0.2), (0.05, 0.9), (1e-5, 1e-4)]))
@settings(max_examples=20)
def test_aupimo_is_what_all_thresholds_give(data: tuple[list, list], fpr_range: tuple[float, float]) -> None:
    maps, marked = data
    expected = slow_aupimo(maps, marked, fpr_range)
    assert aupimo(maps, marked, fpr_range) == pytest.approx(expected, abs=2e-5, nan_ok=True)


def test_aupimo_of_dense_maps_is_the_trapezoid_rule_on_the_logarithm() -> None:
    """The official code's rule; it differs from ours within a step of the rate only, and here steps are small."""
    rng = np.random.default_rng(0)
    good = rng.gamma(2.0, size=(4, 250, 200)).astype(np.float32)
    defective = (rng.gamma(2.0, size=(250, 200)) * 4.0).astype(np.float32)
    thresholds = np.sort(good.ravel())[::-1]
    fpr = np.arange(1, good.size + 1) / good.size
    recall = np.array([np.mean(defective >= t) for t in thresholds[:5000]])
    inside = (fpr[:5000] >= 1e-3) & (fpr[:5000] <= 1e-2)
    expected = auc(np.log(fpr[:5000][inside]), recall[inside]) / np.log(10.0)
    everything = [*good, defective]
    marked = [*np.zeros(good.shape, bool), np.ones(defective.shape, bool)]
    assert aupimo(everything, marked, (1e-3, 1e-2))[-1] == pytest.approx(expected, abs=1e-3)


@given(map_sets())
@settings(max_examples=20)
def test_areas_are_shares_and_only_the_order_of_values_matters(data: tuple[list, list]) -> None:
    maps, marked = data
    stretched = [np.exp(each) for each in maps]
    assert 0.0 <= aupro(maps, marked) <= 1.0
    assert aupro(stretched, marked) == pytest.approx(aupro(maps, marked))
    each = aupimo(maps, marked, (0.01, 0.2))
    assert ((each >= 0.0) & (each <= 1.0) | np.isnan(each)).all()
    assert aupimo(stretched, marked, (0.01, 0.2)) == pytest.approx(each, nan_ok=True)


@given(map_sets())
@settings(max_examples=20)
def test_the_order_of_the_images_does_not_matter(data: tuple[list, list]) -> None:
    maps, marked = data
    assert aupro(maps[::-1], marked[::-1]) == pytest.approx(aupro(maps, marked))
    assert aupimo(maps[::-1], marked[::-1]) == pytest.approx(aupimo(maps, marked)[::-1], nan_ok=True)


@given(map_sets())
@settings(max_examples=20)
def test_with_one_region_and_all_rates_aupro_is_auroc(data: tuple[list, list]) -> None:
    maps, _ = data
    one = [np.zeros((6, 7), bool), np.zeros((6, 7), bool), np.zeros((6, 7), bool)]
    one[2][1:4, 2:5] = True
    expected = auroc(np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in one]))
    assert aupro(maps, one, max_fpr=1.0) == pytest.approx(expected)


def test_what_is_missing_gives_no_number() -> None:
    anomaly_map, nothing, everything = np.ones((2, 2)), np.zeros((2, 2), bool), np.ones((2, 2), bool)
    assert np.isnan(aupro([anomaly_map], [nothing]))
    assert np.isnan(aupro([anomaly_map], [everything]))
    assert np.isnan(aupimo([anomaly_map], [everything])).all()


def test_aupimo_counts_images_alike_whatever_their_size() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 9, size).astype(np.float32) for size in ((4, 5), (12, 10), (7, 7), (9, 6))]
    marked = [np.zeros(anomaly_map.shape, np.bool_) for anomaly_map in maps]
    marked[2][1, 1], marked[3][1:8, 1:5] = True, True  # a small defect and a large one
    scores, fpr_range = scores_of(maps, marked), (0.01, 0.9)
    expected = [share for share in slow_aupimo(maps, marked, fpr_range) if not np.isnan(share)]
    assert list(scores.aupimo_each(fpr_range).values()) == pytest.approx(expected, abs=2e-5)
    assert scores.aupimo(fpr_range) == pytest.approx(np.mean(expected), abs=2e-5)


def test_a_region_that_is_cut_by_what_counts_stays_one() -> None:
    anomaly_map, mask = np.arange(12, dtype=np.float32).reshape(2, 6), np.zeros((2, 6), np.bool_)
    mask[0, :3] = mask[1, 5] = True
    valid = ~np.array([[False, True] + [False] * 4, [False] * 6])
    scores = PixelScores()
    scores.add("a.png", anomaly_map, mask, valid)
    assert scores.aupro(1.0) == pytest.approx(slow_aupro([anomaly_map], [mask], 1.0, [valid]))
