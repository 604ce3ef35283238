"""What is found at which price: the share of the defective images found, for each false-alarm rate one may allow.

Thresholds come from the calibration scores in the model file alone; the test images are only counted at them.
"""

import math
from collections.abc import Sequence

from blemish.evaluation.judged import JudgedImage, as_range
from blemish.evaluation.results import Rung
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.ladder import threshold_ladder
from blemish.stats import rate_interval


def climb(header: ArtifactHeader, images: Sequence[JudgedImage], confidence: float) -> list[Rung]:
    """A rung for each rate of `threshold_ladder`; one without a threshold has no counts.

    `confidence` is that of the intervals.
    """
    good, defective = ([image.score for image in images if image.label is label] for label in (False, True))
    rungs = []
    for step in threshold_ladder(header):
        rung = Rung(
            max_false_alarm_rate=step.rate,
            is_chosen=step.is_chosen,
            needed=step.images_needed,
            threshold=step.threshold,
            defective=len(defective),
            good=len(good),
        )
        if (threshold := step.threshold) is not None:
            found, flagged = (sum(score > threshold for score in scores) for scores in (defective, good))
            interval = as_range(rate_interval(found, len(defective), confidence)) if defective else None
            rung = rung.model_copy(update={"found": found, "flagged": flagged, "interval": interval})
        rungs.append(rung)
    return rungs


def is_on_ladder(threshold: float, ladder: Sequence[Rung]) -> bool:
    """Whether a threshold is that of the rate which the model promises, and not one asked for.

    An exported model has a slightly higher one.

    >>> ladder = [Rung(max_false_alarm_rate=0.05, is_chosen=True, needed=19, threshold=2.0, defective=0, good=0)]
    >>> is_on_ladder(2.00001, ladder), is_on_ladder(9.0, ladder)
    (True, False)
    """
    chosen = (rung.threshold for rung in ladder if rung.is_chosen and rung.threshold is not None)
    return any(math.isclose(threshold, one, rel_tol=1e-3) for one in chosen)
