"""Whether the promised false-alarm rate was kept on the good test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

from blemish.evaluation.judged import JudgedImage, as_range
from blemish.evaluation.results import FalseAlarms
from blemish.stats import rate_interval
from blemish.stats.intervals import chance_of_flagged


@final
@dataclass(frozen=True)
class Promise:
    """What a threshold stands for, and on the strength of what."""

    max_false_alarm_rate: float
    above: int | None = None
    """Calibration scores above the threshold; None: the rate is promised of this very threshold, or by folds."""
    n: int = 0
    """Calibration scores."""


def realised_rate(
    images: Sequence[JudgedImage], promise: Promise, confidence: float, groups: Mapping[str, str] | None = None
) -> FalseAlarms:
    """The false-alarm rate among good test images, beside the promised one; of groups, where `groups` has theirs.

    The verdict is `kept` when the Clopper-Pearson interval lies below the promise. It is `broken`, for a promise
    of this threshold, when the interval lies above; for one on average, when so many flagged images are too
    improbable (`chance`) even for an unlucky draw of calibration images. In between it is `open`: too few to tell.

    >>> good = [JudgedImage(str(i), "good", False, False, 0.1, 0.5, is_anomalous=i < 5) for i in range(20)]
    >>> realised_rate(good, Promise(0.05), confidence=0.95).verdict
    'broken'
    >>> realised_rate(good, Promise(0.05, above=0, n=19), confidence=0.95).verdict  # 0.0325: rare, though it happens
    'open'
    """
    good = [image for image in images if not image.label]
    flags: dict[str, bool] = {}
    for image in good:
        unit = image.name if groups is None else groups[image.name]
        flags[unit] = flags.get(unit, False) or image.is_anomalous
    flagged, promised = sum(flags.values()), promise.max_false_alarm_rate
    interval = rate_interval(flagged, len(flags), confidence) if good else None
    chance = None
    if promise.above is not None and promise.above < promise.n:  # a threshold below all scores promises nothing
        chance = chance_of_flagged(flagged, len(flags), promise.above, promise.n)
    verdict: Literal["kept", "open", "broken"] = "open"
    if interval is not None and (interval.low > promised if chance is None else chance <= (1 - confidence) / 2):
        verdict = "broken"
    elif interval is not None and interval.high <= promised:
        verdict = "kept"
    return FalseAlarms(
        rate=flagged / len(flags) if good else None,
        interval=as_range(interval),
        flagged=flagged,
        good_images=len(good),
        groups=None if groups is None else len(flags),
        promised=promised,
        chance=chance if good else None,
        verdict=verdict,
    )
