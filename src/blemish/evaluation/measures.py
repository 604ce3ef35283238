"""What an evaluation found, as one nested dict of plain values: the content of `results.json`.

Every measure appears three times: as `image.auroc` for all test images, as `by_type.<defect type>.image.auroc` for that
type's images and all good ones, and as `intervals.image.auroc` for how far it may be trusted. What cannot be computed
is None, and `notes` says why under the same name.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, final

import numpy as np
from pydantic import Field

from blemish.settings import Settings, Share
from blemish.stats import (
    Counts,
    Interval,
    PixelScores,
    accuracy,
    auroc,
    auroc_interval,
    average_precision,
    bootstrap_images,
    count,
    defect_rate,
    f1,
    ok_rate,
    precision,
    rate_interval,
    recall,
)
from blemish.stats.intervals import chance_of_flagged

Nested = dict[str, Any]

IMAGE_MEASURES = ("auroc", "ap", "ok_rate", "defect_rate")
PIXEL_MEASURES = ("auroc", "ap", "aupro", "aupimo", "precision", "recall", "accuracy", "f1", "oracle_f1")
THRESHOLDS = ("calibrated", "paper_tau", "oracle_f1")
"""Where pixels are counted: at the model's threshold, at the paper's, and at the best one with hindsight."""

_LONG = {"ap": "average_precision"}


@final
class EvaluateSettings(Settings):
    """How a model is judged."""

    paper_tau: Annotated[float, Field(ge=0.0)] = Field(0.2, description="The threshold of the paper.")
    paper_tau_by_type: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        {"hole": 0.25}, description="Defect types for which the paper takes another one."
    )
    max_fpr: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.3, description="Where AUPRO ends.")
    repeats: Annotated[int, Field(ge=10)] = Field(1000, description="Bootstrap samples an interval is made from.")
    confidence: Share = Field(0.95, description="How sure the intervals are.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Makes the intervals repeatable.")
    skip_bad: bool = Field(False, description="Leave out unreadable images, and list them, instead of stopping.")
    panels_per_type: Annotated[int, Field(ge=0, le=20)] = Field(2, description="Panels a defect type in the report.")
    worst: Annotated[int, Field(ge=0, le=50)] = Field(6, description="Misses and false alarms in the report.")

    def tau(self, defect_type: str) -> float:
        """The paper's threshold for a defect type (sections 5.3 to 5.6).

        >>> EvaluateSettings().tau("hole"), EvaluateSettings().tau("crack")
        (0.25, 0.2)
        """
        return self.paper_tau_by_type.get(defect_type, self.paper_tau)


@final
@dataclass(frozen=True)
class JudgedImage:
    """One test image and what the model said of it. `has_mask` means that some defective pixel of it is known."""

    name: str
    defect_type: str
    label: bool
    has_mask: bool
    score: float
    p_value: float
    is_anomalous: bool


def measure(images: Sequence[JudgedImage], pixels: PixelScores, threshold: float, settings: EvaluateSettings) -> Nested:
    """All measures: `image`, `pixel`, `at_threshold`, `intervals`, `by_type`, the list `images`, and `notes`."""
    tau = {image.name: settings.tau(image.defect_type) for image in images}
    overall = _section(images, pixels, threshold, tau, settings)
    by_type = {}
    for defect_type in sorted({image.defect_type for image in images if image.label}):
        some = [image for image in images if image.defect_type == defect_type or not image.label]
        tau = {image.name: settings.tau(defect_type) for image in some}
        by_type[defect_type] = _section(some, pixels.subset(tau.keys() & set(pixels.names)), threshold, tau, settings)
    oracle = overall["at_threshold"]["oracle_f1"]["threshold"]
    results = {**overall, "by_type": by_type, "images": _rows(images, pixels, threshold, oracle, settings)}
    results["notes"] = missing_notes(results)
    return results


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
) -> Nested:
    """The measures of some of the images, with their intervals; `tau` by the images' names."""
    best, oracle_threshold = pixels.oracle_f1() if pixels.names else (math.nan, math.nan)
    usual_tau = Counter(tau.values()).most_common(1)[0][0]
    at_threshold = {
        "calibrated": _at(threshold, pixels.counts_at(threshold) if pixels.names else None),
        "paper_tau": _at(usual_tau, _mixed_counts(pixels, tau)),
        "oracle_f1": _at(_number(oracle_threshold), None if math.isnan(best) else pixels.counts_at(oracle_threshold)),
    }
    here = at_threshold["calibrated"]
    rng = np.random.default_rng(settings.seed)
    return {
        "count": _count(images),
        "image": _image_measures(images),
        "pixel": {
            **_pixel_areas(pixels, settings),
            **{name: here[name] for name in ("precision", "recall", "accuracy", "f1")},
            "oracle_f1": _number(best),
        },
        "at_threshold": at_threshold,
        "intervals": {
            "image": _image_intervals(images, threshold, rng, settings),
            "pixel": _pixel_intervals(pixels, threshold, rng, settings),
        },
    }


