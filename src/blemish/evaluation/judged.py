"""Test images as they were judged, and all measures of them, of each defect type, and of each image.

Every measure appears three times in the results: as `image.auroc` for all test images, as `by_type.<defect
type>.image.auroc` for that type's images and all good ones, and as `intervals.image.auroc` for how far it may be
trusted. What cannot be computed is None, and `notes` says why under the same name.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.measures import MEASURES, ImageSet, Measure, PixelSet
from blemish.evaluation.results import AtThreshold, EvaluateSettings, ImageCount, ImageRow, Range, Section, Values
from blemish.stats import Counts, Interval, PixelScores, accuracy, f1, precision, recall
from blemish.stats.intervals import percentile_intervals, resample

THRESHOLDS = ("calibrated", "paper_tau", "oracle_f1")
"""Where pixels are counted: at the model's threshold, at the paper's, and at the best one with hindsight."""


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
        each = (np.array(list(found.values())) for found in (pixels.aupimo_each(), pixels.localisation_gains()))
        every_pixel = PixelSet(pixels.levels, pixels.counts_at(threshold), settings.aupro_limit, *each)
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
