import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from blemish import stats as metrics
from blemish.errors import DataError
from blemish.stats import Counts, accuracy, count, defect_rate, f1, ok_rate, precision, recall

decisions = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40).map(np.array)


@given(decisions)
@settings(max_examples=40)
def test_the_four_measures_are_scikit_learns(pairs: np.ndarray) -> None:
    predicted, actual = pairs.T
    counts = count(predicted, actual)
    assert precision(counts) == pytest.approx(sk.precision_score(actual, predicted, zero_division=0.0))
    assert recall(counts) == pytest.approx(sk.recall_score(actual, predicted, zero_division=0.0))
    assert accuracy(counts) == pytest.approx(sk.accuracy_score(actual, predicted))
    if pairs.any():
        assert f1(counts) == pytest.approx(sk.f1_score(actual, predicted, zero_division=0.0))
    else:
        assert np.isnan(f1(counts))


@given(decisions, decisions)
def test_counts_add_up_over_images(first: np.ndarray, second: np.ndarray) -> None:
    together = count(*np.concatenate([first, second]).T)
    assert count(*first.T) + count(*second.T) == together


@given(decisions)
def test_pixels_outside_valid_never_count(pairs: np.ndarray) -> None:
    valid = np.arange(len(pairs)) % 2 == 0
    changed = pairs.copy()
    changed[~valid] ^= True
    assert count(*pairs.T, valid) == count(*changed.T, valid) == count(*pairs[valid].T)


def test_f1_is_the_harmonic_mean() -> None:
    counts = Counts(tp=7, fp=3, tn=100, fn=2)
    p, r = precision(counts), recall(counts)
    assert f1(counts) == pytest.approx(2 * p * r / (p + r))


def test_rates_without_images_of_the_kind_are_not_numbers() -> None:
    assert np.isnan(ok_rate(Counts(tp=3, fp=0, tn=0, fn=1)))
    assert np.isnan(defect_rate(Counts(tp=0, fp=1, tn=2, fn=0)))
    assert np.isnan(accuracy(Counts(0, 0, 0, 0)))


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r"one shape; found \(2, 3\), \(3, 2\)"):
        count(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


def test_public_names_are_sorted() -> None:
    assert metrics.__all__ == sorted(metrics.__all__)