def _count(images: Sequence[JudgedImage]) -> Nested:
    defective = [image for image in images if image.label]
    return {
        "images": len(images),
        "good": len(images) - len(defective),
        "defective": len(defective),
        "with_mask": sum(image.has_mask for image in defective),
        "flagged_good": sum(image.is_anomalous and not image.label for image in images),
        "flagged_defective": sum(image.is_anomalous for image in defective),
    }


def _image_measures(images: Sequence[JudgedImage]) -> Nested:
    scores, labels = np.array([image.score for image in images]), np.array([image.label for image in images])
    counts = count(np.array([image.is_anomalous for image in images]), labels)
    return {
        "auroc": _number(auroc(scores, labels)),
        "ap": _number(average_precision(scores, labels)),
        "ok_rate": _number(ok_rate(counts)),
        "defect_rate": _number(defect_rate(counts)),
    }


def _image_intervals(
    images: Sequence[JudgedImage], threshold: float, rng: np.random.Generator, settings: EvaluateSettings
) -> Nested:
    """A bootstrap interval of the average precision alone: of 6 ranked right out of 6 it always draws 6 out of 6."""
    scores, labels = np.array([image.score for image in images]), np.array([image.label for image in images])
    found = bootstrap_images(scores, labels, rng, threshold, settings.repeats, settings.confidence)
    total = _count(images)
    rates = {
        "ok_rate": (total["good"] - total["flagged_good"], total["good"]),
        "defect_rate": (total["flagged_defective"], total["defective"]),
    }
    better: dict[str, Interval | None] = {
        name: rate_interval(hits, trials, settings.confidence) if trials else None
        for name, (hits, trials) in rates.items()
    }
    better["auroc"] = auroc_interval(auroc(scores, labels), total["good"], total["defective"], settings.confidence)
    return {name: pair(better[name] if name in better else found[_LONG.get(name, name)]) for name in IMAGE_MEASURES}


def _pixel_areas(pixels: PixelScores, settings: EvaluateSettings) -> Nested:
    if not pixels.names:
        return dict.fromkeys(("auroc", "ap", "aupro", "aupimo"))
    return {
        "auroc": _number(pixels.auroc()),
        "ap": _number(pixels.average_precision()),
        "aupro": _number(pixels.aupro(settings.max_fpr)),
        "aupimo": _number(pixels.aupimo()),
    }


def _pixel_intervals(
    pixels: PixelScores, threshold: float, rng: np.random.Generator, settings: EvaluateSettings
) -> Nested:
    if not pixels.names:
        return dict.fromkeys(PIXEL_MEASURES)
    found = pixels.bootstrap(rng, threshold, settings.repeats, settings.confidence, settings.max_fpr)
    return {name: pair(found[_LONG.get(name, name)]) for name in PIXEL_MEASURES}


def _mixed_counts(pixels: PixelScores, tau: Mapping[str, float]) -> Counts | None:
    """Pixels counted at a threshold of each image's own."""
    if not pixels.names:
        return None
    each = {level: pixels.counts_each(level) for level in set(tau.values())}
    return sum((each[tau[name]][name] for name in pixels.names), start=Counts(0, 0, 0, 0))


def _at(threshold: float | None, counts: Counts | None) -> Nested:
    """Equations 1 to 4 of the paper; without defective pixels only the accuracy means anything."""
    if counts is None:
        return {"threshold": threshold, "counts": None} | dict.fromkeys(("precision", "recall", "accuracy", "f1"))
    has_defects = counts.tp + counts.fn > 0
    return {
        "threshold": threshold,
        "counts": _counts(counts),
        "precision": precision(counts) if has_defects else None,
        "recall": recall(counts) if has_defects else None,
        "accuracy": _number(accuracy(counts)),
        "f1": f1(counts) if has_defects else None,
    }


