"""How far a number may be trusted: bootstrap over images, and exact intervals of rates."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """Both ends of a confidence interval; (nan, nan) where there is none."""

    low: float
    high: float


def rate_interval(hits: int, trials: int, confidence: float = 0.95) -> Interval:
    """Clopper-Pearson interval of a rate, e.g. `rate_interval(counts.tn, counts.tn + counts.fp)` for the ok-rate."""
    raise NotImplementedError


def bootstrap_images(
    scores: NDArray[np.floating],
    labels: NDArray[np.bool_],
    rng: np.random.Generator,
    threshold: float | None = None,
    repeats: int = 1000,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of the image measures: `auroc`, `average_precision`, and with a threshold `ok_rate`, `defect_rate`,
    `precision`, `recall`, `f1`.

    Images are resampled with replacement, good and defective ones apart (their numbers stay); percentile method.
    """
    raise NotImplementedError
