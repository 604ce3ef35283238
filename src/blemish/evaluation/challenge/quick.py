"""A few synthetic defects on a few good images: what share of them each threshold finds, within seconds."""

import time
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import read_values
from blemish.data.synthetic.defects import DEFECTS
from blemish.errors import DataError
from blemish.evaluation.challenge.trials import own_region, peaks_beside, plan_trials, with_defect
from blemish.inference.predictor import Prediction, Predictor

CONTRAST = 0.2
EACH = 4
SIZES = (1 / 50, 1 / 8)
"""Mean change of a defect's pixels; defects of each type; smallest and largest extent as shares of the shorter side."""


MIN_DEFECTS = 10
"""Of fewer defects no share is worth giving."""


@final
class Peaks(NamedTuple):
    """The highest map value at a synthetic defect, and at the same place without it."""

    at_defect: float
    before: float


def quick_peaks(predictor: Predictor, photos: Sequence[NDArray[np.generic]], budget_s: float) -> list[Peaks]:
    """Put defects of all types on good images in turn, until all are judged or the time is over.

    The types take turns, so that a run that is cut off has seen all alike. Defects for which a photo has no place are
    left out. Where one image takes so long that `MIN_DEFECTS` cannot be judged in time, none is.
    """
    started = time.monotonic()
    values = [read_values(photo, predictor.policy) for photo in photos]
    regions = [own_region(predictor.policy, one) for one in values]
    side = min(values[0].shape[:2])
    trials = plan_trials(tuple(DEFECTS), (CONTRAST,), EACH, (side * SIZES[0], side * SIZES[1]), len(values), seed=0)
    twins: dict[int, Prediction] = {}
    peaks: list[Peaks] = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        if time.monotonic() - started > budget_s:
            break
        if trial.photo not in twins:
            twins[trial.photo] = predictor.predict(values[trial.photo])
        if not peaks and time.monotonic() - started > budget_s / MIN_DEFECTS:
            break
        try:
            image, mask = with_defect(values[trial.photo], regions[trial.photo], trial)
        except DataError:  # no place for it
            continue
        peaks.append(Peaks(*peaks_beside(mask, [predictor.predict(image), twins[trial.photo]])))
    return peaks


def share_found(peaks: Sequence[Peaks], threshold: float) -> float | None:
    """Which share of the defects a threshold finds; those where the good image itself is above it do not count.

    >>> share_found([Peaks(2.0, 0.5), Peaks(0.8, 0.5), Peaks(2.0, 1.5)], threshold=1.0)
    0.5
    """
    counted = [peak.at_defect > threshold for peak in peaks if peak.before <= threshold]
    return sum(counted) / len(counted) if counted else None