def _rows(
    images: Sequence[JudgedImage],
    pixels: PixelScores,
    threshold: float,
    oracle_threshold: float | None,
    settings: EvaluateSettings,
) -> list[Nested]:
    levels = {threshold, *(settings.tau(image.defect_type) for image in images)}
    levels |= {oracle_threshold} if oracle_threshold is not None else set()
    each = {level: pixels.counts_each(level) if pixels.names else {} for level in levels}
    rows = []
    for image in images:
        used = zip(THRESHOLDS, (threshold, settings.tau(image.defect_type), oracle_threshold), strict=True)
        found = {name: each[level].get(image.name) if level is not None else None for name, level in used}
        rows.append(
            {
                "path": image.name,
                "defect_type": image.defect_type,
                "score": image.score,
                "p_value": image.p_value,
                "is_anomalous": image.is_anomalous,
                "counts": {name: counts and _counts(counts) for name, counts in found.items()},
                "f1": {name: _image_f1(counts) for name, counts in found.items()},
            }
        )
    return rows


def _image_f1(counts: Counts | None) -> float | None:
    return None if counts is None or counts.tp + counts.fn == 0 else f1(counts)


def _counts(counts: Counts) -> dict[str, int]:
    return {"tp": counts.tp, "fp": counts.fp, "tn": counts.tn, "fn": counts.fn}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def pair(interval: Interval | None) -> list[float] | None:
    """Both ends of an interval; None where there is none."""
    if interval is None or math.isnan(interval.low) or math.isnan(interval.high):
        return None
    return [float(interval.low), float(interval.high)]


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
) -> Nested:
    """The false-alarm rate among good test images, beside the promised one; of groups, where `groups` has theirs.

    The verdict is `kept` when the Clopper-Pearson interval lies wholly below the promise. It is `broken`, for a promise
    of this very threshold, when the interval lies wholly above; for one on average, when so many flagged images are too
    improbable (`chance`) even for an unlucky draw of calibration images. In between it is `open`: too few to tell.

    >>> good = [JudgedImage(str(i), "good", False, False, 0.1, 0.5, is_anomalous=i < 5) for i in range(20)]
    >>> realised_rate(good, Promise(0.05), confidence=0.95)["verdict"]
    'broken'
    >>> realised_rate(good, Promise(0.05, above=0, n=19), confidence=0.95)["verdict"]  # 0.0325: rare, though it happens
    'open'
    """
    good = [image for image in images if not image.label]
    flags: dict[str, bool] = {}
    for image in good:
        unit = image.name if groups is None else groups[image.name]
        flags[unit] = flags.get(unit, False) or image.is_anomalous
    flagged, promised = sum(flags.values()), promise.max_false_alarm_rate
    interval = rate_interval(flagged, len(flags), confidence) if good else None
    chance = None if promise.above is None else chance_of_flagged(flagged, len(flags), promise.above, promise.n)
    verdict = "open"
    if interval is not None and (interval.low > promised if chance is None else chance <= (1 - confidence) / 2):
        verdict = "broken"
    elif interval is not None and interval.high <= promised:
        verdict = "kept"
    return {
        "rate": flagged / len(flags) if good else None,
        "interval": pair(interval),
        "flagged": flagged,
        "good_images": len(good),
        "groups": None if groups is None else len(flags),
        "promised": promised,
        "chance": chance if good else None,
        "verdict": verdict,
    }


_GROUPS = ("image", "pixel", "at_threshold", "intervals")


def missing_notes(results: Mapping[str, Any]) -> dict[str, str]:
    """A sentence for each None among the measures, by its name.

    >>> count = {"good": 0, "defective": 5, "with_mask": 5}
    >>> empty = dict.fromkeys(("pixel", "at_threshold", "intervals"), {})
    >>> missing_notes({"count": count, "image": {"ok_rate": None}, "by_type": {}, **empty})["image.ok_rate"]
    'there are no good test images'
    """
    notes = {"images": "f1 is null for images without a known defective pixel, good images among them"}
    sections = {"": results, **{f"by_type.{name}.": part for name, part in results["by_type"].items()}}
    for prefix, section in sections.items():
        lacks = _lacks(section["count"])
        for group in _GROUPS:
            reasons = [reason for what, reason in lacks.items() if (what, group) != ("masks", "image")]
            reason = "; ".join(reasons) or "too few images, or too few pixels, for this measure"
            notes.update({f"{prefix}{path}": reason for path in _nulls(section[group], group)})
    return notes


def _lacks(total: Mapping[str, int]) -> dict[str, str]:
    lacks = {}
    if not total["good"]:
        lacks["good"] = "there are no good test images"
    if not total["defective"]:
        lacks["defective"] = "there are no defective test images: evaluated for false alarms only"
    elif not total["with_mask"]:
        lacks["masks"] = "no defective image has a mask: evaluated by image only"
    return lacks


def _nulls(value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield path
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _nulls(inner, f"{path}.{name}")
