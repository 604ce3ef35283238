"""What is found at which price: the share of the defective images found, for each false-alarm rate one may allow.

Thresholds come from the calibration scores in the model file alone; the test images are only counted at them.
"""

from collections.abc import Sequence

from blemish.evaluation.measures import JudgedImage, as_range
from blemish.evaluation.results import Rung
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.ladder import RATES, threshold_ladder
from blemish.inference.ladder import Rung as Step
from blemish.stats import rate_interval


def climb(
    header: ArtifactHeader, images: Sequence[JudgedImage], confidence: float, rates: Sequence[float] = RATES
) -> list[Rung]:
    """A rung for each rate; one that the calibration images cannot promise has no threshold and no counts.

    As sure as the model's own certificate: on average, or with its confidence. `confidence` is that of the intervals.
    """
    return [_rung(step, images, confidence) for step in threshold_ladder(header, rates) if step.rate in rates]


def _rung(step: Step, images: Sequence[JudgedImage], confidence: float) -> Rung:
    rate, needed, threshold = step.rate, step.images_needed, step.threshold
    good, defective = ([image.score for image in images if image.label is label] for label in (False, True))
    if threshold is None:
        return Rung(max_false_alarm_rate=rate, needed=needed, good=len(good), defective=len(defective))
    found, flagged = (sum(score > threshold for score in scores) for scores in (defective, good))
    return Rung(
        max_false_alarm_rate=rate,
        needed=needed,
        threshold=threshold,
        defective=len(defective),
        found=found,
        interval=as_range(rate_interval(found, len(defective), confidence)) if defective else None,
        good=len(good),
        flagged=flagged,
    )
