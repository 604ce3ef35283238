from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from blemish.errors import CalibrationError, DataError
from blemish.stats import auroc, average_precision, roc_curve
from blemish.stats.ranking import (
    auroc_of_levels,
    average_precision_of_levels,
    best_f1_of_levels,
    levels_of,
    linear_credit,
    log_credit,
    mean_credit,
    thin,
)

whole = st.integers(-20, 20).map(float)


@st.composite
def rankings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels with both classes."""
    scores = draw(st.lists(whole, min_size=2, max_size=30))
    labels = draw(st.lists(st.booleans(), min_size=len(scores) - 2, max_size=len(scores) - 2))
    return np.array(scores), np.array([False, True, *labels])


@given(rankings())
@settings(max_examples=40)
def test_auroc_and_average_precision_are_scikit_learns(ranking: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = ranking
    assert auroc(scores, labels) == pytest.approx(sk.roc_auc_score(labels, scores))
    assert average_precision(scores, labels) == pytest.approx(sk.average_precision_score(labels, scores))


@pytest.mark.parametrize("measure", [auroc, average_precision])
def test_labels_may_be_numbers_and_scores_must_be(measure: Callable[..., float]) -> None:
    scores, labels = [3.0, 1.0, 2.0, 0.5], [1, 0, 0, 1]
    wanted = measure(np.array(scores), np.array(labels, bool))
    assert measure(scores, labels) == measure(np.array(scores), np.array(labels, float)) == wanted
    with pytest.raises(CalibrationError, match="number 2 of 4 is not a number"):
        measure(np.array([3.0, np.nan, 2.0, 0.0]), np.array(labels, bool))
    for wrong in ([1, -1, -1, 1], [0, 255, 0, 0], [1, 0, 1]):
        with pytest.raises(DataError, match=f"labels: expected 4 of True and False, .*; found {len(wrong)}"):
            measure(scores, wrong)


@given(rankings())
@settings(max_examples=40)
def test_only_the_order_matters(ranking: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = ranking
    for increasing in (lambda s: 1000.0 * s - 3.0, lambda s: s**3, np.exp, lambda s: 1.0 / (1.0 + np.exp(-s / 9.0))):
        assert auroc(increasing(scores), labels) == auroc(scores, labels)
        assert average_precision(increasing(scores), labels) == average_precision(scores, labels)


@given(rankings())
@settings(max_examples=40)
def test_turning_the_order_around_turns_the_area_around(ranking: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = ranking
    assert auroc(-scores, labels) == pytest.approx(1.0 - auroc(scores, labels))
    assert auroc(-scores, ~labels) == pytest.approx(auroc(scores, labels))


@given(rankings())
def test_the_order_of_the_images_does_not_matter(ranking: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = ranking
    turned = np.random.default_rng(0).permutation(len(scores))
    assert auroc(scores[turned], labels[turned]) == auroc(scores, labels)
    assert average_precision(scores[turned], labels[turned]) == average_precision(scores, labels)


@given(rankings())
@settings(max_examples=40)
def test_doubling_every_score_changes_nothing(ranking: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = ranking
    twice = np.repeat(scores, 2), np.repeat(labels, 2)
    assert auroc(*twice) == pytest.approx(auroc(scores, labels))
    assert average_precision(*twice) == pytest.approx(average_precision(scores, labels))


@given(rankings(), whole)
def test_a_tied_pair_draws_the_area_towards_a_half(ranking: tuple[np.ndarray, np.ndarray], score: float) -> None:
    labels = ranking[1]
    assert auroc(np.full(len(labels), score), labels) == 0.5
    assert average_precision(np.full(len(labels), score), labels) == pytest.approx(labels.mean())


@given(rankings())
@settings(max_examples=40)
def test_a_perfect_order_gives_one(ranking: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = ranking
    apart = scores + 100.0 * labels
    assert auroc(apart, labels) == pytest.approx(1.0)
    assert average_precision(apart, labels) == pytest.approx(1.0)


def test_rounding_takes_nothing_above_one() -> None:
    defective = np.array([0, 2, 2, 1, 3, 2, 2, 3, 3, 0, 0, 3, 1, 0, 1, 1, 1])
    assert average_precision_of_levels(np.eye(1, defective.size)[0], defective) == 1.0
    weights = [np.random.default_rng(seed).random(seed % 40 + 1) for seed in range(200)]
    assert max(mean_credit(np.ones(one.size), one) for one in weights) == 1.0


@pytest.mark.parametrize("measure", [auroc, average_precision])
@pytest.mark.parametrize("label", [False, True])
def test_one_class_alone_gives_no_number(measure: object, label: bool) -> None:
    assert np.isnan(measure(np.arange(3.0), np.full(3, label)))
    assert np.isnan(measure(np.zeros(0), np.zeros(0, bool)))


@pytest.mark.slow
@given(rankings())
@settings(max_examples=40)
def test_best_f1_is_the_best_of_all_thresholds(ranking: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = ranking
    values, good, defective = levels_of(scores, labels)
    each = [sk.f1_score(labels, scores >= value) for value in values]
    best, level = best_f1_of_levels(good, defective)
    assert best == pytest.approx(max(each))
    assert each[level] == pytest.approx(best)
    assert all(value < best - 1e-12 for value in each[level + 1 :])


@given(rankings())
@settings(max_examples=40)
def test_the_drawn_curve_has_the_area(ranking: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = ranking
    curve = roc_curve(scores, labels, max_points=1000)
    area = sk.auc(curve.false_positive_rate, curve.true_positive_rate)
    assert area == pytest.approx(auroc(scores, labels))
    for x, y, threshold in zip(*curve, strict=True):
        assert x == np.mean(scores[~labels] > threshold)
        assert y == np.mean(scores[labels] > threshold)


def test_the_thinned_curve_keeps_its_corners_and_its_area() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random(20_000) < 0.3
    scores = rng.normal(size=20_000) + 2.0 * labels
    scores[labels & (rng.random(20_000) < 0.5)] += 100.0  # a corner near (0, 0.5)
    curve = roc_curve(scores, labels, max_points=60)
    assert len(curve.threshold) == 60
    corner = np.mean(scores[labels] > scores[~labels].max())
    assert np.hypot(curve.false_positive_rate, curve.true_positive_rate - corner).min() == 0.0
    area = sk.auc(curve.false_positive_rate, curve.true_positive_rate)
    assert area == pytest.approx(auroc(scores, labels), abs=1e-3)


def test_thinning_leaves_out_straight_lines() -> None:
    x = np.linspace(0.0, 1.0, 101)
    assert thin(x, np.minimum(2.0 * x, 1.0), max_points=50).tolist() == [0, 50, 100]


def test_a_curve_of_one_class_is_not_a_number() -> None:
    assert np.isnan(roc_curve(np.arange(3.0), np.zeros(3, bool)).true_positive_rate).all()


@given(rankings(), st.sampled_from([0.05, 0.3, 1.0]))
def test_linear_credit_gives_the_partial_area(ranking: tuple[np.ndarray, np.ndarray], max_fpr: float) -> None:
    scores, labels = ranking
    _, good, defective = levels_of(scores, labels)
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    fine = np.unique(np.concatenate([fpr, np.linspace(0.0, max_fpr, 20_001)]))
    fine = fine[fine <= max_fpr]
    expected = np.sum(np.interp((fine[1:] + fine[:-1]) / 2, fpr, tpr) * np.diff(fine)) / max_fpr
    assert mean_credit(linear_credit(good, max_fpr), defective) == pytest.approx(expected, abs=1e-9)


@given(rankings())
@settings(max_examples=40)
def test_log_credit_is_the_mean_of_linear_interpolation(ranking: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = ranking
    _, good, defective = levels_of(scores, labels)
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    edges = np.geomspace(0.01, 0.5, 100_001)
    expected = np.interp(np.sqrt(edges[1:] * edges[:-1]), fpr, tpr).mean()
    assert mean_credit(log_credit(good, (0.01, 0.5)), defective) == pytest.approx(expected, abs=2e-5)


def test_empty_levels_change_nothing() -> None:
    good, defective = np.array([5, 0, 3, 0, 0, 1]), np.array([1, 0, 0, 0, 4, 2])
    there = (good + defective) > 0
    for measure in (auroc_of_levels, average_precision_of_levels):
        assert measure(good, defective) == measure(good[there], defective[there])


def test_of_equally_good_levels_f1_names_the_highest() -> None:
    """One of two found, or both with two false alarms: 2 / 3 either way."""
    assert best_f1_of_levels(np.array([2, 0]), np.array([1, 1])) == (pytest.approx(2 / 3), 1)
