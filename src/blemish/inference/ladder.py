"""What each of a few false-alarm rates would take and give: the threshold, and how many good images."""

from dataclasses import dataclass
from typing import final

from blemish.errors import CalibrationError
from blemish.inference.artifact import ArtifactHeader
from blemish.stats.conformal import images_needed

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""The rungs, beside the model's own rate."""


@final
@dataclass(frozen=True)
class Rung:
    """One false-alarm rate. `threshold` is None where the good images are too few to promise it."""

    rate: float
    threshold: float | None
    images_needed: int | None
    """Held-out good images, or groups, that the promise takes at the least; None with folds, which follow another law.
    """
    is_chosen: bool
    """Whether it is the rate of the model file."""


def threshold_ladder(header: ArtifactHeader) -> tuple[Rung, ...]:
    """The rungs of a model at usual rates and its own, the lowest first; thresholds never rise from one to the next.

    With the confidence that the model was calibrated with, on average where there is none.
    """
    confidence = header.calibration.confidence
    rungs = []
    for rate in sorted({*RATES, header.max_false_alarm_rate}):
        needed = None if header.calibration.folds else images_needed(rate, confidence)
        rungs.append(Rung(rate, _threshold(header, rate), needed, rate == header.max_false_alarm_rate))
    return tuple(rungs)


def _threshold(header: ArtifactHeader, rate: float) -> float | None:
    if rate == header.max_false_alarm_rate:
        return header.threshold
    try:
        return header.certify(rate, header.calibration.confidence).threshold
    except CalibrationError:
        return None
