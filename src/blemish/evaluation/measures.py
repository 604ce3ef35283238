"""The measures of an evaluation: one row each, from which results, report, terminal, reference page and tests derive.

Every measure appears three times in the results: as `image.auroc` for all test images, as `by_type.<defect
type>.image.auroc` for that type's images and all good ones, and as `intervals.image.auroc` for how far it may be
trusted. What cannot be computed is None, and `notes` says why under the same name.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.results import AtThreshold, EvaluateSettings, ImageCount, ImageRow, Range, Section, Values
from blemish.stats import (
    Counts,
    Interval,
    PixelScores,
    accuracy,
    auroc_interval,
    defect_rate,
    f1,
    ok_rate,
    precision,
    rate_interval,
    recall,
)
from blemish.stats.intervals import percentile_intervals, resample
from blemish.stats.pixel_levels import Levels
from blemish.stats.ranking import auroc_of_levels, average_precision_of_levels, best_f1_of_levels

THRESHOLDS = ("calibrated", "paper_tau", "oracle_f1")
"""Where pixels are counted: at the model's threshold, at the paper's, and at the best one with hindsight."""


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
        "The best F1 of images that any one threshold gives; what image F1 lacks to it is the price of not knowing the "
        "defects (the threshold gap).",
        lambda images: best_f1_of_levels(images.good, images.defective)[0],
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
    ),
    Measure(
        "pixel.precision",
        "pixel precision",
        "Share of the pixels called defective that are (the paper's equation 1).",
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
        "Share of all pixels called right (equation 3); high wherever defects are small.",
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
)
MEASURES = {measure.key: measure for measure in _ROWS}
"""All measures by key, in the order they are told."""


class RegionHit(NamedTuple):
    """A defect region of one image: the root of its area over the image's shorter side, and the share found of it."""

    size: float
    covered: float


@final
@dataclass(frozen=True)
class JudgedImage:
    """One test image and what the model said of it. `has_mask` means that some defective pixel of it is known.

    `peak_on_defect`: the highest pixel of the map is a defective one, or beside one; None without a mask.
    """

    name: str
    defect_type: str
    label: bool
    has_mask: bool
    score: float
    p_value: float
    is_anomalous: bool
    peak_on_defect: bool | None = None
    regions: tuple[RegionHit, ...] = ()


def measure(
    images: Sequence[JudgedImage], pixels: PixelScores, threshold: float, settings: EvaluateSettings
) -> tuple[Section, dict[str, Section]]:
    """All measures of all images, and the same by defect type."""
    tau = {image.name: settings.tau(image.defect_type) for image in images}
    overall = _section(images, pixels, threshold, tau, settings)
    by_type = {}
    for defect_type in sorted({image.defect_type for image in images if image.label}):
        some = [image for image in images if image.defect_type == defect_type or not image.label]
        tau = {image.name: settings.tau(defect_type) for image in some}
        by_type[defect_type] = _section(some, pixels.subset(tau.keys() & set(pixels.names)), threshold, tau, settings)
    return overall, by_type


def plain_name(name: str) -> str:
    r"""A file name that any text file can hold: what cannot be printed is written out.

    >>> plain_name("a\n\udcff.png")
    'a\\n\\udcff.png'
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def _section(
    images: Sequence[JudgedImage],
    pixels: PixelScores,
    threshold: float,
    tau: Mapping[str, float],
    settings: EvaluateSettings,
) -> Section:
    """The measures of some of the images, with their intervals; `tau` by the images' names."""
    rng = np.random.default_rng(settings.seed)
    scores, labels = np.array([image.score for image in images]), np.array([image.label for image in images])
    flagged = np.array([image.is_anomalous for image in images])
    _, level = np.unique(scores, return_inverse=True)

    def image_set(times: NDArray[np.int64]) -> ImageSet:
        """Each image as often as it was drawn."""
        good, defective = (np.bincount(level, weights=times * kind) for kind in (~labels, labels))
        kinds = ((flagged, labels), (flagged, ~labels), (~flagged, ~labels), (~flagged, labels))
        return ImageSet(good, defective, Counts(*(int(times[one & other].sum()) for one, other in kinds)))

    every_image = image_set(np.ones(len(images), np.int64))
    drawn = (image_set(times) for times in resample(labels, settings.repeats, rng))
    image_intervals = _intervals("image", every_image, drawn, settings.confidence)
    pixel_values: Values = dict.fromkeys(each.name for each in _of_group("pixel"))
    pixel_intervals: dict[str, Range | None] = dict.fromkeys(pixel_values)
    if pixels.names:
        every_pixel = PixelSet(pixels.levels, pixels.counts_at(threshold), settings.aupro_limit)
        pixel_values = _values("pixel", every_pixel)
        sets = (PixelSet(*one, settings.aupro_limit) for one in pixels.resampled(rng, threshold, settings.repeats))
        pixel_intervals = _intervals("pixel", every_pixel, sets, settings.confidence)
    return Section(
        count=_count(images),
        image=_values("image", every_image),
        pixel=pixel_values,
        at_threshold=_at_thresholds(pixels, threshold, tau),
        intervals={"image": image_intervals, "pixel": pixel_intervals},
    )


