"""How well numbers order good before defective: AUROC, average precision and the ROC curve."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class RocCurve(NamedTuple):
    """Points from (0, 0) to (1, 1) for drawing; at each, what is `> threshold` counts as defective."""

    false_positive_rate: NDArray[np.float64]  # (n,) ascending
    true_positive_rate: NDArray[np.float64]  # (n,) ascending
    threshold: NDArray[np.float64]  # (n,) descending, the last one -inf


def auroc(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Area under the ROC curve; ties count half; nan where one class is absent."""
    raise NotImplementedError


def average_precision(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Average precision (the sum of precision x recall gained, over distinct scores); nan where one class is absent."""
    raise NotImplementedError


def roc_curve(scores: NDArray[np.floating], labels: NDArray[np.bool_], max_points: int = 500) -> RocCurve:
    """The ROC curve, thinned to the `max_points` points that keep its shape."""
    raise NotImplementedError
