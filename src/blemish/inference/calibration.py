"""What the scores of good images make of a model: its threshold, its promise, its p-values."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from blemish.errors import CalibrationError, SettingsError
from blemish.settings import Settings
from blemish.stats.conformal import Certificate, certify, p_value, smallest_rate, worst_of_groups
from blemish.stats.conformal_folds import certify_cross, smallest_cross_rate, smallest_score_p_value
from blemish.stats.false_discovery import any_dependence, largest_selected

Scores = Sequence[float]

DEFAULT_RATE = 0.05
"""Promised where no false-alarm rate is asked for and there are good images enough.

The smallest rate that many good images could promise would leave the threshold to the highest of their scores.
"""


@final
class CalibrationCard(Settings):
    """Whose scores the calibration scores of a model are, and how sure its promise is."""

    confidence: float | None = None
    """How surely this very threshold keeps the rate; None: it is kept on average."""
    images: int | None = None
    """Good images behind the scores; None: one for each score."""
    by_group: bool = False
    """Each score is the largest of a group of images; the promise is made for groups."""
    group_pattern: str | None = None
    """Tells the group of an image from its name, as `data.groups` does; None: a file told it."""
    group_names: tuple[str, ...] = ()
    """The groups themselves, in the order of their names: none counts twice."""
    folds: tuple[int, ...] = ()
    """The fold that each score was left out with; empty: all were held out once and for all."""
    origin: Literal["training", "certify"] = "training"
    """certify: some of the images are not among those trained with."""
    margin: float = 0.0
    """How much the scores were raised, because an exported model may score that much higher elsewhere."""
    image_ids: tuple[str, ...] = ()
    """See `file_id` in data/folder.py."""
    pixel_ids: tuple[str, ...] = ()
    """The same images by their pixels: see `pixels_id` in data/pixels.py."""
    earlier_ids: tuple[str, ...] = ()
    """Both, of images of certificates that this one replaced: they cannot lift a withdrawal either."""
    photo_values: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """How bright, rich in contrast and sharp the good images are; see data/photo_values.py."""

    @property
    def known_ids(self) -> tuple[str, ...]:
        """The images behind the scores, by their files and by their pixels."""
        return (*self.image_ids, *self.pixel_ids)


@final
class Calibrated(NamedTuple):
    """What is kept of the scores of good images, and what is promised on their strength."""

    calibration_scores: tuple[float, ...]
    max_false_alarm_rate: float
    threshold: float
    calibration: CalibrationCard


def calibrate(
    scores: Scores,
    max_false_alarm_rate: float | None,
    confidence: float | None = None,
    groups: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
) -> Calibrated:
    """The certificate that the scores of good images allow; without a rate, for the one of `default_rate`.

    `groups` has the group of each image, which then counts with its largest score alone. `folds` has the fold each
    image was left out with, a group's images all with the same one.

    Raises:
        CalibrationError: the scores are too few.
        SettingsError: a rate or a confidence outside (0, 1), or a confidence where there are folds.

    >>> found = calibrate([0.1, 0.4, 0.2], None)
    >>> found.max_false_alarm_rate, found.threshold
    (0.25, 0.4)
    >>> calibrate([0.1, 0.4, 0.2], None, groups=["a", "a", "b"]).calibration_scores
    (0.2, 0.4)
    """
    kept, kept_folds = np.asarray(scores, dtype=np.float64), np.asarray(folds or (), dtype=np.int64)
    if groups is not None:
        kept = worst_of_groups(scores, groups)
        first = np.unique(np.asarray(groups), return_index=True)[1]  # in the order of `worst_of_groups`
        kept_folds = kept_folds[first] if folds else kept_folds
    order = np.argsort(kept, kind="stable")
    card = CalibrationCard(
        confidence=confidence,
        images=len(scores),
        by_group=groups is not None,
        folds=tuple(kept_folds[order].tolist()) if folds else (),
    )
    return calibrate_kept(kept[order].tolist(), max_false_alarm_rate, card)


def calibrate_kept(scores: Scores, max_false_alarm_rate: float | None, card: CalibrationCard) -> Calibrated:
    """The certificate from scores that are kept already, ascending: one for each image, or for each group.

    Raises:
        CalibrationError, SettingsError: as `calibrate`.
    """
    rate = default_rate(scores, card) if max_false_alarm_rate is None else max_false_alarm_rate
    return Calibrated(tuple(scores), rate, promise(scores, card, rate, card.confidence).threshold, card)


def promise(scores: Scores, card: CalibrationCard, rate: float, confidence: float | None = None) -> Certificate:
    """The certificate for another rate or confidence, from scores that were kept.

    Raises:
        CalibrationError: they are too few.
        SettingsError: a rate or a confidence outside (0, 1), or a confidence where there are folds.
    """
    if card.folds:
        refuse_confidence(confidence)
        found = certify_cross(scores, card.folds, rate)
    else:
        groups = np.arange(len(scores)) if card.by_group else None
        found = certify(scores, rate, confidence=confidence, groups=groups)
    return replace(found, n=card.images or len(scores), groups=len(scores) if card.by_group else None)


def refuse_confidence(confidence: float | None) -> None:
    """Folds know no promise but the one on average."""
    if confidence is not None:
        raise SettingsError(
            f"score.confidence: found {confidence:g} with folds (score.calibration=cross), which can promise a rate on "
            "average only; hold images out once and for all (held_out), or leave the confidence away"
        )


def default_rate(scores: Scores, card: CalibrationCard) -> float:
    """`DEFAULT_RATE`, or the smallest rate that these scores can promise where they are too few for it.

    >>> default_rate([0.0] * 100, CalibrationCard()), default_rate([0.0] * 9, CalibrationCard())
    (0.05, 0.1)
    """
    return max(DEFAULT_RATE, smallest_promise(scores, card))


def smallest_promise(scores: Scores, card: CalibrationCard) -> float:
    """The smallest rate these scores can promise, as surely as the card says."""
    refuse_confidence(card.confidence if card.folds else None)
    return smallest_cross_rate(card.folds) if card.folds else smallest_rate(len(scores), card.confidence)


def score_p_value(scores: Scores | NDArray[np.float64], card: CalibrationCard, score: float) -> float:
    """How unusual a score is among good ones; at most alpha exactly when it exceeds the threshold for alpha."""
    return smallest_score_p_value(scores, card.folds, score) if card.folds else p_value(scores, score)


def batch_threshold(
    calibration_scores: Scores, card: CalibrationCard, scores: Scores, max_false_discovery_rate: float
) -> float:
    """The threshold that selects from a batch: of the images above it, the expected share of good ones is limited.

    Benjamini & Hochberg's selection where images are independent; Benjamini & Yekutieli's, for any dependence, where
    the images of a group or the detectors of folds bind the p-values together.

    Raises:
        CalibrationError: the calibration images are too few to select anything, were all of the batch defective.
        SettingsError: a rate outside (0, 1).

    >>> batch_threshold(range(99), CalibrationCard(), [50.0, 200.0, 300.0], 0.1)  # both p-values are 0.01
    98.0
    """
    p_values = Counter(score_p_value(calibration_scores, card, score) for score in scores)
    part = BatchPart(calibration_scores, card, p_values, max(scores, default=0.0))
    return batch_thresholds([part], max_false_discovery_rate)[0]


@final
class BatchPart(NamedTuple):
    """What one model said of its images in a batch."""

    calibration_scores: Scores
    card: CalibrationCard
    p_values: Mapping[float, int]
    """How many images have each."""
    highest: float
    """Of the scores."""


def batch_thresholds(parts: Sequence[BatchPart], max_false_discovery_rate: float) -> list[float]:
    """The threshold of each model, as `batch_threshold`, where several have judged one batch.

    Raises:
        CalibrationError, SettingsError: as `batch_threshold`.
    """
    counts = sum((Counter(part.p_values) for part in parts), Counter[float]())
    n = counts.total()
    rate = min(_shared_rate(part.card, n, max_false_discovery_rate) for part in parts)
    cutoff = largest_selected(list(counts), list(counts.values()), rate)
    smallest = min(score_p_value(part.calibration_scores, part.card, float("inf")) for part in parts)
    if n and smallest * (1 - 1e-12) > rate:
        raise CalibrationError(
            f"--fdr {max_false_discovery_rate:g}: no p-value is smaller than {smallest:.3g} with the good images the "
            "model was calibrated on, so nothing could ever be selected; calibrate it on more, or ask for a larger "
            "rate"
        )
    return [_threshold_at(part, cutoff) for part in parts]


def _threshold_at(part: BatchPart, cutoff: float) -> float:
    """The threshold that images with a p-value up to `cutoff` exceed, and no others."""
    if not any(p_value <= cutoff for p_value in part.p_values):
        return max([part.highest, *part.calibration_scores])
    return promise(part.calibration_scores, part.card, cutoff).threshold


def fewest_selected(calibration_scores: Scores, card: CalibrationCard, n: int, max_false_discovery_rate: float) -> int:
    """How many of n images must stand out for any to be selected: p-values cannot be smaller than they are.

    >>> fewest_selected(range(99), CalibrationCard(), 50, 0.1)
    5
    """
    smallest = score_p_value(calibration_scores, card, float("inf"))
    return math.ceil(n * smallest / _shared_rate(card, n, max_false_discovery_rate) * (1 - 1e-12))


def _shared_rate(card: CalibrationCard, n: int, max_false_discovery_rate: float) -> float:
    is_bound = (card.by_group or bool(card.folds)) and n > 0
    return any_dependence(max_false_discovery_rate, n) if is_bound else max_false_discovery_rate
