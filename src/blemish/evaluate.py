"""`blemish evaluate`: judge a model on test images, and write what was found as results.json and report.html."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import final

import numpy as np

from blemish.data.folder import Folder, Sample
from blemish.data.images import load_image, load_mask
from blemish.errors import DataError
from blemish.files import make_folder, whole_file
from blemish.metrics import PixelScores, precision, recall, roc_curve
from blemish.metrics import f1 as f1_of
from blemish.predictor import Prediction, Predictor
from blemish.report.html import render
from blemish.report.overlay import as_rgb
from blemish.report.pictures import Curve, Drawings, Example
from blemish.results import EvaluateSettings, JudgedImage, Nested, measure, plain_name, realised

OnImage = Callable[[int, int], None]
"""Called after each image with how many are done, and of how many."""

RESULTS, REPORT = "results.json", "report.html"


@final
@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_model` found: `results` as in the JSON file, and the two files it wrote."""

    results: Nested
    results_path: Path
    report_path: Path


@final
@dataclass(frozen=True)
class _Judged:
    """What is kept of the test images once their maps are gone."""

    images: list[JudgedImage]
    samples: dict[str, Sample]  # of the judged images, by plain name
    pixels: PixelScores
    latencies_ms: list[float]
    skipped: dict[str, str]
    vanished: list[str]  # images whose mask is too small to be seen at the model's size


def evaluate_model(
    predictor: Predictor,
    folder: Folder,
    out: Path,
    settings: EvaluateSettings = EvaluateSettings(),  # noqa: B008  # frozen
    on_image: OnImage = lambda _done, _total: None,
) -> Evaluation:
    """Judge a model on the test images of a folder, and write `results.json` and `report.html` into `out`.

    Maps and masks are compared at the model's own size, the masks resized by nearest neighbour. A flat folder is taken
    as good test images, and the false alarms among them are counted. Images are looked at one by one; the few that the
    report shows are looked at twice.

    Raises:
        DataError: there is no test image; an image or a mask cannot be read (unless `skip_bad`); `out` cannot be
            written, in which case neither file is.
    """
    started = time.perf_counter()
    samples = _test_samples(folder)
    make_folder(out)
    judged = _judge(predictor, samples, settings, on_image)
    results = {
        **measure(judged.images, judged.pixels, predictor.threshold, settings),
        **_circumstances(predictor, folder, judged, settings),
    }
    results["notes"] |= _extra_notes(folder, judged)
    drawings = _drawings(predictor, judged, results, settings)
    results["seconds"] = time.perf_counter() - started
    return _write(results, drawings, out)


def _test_samples(folder: Folder) -> Sequence[Sample]:
    if folder.test:
        return folder.test
    if (folder.root / "train").is_dir():
        raise DataError(
            f"{folder.root / 'test'}: no test images; put good ones into test/good and, where there are any, "
            "defective ones into test/<defect type>"
        )
    return folder.train


def _judge(predictor: Predictor, samples: Sequence[Sample], settings: EvaluateSettings, on_image: OnImage) -> _Judged:
    levels = {predictor.threshold, settings.seed_tau, *settings.seed_tau_by_type.values()}
    judged = _Judged([], {}, PixelScores(sorted(levels)), [], {}, [])
    for done, sample in enumerate(samples, start=1):
        try:
            _judge_one(predictor, sample, judged)
        except DataError as error:
            if not settings.skip_bad:
                raise
            judged.skipped[plain_name(sample.name)] = plain_name(str(error))
        on_image(done, len(samples))
    if not judged.images:
        raise DataError(f"none of the {len(samples)} test images can be read; the first: {judged.skipped.popitem()[1]}")
    return judged


def _judge_one(predictor: Predictor, sample: Sample, judged: _Judged) -> None:
    prediction = predictor.predict(sample.path)
    name = plain_name(sample.name)
    mask = None
    if sample.mask_path is not None:
        mask = load_mask(sample.mask_path, predictor.policy.size_px, prediction.image_size_px)
        if not mask.any():
            judged.vanished.append(name)
            mask = None
    if mask is not None or not sample.label:
        judged.pixels.add(name, prediction.scored_map, mask)
    judged.images.append(
        JudgedImage(
            name=name,
            defect_type=sample.defect_type,
            label=sample.label,
            has_mask=mask is not None,
            score=prediction.score,
            p_value=prediction.p_value,
            is_anomalous=prediction.is_anomalous,
        )
    )
    judged.samples[name] = sample
    judged.latencies_ms.append(prediction.latency_ms)


def _circumstances(predictor: Predictor, folder: Folder, judged: _Judged, settings: EvaluateSettings) -> Nested:
    header = predictor.header
    promised = _promised(predictor)
    return {
        "threshold": predictor.threshold,
        "promise": {
            "max_false_alarm_rate": promised,
            "calibration_images": len(header.calibration_scores),
            "calibrated_threshold": header.threshold,
        },
        "realised_false_alarm_rate": realised(judged.images, promised, settings.confidence),
        "data": {"root": plain_name(folder.root.resolve().name), "skipped": judged.skipped},
        "latency_ms": statistics.median(judged.latencies_ms),
        "settings": settings.model_dump(mode="json"),
        "model": header.model_dump(mode="json", exclude={"calibration_scores", "data_card", "history"}),
        "data_card": header.data_card.model_dump(mode="json"),
        "versions": {"blemish": version("blemish"), "python": platform.python_version(), "numpy": np.__version__},
    }


