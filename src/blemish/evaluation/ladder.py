"""What is found at which price: the share of the defective images found, for each false-alarm rate one may allow.

Thresholds come from the calibration scores in the model file alone; the test images are only counted at them.
"""

from collections.abc import Sequence

from blemish.errors import CalibrationError
from blemish.evaluation.measures import JudgedImage, as_range
from blemish.evaluation.results import Rung
from blemish.inference.artifact import ArtifactHeader
from blemish.stats import images_needed, rate_interval

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)


def climb(
    header: ArtifactHeader, images: Sequence[JudgedImage], confidence: float, rates: Sequence[float] = RATES
) -> list[Rung]:
    """A rung for each rate; one that the calibration images cannot promise has no threshold and no counts.

    As sure as the model's own certificate: on average, or with its confidence. `confidence` is that of the intervals.
    """
    return [_rung(header, images, confidence, rate) for rate in rates]


def _rung(header: ArtifactHeader, images: Sequence[JudgedImage], confidence: float, rate: float) -> Rung:
    card = header.calibration
    needed = None if card.folds else images_needed(rate, card.confidence)
    good, defective = ([image.score for image in images if image.label is label] for label in (False, True))
    try:
        threshold = header.certify(rate, card.confidence).threshold
    except CalibrationError:
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
