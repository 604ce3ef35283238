"""The measures of an evaluation: one row each, from which results, report, terminal, reference and tests derive."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.results import EvaluateSettings, Values
from blemish.stats import (
    Counts,
    Interval,
    accuracy,
    auroc_interval,
    defect_rate,
    f1,
    ok_rate,
    precision,
    rate_interval,
    recall,
)
from blemish.stats.intervals import mean_interval
from blemish.stats.pixel_levels import Levels
from blemish.stats.ranking import auroc_of_levels, average_precision_of_levels, best_f1_of_levels

FOUND_AND_AUROC = (
    "found counts images above the threshold, which follows from the promise on good images, or is the one you gave, "
    "and not from these defects; the image AUROC is about the order of the scores alone, and is 1 where some threshold "
    "would tell all of these images apart"
)
"""Said where the two stand side by side."""


def falls_short(image: Values) -> bool:
    """Whether clearly fewer images are found than their order would allow.

    >>> falls_short({"auroc": 1.0, "defect_rate": 0.5}), falls_short({"auroc": 0.9, "defect_rate": 0.85})
    (True, False)
    """
    auroc, found = image["auroc"], image["defect_rate"]
    return auroc is not None and found is not None and auroc - found > 0.1


class ImageSet(NamedTuple):
    """What a measure of images is computed from: how many have each score (ascending), and the verdicts."""

    good: NDArray[np.integer]  # (levels,)
    defective: NDArray[np.integer]  # (levels,)
    counts: Counts


class PixelSet(NamedTuple):
    """What a measure of pixels is computed from: amounts at each level of the maps, and counts at the threshold."""

    levels: Levels
    counts: Counts
    aupro_limit: float
    aupimos: NDArray[np.float64] = np.zeros(0)  # (defective images,)
    gains: NDArray[np.float64] = np.zeros(0)  # (defective images,)


@final
@dataclass(frozen=True)
class Measure:
    """One row: `key` is `image.<name>` or `pixel.<name>`, `function` takes an `ImageSet` or a `PixelSet`.

    The function gives nan where it means nothing. `interval`, of the set and a confidence, replaces the bootstrap.
    """

    key: str
    title: str
    explanation: str
    function: Callable[[Any], float]
    interval: Callable[[Any, float], Interval] | None = None

    @property
    def group(self) -> str:
        """`image` or `pixel`."""
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        """The key without its group."""
        return self.key.partition(".")[2]

    def titled(self, settings: EvaluateSettings) -> str:
        """The title, with what it says of the settings.

        >>> MEASURES["pixel.aupro"].titled(EvaluateSettings(aupro_limit=0.05))
        'AUPRO up to 0.05'
        """
        return self.title.format(**settings.model_dump())


def _rate(rate: Callable[[Counts], float], pixels: PixelSet) -> float:
    """Without a defective pixel only the accuracy means anything."""
    return rate(pixels.counts) if pixels.counts.tp + pixels.counts.fn else math.nan


def f2(counts: Counts) -> float:
    """F score in which recall weighs twice as much as precision: 5 tp / (5 tp + 4 fn + fp); nan of nothing.

    van Rijsbergen 1979, beta = 2.

    >>> f2(Counts(tp=2, fp=1, tn=0, fn=1)), f2(Counts(tp=2, fp=4, tn=0, fn=0)), f2(Counts(tp=2, fp=0, tn=0, fn=4))
    (0.66..., 0.71..., 0.38...)
    """
    weighed = 5 * counts.tp + 4 * counts.fn + counts.fp
    return 5 * counts.tp / weighed if weighed else math.nan


def _exact(hits: int, trials: int, confidence: float) -> Interval:
    return rate_interval(hits, trials, confidence) if trials else Interval(math.nan, math.nan)


def threshold_gap(best: float, own: Counts) -> float:
    """How far F1 falls short of the best that any threshold gives; nan without anything defective."""
    return best - f1(own) if own.tp + own.fn else math.nan


def _auroc_interval(images: ImageSet, confidence: float) -> Interval:
    """Newcombe's: of 6 ranked right out of 6 a bootstrap always draws 6 out of 6."""
    counts, area = images.counts, auroc_of_levels(images.good, images.defective)
    return auroc_interval(area, counts.tn + counts.fp, counts.tp + counts.fn, confidence)


