"""Counts of right and wrong decisions, and the four measures of the paper made from them.

The same four counts serve pixels (`count(map > threshold, mask)`) and images (`count(scores > threshold, labels)`).
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError


@final
@dataclass(frozen=True)
class Counts:
    """How many decisions were right and wrong; positive means defective. They add up over images.

    >>> Counts(tp=1, fp=2, tn=3, fn=4) + Counts(tp=10, fp=0, tn=0, fn=0)
    Counts(tp=11, fp=2, tn=3, fn=4)
    """

    tp: int
    fp: int
    tn: int
    fn: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.tn + other.tn, self.fn + other.fn)


def count(predicted: NDArray[np.bool_], actual: NDArray[np.bool_], valid: NDArray[np.bool_] | None = None) -> Counts:
    """Compare decisions with the truth, element by element, where `valid` is True (everywhere without it).

    Raises:
        DataError: when the shapes differ.

    >>> predicted, mask = np.array([[True, True, False]]), np.array([[True, False, True]])
    >>> count(predicted, mask)
    Counts(tp=1, fp=1, tn=0, fn=1)
    >>> count(predicted, mask, valid=np.array([[True, False, True]]))
    Counts(tp=1, fp=0, tn=0, fn=1)
    """
    shapes = [array.shape for array in (predicted, actual, valid) if array is not None]
    if len(set(shapes)) > 1:
        raise DataError(f"masks: predicted, actual and valid must be of one shape; found {', '.join(map(str, shapes))}")
    predicted, actual = predicted != 0, actual != 0  # masks of 0 and 255, too
    if valid is not None:
        predicted, actual = predicted[valid != 0], actual[valid != 0]
    tp = int(np.count_nonzero(predicted & actual))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(actual)) - tp
    return Counts(tp, fp, predicted.size - tp - fp - fn, fn)


def precision(counts: Counts) -> float:
    """Share of what was called defective that is (the paper, equation 1).

    0.0 where nothing was called defective, as scikit-learn has it.

    >>> precision(Counts(tp=3, fp=1, tn=0, fn=0)), precision(Counts(tp=0, fp=0, tn=5, fn=5))
    (0.75, 0.0)
    """
    return _share(counts.tp, counts.tp + counts.fp, 0.0)


def recall(counts: Counts) -> float:
    """Share of the defective that was found (the paper, equation 2).

    0.0 where nothing is defective, as scikit-learn has it.

    >>> recall(Counts(tp=1, fp=0, tn=0, fn=3)), recall(Counts(tp=0, fp=0, tn=5, fn=0))
    (0.25, 0.0)
    """
    return _share(counts.tp, counts.tp + counts.fn, 0.0)


def accuracy(counts: Counts) -> float:
    """Share of all decisions that were right (the paper, equation 3); nan of no decision at all.

    High wherever defects are small: a map of nothing has the accuracy of the good pixels' share.

    >>> accuracy(Counts(tp=0, fp=0, tn=99, fn=1))
    0.99
    """
    return _share(counts.tp + counts.tn, counts.tp + counts.fp + counts.tn + counts.fn, np.nan)


def f1(counts: Counts) -> float:
    """Harmonic mean of precision and recall (the paper, equation 4), as 2 tp / (2 tp + fp + fn).

    nan where nothing was to be found and nothing was: a good image judged right has no F1, and must be left out of
    means (scikit-learn counts it as 0.0). 0.0 where something is defective or called so, and nothing is both.

    >>> f1(Counts(tp=2, fp=1, tn=0, fn=1)), f1(Counts(tp=0, fp=3, tn=9, fn=0)), f1(Counts(tp=0, fp=0, tn=9, fn=0))
    (0.66..., 0.0, nan)
    """
    return _share(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, np.nan)


def ok_rate(image_counts: Counts) -> float:
    """Share of the good images that were accepted; nan without good images.

    >>> scores, labels = np.array([0.1, 0.5, 0.9]), np.array([False, False, True])
    >>> ok_rate(count(scores > 0.4, labels))
    0.5
    """
    return _share(image_counts.tn, image_counts.tn + image_counts.fp, np.nan)


def defect_rate(image_counts: Counts) -> float:
    """Share of the defective images that were flagged; nan without defective images.

    >>> scores, labels = np.array([0.1, 0.5, 0.9]), np.array([False, False, True])
    >>> defect_rate(count(scores > 0.4, labels))
    1.0
    """
    return _share(image_counts.tp, image_counts.tp + image_counts.fn, np.nan)


def _share(part: int, total: int, otherwise: float) -> float:
    return part / total if total else float(otherwise)