def _of_group(group: str) -> list[Measure]:
    return [measure for measure in MEASURES.values() if measure.group == group]


def _values(group: str, found: ImageSet | PixelSet) -> Values:
    return {measure.name: as_number(measure.function(found)) for measure in _of_group(group)}


def _intervals(
    group: str, found: ImageSet | PixelSet, drawn: Iterable[ImageSet | PixelSet], confidence: float
) -> dict[str, Range | None]:
    """A measure's own interval, or the middle of its values over resampled images, good and defective ones apart."""
    rows = _of_group(group)
    free = [measure for measure in rows if measure.interval is None]
    boot = percentile_intervals([{each.name: each.function(one) for each in free} for one in drawn], confidence)
    return {
        each.name: as_range(each.interval(found, confidence) if each.interval else boot[each.name]) for each in rows
    }


def _count(images: Sequence[JudgedImage]) -> ImageCount:
    defective = [image for image in images if image.label]
    return ImageCount(
        images=len(images),
        good=len(images) - len(defective),
        defective=len(defective),
        with_mask=sum(image.has_mask for image in defective),
        flagged_good=sum(image.is_anomalous and not image.label for image in images),
        flagged_defective=sum(image.is_anomalous for image in defective),
    )


def _at_thresholds(pixels: PixelScores, threshold: float, tau: Mapping[str, float]) -> dict[str, AtThreshold]:
    best, oracle_threshold = pixels.oracle_f1() if pixels.names else (math.nan, math.nan)
    usual_tau = Counter(tau.values()).most_common(1)[0][0]
    return {
        "calibrated": _at(threshold, pixels.counts_at(threshold) if pixels.names else None),
        "paper_tau": _at(usual_tau, _mixed_counts(pixels, tau)),
        "oracle_f1": _at(as_number(oracle_threshold), None if math.isnan(best) else pixels.counts_at(oracle_threshold)),
    }


def _mixed_counts(pixels: PixelScores, tau: Mapping[str, float]) -> Counts | None:
    """Pixels counted at a threshold of each image's own."""
    if not pixels.names:
        return None
    each = {level: pixels.counts_each(level) for level in set(tau.values())}
    return sum((each[tau[name]][name] for name in pixels.names), start=Counts(0, 0, 0, 0))


def _at(threshold: float | None, counts: Counts | None) -> AtThreshold:
    if counts is None:
        return AtThreshold(threshold=threshold)
    rates = {each.__name__: each(counts) for each in (precision, recall, f1)} if counts.tp + counts.fn else {}
    return AtThreshold(threshold=threshold, counts=counts, accuracy=as_number(accuracy(counts)), **rates)


def image_rows(
    images: Sequence[JudgedImage], pixels: PixelScores, found: Section, settings: EvaluateSettings
) -> list[ImageRow]:
    """Each image with its own counts at the three thresholds."""
    threshold, oracle_threshold = (found.at_threshold[name].threshold for name in ("calibrated", "oracle_f1"))
    levels = {threshold, oracle_threshold, *(settings.tau(image.defect_type) for image in images)} - {None}
    each = {level: pixels.counts_each(level) if pixels.names else {} for level in levels if level is not None}
    rows = []
    for image in images:
        used = zip(THRESHOLDS, (threshold, settings.tau(image.defect_type), oracle_threshold), strict=True)
        counts = {name: each[level].get(image.name) if level is not None else None for name, level in used}
        rows.append(
            ImageRow(
                path=image.name,
                defect_type=image.defect_type,
                score=image.score,
                p_value=image.p_value,
                is_anomalous=image.is_anomalous,
                counts=counts,
                f1={name: None if part is None or not part.tp + part.fn else f1(part) for name, part in counts.items()},
            )
        )
    return rows


def as_number(value: float) -> float | None:
    """None for nan."""
    return None if math.isnan(value) else float(value)


def as_range(interval: Interval | None) -> Range | None:
    """Both ends of an interval; None where there is none."""
    if interval is None or math.isnan(interval.low) or math.isnan(interval.high):
        return None
    return float(interval.low), float(interval.high)
