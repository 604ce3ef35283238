"""A few synthetic defects on a few good images: what share of them each threshold finds, within seconds."""

import time
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import read_values
from blemish.data.progress import OnStep, counted, tell_nobody
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


def quick_peaks(
    predictor: Predictor,
    photos: Sequence[NDArray[np.generic]],
    max_photo_s: float,
    on_defect: OnStep = tell_nobody,
) -> list[Peaks]:
    """Put defects of all types on good images, and judge all of them; or none, where a photo takes longer than that.

    Never some of them, as many as there is time for: the shares found would then differ with the machine and its load.
    Defects for which a photo has no place are left out.
    """
    values = [read_values(photo, predictor.policy) for photo in photos]
    regions = [own_region(predictor.policy, one) for one in values]
    side = min(values[0].shape[:2])
    trials = plan_trials(tuple(DEFECTS), (CONTRAST,), EACH, (side * SIZES[0], side * SIZES[1]), len(values), seed=0)
    started = time.monotonic()
    twins: dict[int, Prediction] = {trials[0].photo: predictor.predict(values[trials[0].photo])}
    if time.monotonic() - started > max_photo_s:
        return []
    peaks: list[Peaks] = []
    for trial in counted(trials, on_defect):
        if trial.photo not in twins:
            twins[trial.photo] = predictor.predict(values[trial.photo])
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