_ROWS = (
    Measure(
        "image.auroc",
        "image AUROC",
        "How surely a defective image scores above a good one: the share of such pairs in the right order.",
        lambda images: auroc_of_levels(images.good, images.defective),
        _auroc_interval,
    ),
    Measure(
        "image.ap",
        "image average precision",
        "The share of flagged images that are defective, averaged over all thresholds.",
        lambda images: average_precision_of_levels(images.good, images.defective),
    ),
    Measure(
        "image.ok_rate",
        "good images accepted",
        "Share of the good images that are accepted at the model's threshold.",
        lambda images: ok_rate(images.counts),
        lambda images, confidence: _exact(images.counts.tn, images.counts.tn + images.counts.fp, confidence),
    ),
    Measure(
        "image.defect_rate",
        "defective images found",
        "Share of the defective images that are flagged at the model's threshold.",
        lambda images: defect_rate(images.counts),
        lambda images, confidence: _exact(images.counts.tp, images.counts.tp + images.counts.fn, confidence),
    ),
    Measure(
        "image.f1",
        "image F1",
        "Harmonic mean of precision and recall of images at the model's threshold.",
        lambda images: f1(images.counts) if images.counts.tp + images.counts.fn else math.nan,
    ),
    Measure(
        "image.oracle_f1",
        "best image F1, with hindsight",
        "The best F1 of images that any one threshold gives; how far image F1 falls short of it is the price of not "
        "knowing the defects (the threshold gap).",
        lambda images: best_f1_of_levels(images.good, images.defective)[0],
    ),
    Measure(
        "image.threshold_gap",
        "threshold gap, images",
        "How far image F1 (ClassF1) at the model's threshold falls short of the best with hindsight.",
        lambda images: threshold_gap(best_f1_of_levels(images.good, images.defective)[0], images.counts),
    ),
    Measure(
        "pixel.auroc",
        "pixel AUROC",
        "The same as for images, pixel by pixel; flattering where defects are small.",
        lambda pixels: pixels.levels.auroc(),
    ),
    Measure(
        "pixel.ap",
        "pixel average precision",
        "The same as for images, pixel by pixel; strict where defects are small.",
        lambda pixels: pixels.levels.average_precision(),
    ),
    Measure(
        "pixel.aupro",
        "AUPRO up to {aupro_limit:g}",
        "Share of each defect region that is covered, small regions counting like large ones, averaged over pixel "
        "false-alarm rates up to `aupro_limit` (Bergmann et al. 2019).",
        lambda pixels: pixels.levels.aupro(pixels.aupro_limit),
    ),
    Measure(
        "pixel.aupro_05",
        "AUPRO up to 0.05",
        "The same up to a false-alarm rate of the pixels of 0.05, as MVTec AD 2 and MVTec 3D-AD report it; stricter.",
        lambda pixels: pixels.levels.aupro(0.05),
    ),
    Measure(
        "pixel.aupimo",
        "AUPIMO",
        "Share of defective pixels found while next to no good pixel is flagged, 1 in 100,000 to 1 in 10,000 "
        "(Bertoldo et al. 2024).",
        lambda pixels: pixels.levels.aupimo(),
        lambda pixels, confidence: mean_interval(pixels.aupimos[~np.isnan(pixels.aupimos)], confidence),
    ),
    Measure(
        "pixel.localisation_gain",
        "localisation beyond chance",
        "Pixel AUROC of each defective image with its own mask, less that with up to 16 other images' masks: 0 where "
        "the map only knows where defects usually lie, about 0.5 where it is right and they lie anywhere.",
        lambda pixels: float(pixels.gains.mean()) if pixels.gains.size else math.nan,
        lambda pixels, confidence: mean_interval(pixels.gains, confidence, low=-1.0),
    ),
    Measure(
        "pixel.precision",
        "pixel precision",
        "Share of the pixels called defective that are defective (the paper's equation 1).",
        partial(_rate, precision),
    ),
    Measure(
        "pixel.recall",
        "pixel recall",
        "Share of the defective pixels that were found (equation 2).",
        partial(_rate, recall),
    ),
    Measure(
        "pixel.accuracy",
        "pixel accuracy",
        "Share of all pixels judged correctly (equation 3); high wherever defects are small.",
        lambda pixels: accuracy(pixels.counts),
    ),
    Measure(
        "pixel.f1",
        "pixel F1",
        "Harmonic mean of precision and recall at the model's threshold (equation 4).",
        partial(_rate, f1),
    ),
    Measure(
        "pixel.f2",
        "pixel F2",
        "As F1, but recall counts double: a missed defect costs more than an alarm beside it.",
        partial(_rate, f2),
    ),
    Measure(
        "pixel.oracle_f1",
        "best pixel F1, with hindsight",
        "The best F1 that any one threshold gives; found with the test masks, so out of reach in use.",
        lambda pixels: pixels.levels.oracle_f1(),
    ),
    Measure(
        "pixel.threshold_gap",
        "threshold gap, pixels",
        "How far pixel F1 (SegF1) at the model's threshold falls short of the best with hindsight.",
        lambda pixels: threshold_gap(pixels.levels.oracle_f1(), pixels.counts),
    ),
)
MEASURES = {measure.key: measure for measure in _ROWS}
"""All measures by key, in the order they are told."""
