"""What the report of an evaluation shows beside its numbers: curves, and pictures of a few images."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.folder import Sample
from blemish.data.images import load_image, read_original
from blemish.evaluation.judged import JudgedImage
from blemish.evaluation.report.close_up import cut_close_up
from blemish.evaluation.report.pictures import Curve, Drawings, Example
from blemish.evaluation.results import Results
from blemish.inference.overlay import Rgb, as_rgb
from blemish.inference.predictor import Predictor
from blemish.inference.score import resize_map
from blemish.stats import PixelScores, precision, recall, roc_curve
from blemish.stats import f1 as f1_of

T = TypeVar("T")

LONGEST_SIDE_PX = 512
"""Pictures in the report are no larger than this. A smaller map keeps its maxima, so no defect is lost."""


def draw(
    predictor: Predictor,
    images: Sequence[JudgedImage],
    samples: Mapping[str, Sample],
    pixels: PixelScores,
    results: Results,
) -> Drawings:
    """Charts of all images and pictures of a few: which are worth showing is known only when all have been judged.

    `samples` are by the images' names. The number of pictures is bounded by the settings, their size by
    `LONGEST_SIDE_PX`.
    """

    def shown(some: Iterable[JudgedImage]) -> list[Example]:
        return [show(predictor, image, samples[image.name]) for image in some]

    settings = results.settings
    f1 = {row.path: row.f1["calibrated"] or 0.0 for row in results.images}
    known = sorted((image for image in images if image.has_mask), key=lambda image: (f1[image.name], image.name))
    types = sorted({image.defect_type for image in known})
    missed = [image for image in images if image.label and not image.is_anomalous]
    alarms = [image for image in images if not image.label and image.is_anomalous]
    return Drawings(
        calibration_scores=predictor.header.calibration_scores,
        history={name: list(values) for name, values in predictor.header.history.items()},
        panels={
            defect_type: shown(
                spread_evenly([image for image in known if image.defect_type == defect_type], settings.panels_per_type)
            )
            for defect_type in types
        },
        three_thresholds=shown(spread_evenly(known, 1)),
        missed=shown(sorted(missed, key=lambda image: image.score)[: settings.worst]),
        false_alarms=shown(sorted(alarms, key=lambda image: -image.score)[: settings.worst]),
        roc=_roc(images, pixels, results),
        threshold_curves=_threshold_curves(images, pixels) if known else {},
    )


def _roc(images: Sequence[JudgedImage], pixels: PixelScores, results: Results) -> dict[str, Curve]:
    scores, labels = (np.array([getattr(image, name) for image in images]) for name in ("score", "label"))
    areas = {"images": results.image["auroc"], "pixels": results.pixel["auroc"]}
    known = {name: area for name, area in areas.items() if area is not None}
    curves = {name: roc_curve(scores, labels) if name == "images" else pixels.roc_curve() for name in known}
    return {name: (curve.false_positive_rate, curve.true_positive_rate, known[name]) for name, curve in curves.items()}


def _threshold_curves(images: Sequence[JudgedImage], pixels: PixelScores) -> dict[str, list[float]]:
    """Section 7.1 of the paper: a threshold too high misses pixels, one too low floods the image."""
    highest = max(image.score for image in images)
    levels = [float(level) for level in highest * np.geomspace(1 / 50, 1, 61)[:-1]]
    counts = [pixels.counts_at(level) for level in levels]
    return {
        "threshold": levels,
        "precision": [precision(one) for one in counts],
        "recall": [recall(one) for one in counts],
        "F1": [f1_of(one) for one in counts],
    }


def spread_evenly(ordered: Sequence[T], number: int) -> list[T]:
    """Neither the first nor the last alone: as many as wanted, evenly over the order.

    >>> spread_evenly("abcdefgh", 2)
    ['c', 'g']
    """
    number = min(number, len(ordered))
    return [ordered[int((place + 0.5) * len(ordered) / number)] for place in range(number)]


def show(predictor: Predictor, image: JudgedImage, sample: Sample) -> Example:
    """One image with its map, mask and reconstruction, at the size it is drawn in."""
    prediction = predictor.predict(sample.path)
    reconstruction = predictor.reconstruct(sample.path)
    policy, (height, width) = predictor.policy, prediction.scored_map.shape
    top, left, bottom, right = policy.box(prediction.image_size_px)
    mask = sample.load_mask((height, width), prediction.image_size_px)
    seen = policy.seen_of_map(prediction.scored_map)  # a part of the photo, where the model sees no more
    size_px = _shown_size((seen.shape[0], seen.shape[1]))
    large = sample.load_mask(prediction.image_size_px)
    original = np.asarray(read_original(sample.path, policy.max_image_px, policy.white_level))
    return Example(
        name=image.name,
        defect_type=image.defect_type,
        score=image.score,
        image=_shown(load_image(sample.path, policy)[:, top:bottom, left:right], size_px),
        reconstruction=None if reconstruction is None else _shown(reconstruction, size_px),
        anomaly_map=resize_map(seen, size_px),
        mask=None if mask is None else resize_map(policy.seen_of_map(mask).astype(np.float32), size_px) > 0,
        close_up=cut_close_up(original, prediction.scored_map, large, prediction.threshold),
    )


def _shown_size(size_px: tuple[int, int]) -> tuple[int, int]:
    shrink = min(1.0, LONGEST_SIDE_PX / max(size_px))
    height, width = (max(1, round(side * shrink)) for side in size_px)
    return height, width


def _shown(image: NDArray[np.float32], size_px: tuple[int, int]) -> Rgb:
    height, width = size_px
    return np.asarray(Image.fromarray(as_rgb(image)).resize((width, height), Image.Resampling.LANCZOS))