def _promised(predictor: Predictor) -> float:
    """The rate the threshold stands for. For one that was moved it is what the calibration scores lead to expect."""
    if predictor.threshold == predictor.header.threshold:
        return predictor.header.max_false_alarm_rate
    scores = np.asarray(predictor.header.calibration_scores)
    return float((1 + np.count_nonzero(scores > predictor.threshold)) / (1 + scores.size))


def _extra_notes(folder: Folder, judged: _Judged) -> dict[str, str]:
    notes = {}
    if not folder.test:
        notes["data"] = (
            "a flat folder: all its images were taken as good; if the model was fitted or calibrated on some of them, "
            "the false alarms come out too low"
        )
    if judged.vanished:
        names = ", ".join(judged.vanished[:3]) + (", ..." if len(judged.vanished) > 3 else "")
        notes["vanished_masks"] = (
            f"{len(judged.vanished)} masks are too small to be seen at the model's size ({names}); "
            "train with a larger data.size_px to judge their pixels"
        )
    return notes


def _drawings(predictor: Predictor, judged: _Judged, results: Nested, settings: EvaluateSettings) -> Drawings:
    """Looks again at the images worth showing; which these are is known only now."""

    def show(images: Iterable[JudgedImage]) -> list[Example]:
        return [_example(predictor, image, judged.samples[image.name]) for image in images]

    f1 = {row["path"]: row["f1"]["calibrated"] for row in results["images"]}
    known = sorted((image for image in judged.images if image.has_mask), key=lambda image: (f1[image.name], image.name))
    types = sorted({image.defect_type for image in known})
    missed = [image for image in judged.images if image.label and not image.is_anomalous]
    alarms = [image for image in judged.images if not image.label and image.is_anomalous]
    return Drawings(
        history={name: list(values) for name, values in predictor.header.history.items()},
        panels={
            defect_type: show(
                _spread([image for image in known if image.defect_type == defect_type], settings.panels_per_type)
            )
            for defect_type in types
        },
        three_thresholds=show(_spread(known, 1)),
        missed=show(sorted(missed, key=lambda image: image.score)[: settings.worst]),
        false_alarms=show(sorted(alarms, key=lambda image: -image.score)[: settings.worst]),
        roc=_roc(judged, results),
        threshold_curves=_threshold_curves(judged) if known else {},
    )


def _roc(judged: _Judged, results: Nested) -> dict[str, Curve]:
    scores, labels = (np.array([getattr(image, name) for image in judged.images]) for name in ("score", "label"))
    areas = {name: results[group]["auroc"] for name, group in (("images", "image"), ("pixels", "pixel"))}
    curves = {}
    if areas["images"] is not None:
        curves["images"] = roc_curve(scores, labels)
    if areas["pixels"] is not None:
        curves["pixels"] = judged.pixels.roc_curve()
    return {name: (curve.false_positive_rate, curve.true_positive_rate, areas[name]) for name, curve in curves.items()}


def _threshold_curves(judged: _Judged) -> dict[str, list[float]]:
    """Section 7.1 of the seed paper: a threshold too high misses pixels, one too low floods the image."""
    highest = max(image.score for image in judged.images)
    levels = [float(level) for level in highest * np.geomspace(1 / 50, 1, 61)[:-1]]
    counts = [judged.pixels.counts_at(level) for level in levels]
    return {
        "threshold": levels,
        "precision": [precision(one) for one in counts],
        "recall": [recall(one) for one in counts],
        "F1": [f1_of(one) for one in counts],
    }


def _spread(ordered: Sequence[JudgedImage], number: int) -> list[JudgedImage]:
    """Neither the best nor the worst alone: as many as wanted, evenly over the order."""
    number = min(number, len(ordered))
    return [ordered[int((place + 0.5) * len(ordered) / number)] for place in range(number)]


def _example(predictor: Predictor, image: JudgedImage, sample: Sample) -> Example:
    prediction: Prediction = predictor.predict(sample.path)
    reconstruction = predictor.reconstruct(sample.path)
    mask = None
    if sample.mask_path is not None:
        mask = load_mask(sample.mask_path, predictor.policy.size_px, prediction.image_size_px)
    return Example(
        name=image.name,
        defect_type=image.defect_type,
        score=image.score,
        image=as_rgb(load_image(sample.path, predictor.policy)),
        reconstruction=None if reconstruction is None else as_rgb(reconstruction),
        anomaly_map=prediction.scored_map,
        mask=mask,
    )


def _write(results: Nested, drawings: Drawings, out: Path) -> Evaluation:
    """Both files or neither: each is complete before the first gets its name."""
    results_path, report_path = out / RESULTS, out / REPORT
    text = json.dumps(results, indent=2, allow_nan=False) + "\n"
    page = render(results, drawings)
    with whole_file(results_path) as first, whole_file(report_path) as second:
        first.write_text(text, encoding="utf-8")
        second.write_text(page, encoding="utf-8")
    return Evaluation(results, results_path, report_path)
