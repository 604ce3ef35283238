"""`blemish evaluate`: judge a model on test images, and write what was found as results.json and report.html.

Beside them goes maps.safetensors, for `blemish sweep threshold`.
"""

import math
import platform
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.files import atomic_write, folder_to_fill
from blemish.data.folder import Folder, Sample
from blemish.data.groups import read_groups
from blemish.data.images import check_contents, prepare
from blemish.data.notes import lossy_note, page_note, profile_note, turned_note
from blemish.data.outputs import check_report_folder
from blemish.data.progress import OnStep, tell_nobody
from blemish.data.readings import Readings
from blemish.errors import DataError, join_names
from blemish.evaluation.by_condition import Conditions, measure_conditions, read_conditions
from blemish.evaluation.by_size import judge_regions, measure_sizes
from blemish.evaluation.compared import masks_of_some, valid_px
from blemish.evaluation.examples import draw
from blemish.evaluation.false_alarms import Promise, realised_rate
from blemish.evaluation.judged import JudgedImage, image_rows, measure, plain_name
from blemish.evaluation.ladder import climb
from blemish.evaluation.next_steps import Judgement, advise
from blemish.evaluation.paper import is_algorithm_1
from blemish.evaluation.report.files import to_json
from blemish.evaluation.report.html import render
from blemish.evaluation.report.pictures import Drawings
from blemish.evaluation.results import EvaluateSettings, PromiseCard, Results, TestData, missing_notes
from blemish.evaluation.threshold_counts import MAPS, ThresholdCounts, sweep_pixels, write_threshold_counts
from blemish.inference.artifact import ArtifactHeader, made_with
from blemish.inference.predictor import Predictor
from blemish.stats import PixelScores

RESULTS, REPORT = "results.json", "report.html"


@final
@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_model` found, and the two files of it to read."""

    results: Results
    results_path: Path
    report_path: Path


@final
@dataclass(frozen=True)
class TestScores:
    """What is kept of the test images once their maps are gone; samples and reasons by the images' plain names."""

    __test__ = False  # not a test of pytest's
    pixels: PixelScores
    readings: Readings
    images: list[JudgedImage] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    sizes_px: list[tuple[int, int]] = field(default_factory=list)
    compared_px: list[tuple[int, int]] = field(default_factory=list)  # of those whose pixels count
    skipped: dict[str, str] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)  # defective images none of whose marked pixels is seen
    outside: dict[str, float] = field(default_factory=dict)  # share of its marked pixels outside the region
    known: dict[str, str] = field(default_factory=dict)  # images that were "fitted" or "calibrated" on


def evaluate_model(
    predictor: Predictor,
    folder: Folder,
    out: Path,
    settings: EvaluateSettings = EvaluateSettings(),  # noqa: B008  # frozen
    on_image: OnStep = tell_nobody,
) -> Evaluation:
    """Judge a model on the test images of a folder, and write `results.json` and `report.html` into `out`.

    `maps.safetensors` goes there, too: all that is needed to sweep the threshold without scoring anything again.

    Maps and masks are compared at the size of each photo; without `full_size` at the model's own, the masks resized by
    nearest neighbour. A flat folder is taken as good test images, and the false alarms among them are counted. Images
    are judged one by one; the few that the report shows are judged twice.

    Raises:
        DataError: there is no test image; an image or a mask cannot be read (unless `skip_bad`); `out` cannot be
            written, in which case no file is.
    """
    started = time.perf_counter()
    check_report_folder(out, RESULTS, REPORT, MAPS)
    with folder_to_fill(out):
        results, judged = measure_folder(predictor, folder, settings, on_image)
        drawings = draw(predictor, judged.images, judged.samples, judged.pixels, results)
        results = results.model_copy(update={"seconds": time.perf_counter() - started})
        return _write(results, drawings, _threshold_counts(judged, results, drawings), out)


def measure_folder(
    predictor: Predictor, folder: Folder, settings: EvaluateSettings, on_image: OnStep = tell_nobody
) -> tuple[Results, TestScores]:
    """What an evaluation finds, all but how long it took, and what its report is drawn from; nothing is written.

    Raises:
        DataError: as `evaluate_model`.
    """
    values = settings.mask_values(predictor.header.run.data)
    samples = [replace(sample, **values) for sample in _test_samples(folder)]
    folder.check_good_masks(**values)
    names = [plain_name(sample.name) for sample in samples]
    conditions = read_conditions(Path(settings.conditions), names) if settings.conditions else {}
    unnamed = folder.left_out("test", settings.skip_bad)
    judged = _judge(predictor, samples, settings, on_image)
    judged.skipped.update(unnamed)
    return _results(predictor, folder, judged, settings, conditions), judged


def _test_samples(folder: Folder) -> Sequence[Sample]:
    if folder.test:
        return folder.test
    if (folder.root / "train").is_dir():
        raise DataError(
            f"{folder.root / 'test'}: no test images; put good ones into test/good and, where there are any, "
            "defective ones into test/<defect type>"
        )
    return folder.train


def _judge(predictor: Predictor, samples: Sequence[Sample], settings: EvaluateSettings, on_image: OnStep) -> TestScores:
    levels = {predictor.threshold, settings.paper_tau, *settings.paper_tau_by_type.values()}
    judged = TestScores(PixelScores(sorted(levels)), Readings(predictor.policy.white_level))
    for done, sample in enumerate(samples, start=1):
        try:
            _judge_one(predictor, sample, judged, samples, settings.full_size)
        except DataError as error:
            if not settings.skip_bad:
                raise DataError(f"{error}; --skip-bad leaves such files out") from None
            judged.skipped[plain_name(sample.name)] = plain_name(str(error))
        on_image(done, len(samples))
    judged.known.update(made_with(predictor.header, judged.samples))
    if not judged.images:
        raise DataError(f"none of the {len(samples)} test images can be read; the first: {judged.skipped.popitem()[1]}")
    return judged


def _judge_one(
    predictor: Predictor, sample: Sample, judged: TestScores, samples: Sequence[Sample], at_full_size: bool
) -> None:
    started = time.perf_counter()
    predictor.warn_if_withdrawn()
    prepared = prepare(sample.path, predictor.policy)
    check_contents(prepared, sample.path)
    prediction = predictor.predict_prepared(prepared, sample.path, started)
    name = plain_name(sample.name)
    judged.readings.add(name, prepared.reading)
    compared = prediction.anomaly_map if at_full_size else prediction.scored_map
    size_px = (compared.shape[0], compared.shape[1])
    valid = valid_px(predictor.policy, size_px)
    mask = sample.load_mask(size_px, prediction.image_size_px)
    if mask is not None:
        if not judged.pixels.others:
            judged.pixels.others = masks_of_some(samples, size_px)
        mask = _seen_of(mask, valid, name, judged)
    if mask is not None or not sample.label:
        if mask is not None and (ignored := sample.load_ignored(mask.shape)) is not None:
            valid = ~ignored if valid is None else valid & ~ignored
        judged.pixels.add(name, compared, mask, valid=valid)
        judged.compared_px.append(size_px)
    judged.images.append(
        JudgedImage(
            name=name,
            defect_type=sample.defect_type,
            label=sample.label,
            has_mask=mask is not None and name not in judged.unseen,
            score=prediction.score,
            p_value=prediction.p_value,
            is_anomalous=prediction.is_anomalous,
            peak_on_defect=None if mask is None else peak_is_near(compared, mask),
            regions=() if mask is None else judge_regions(mask, compared, predictor.threshold),
        )
    )
    judged.samples[name] = sample
    judged.latencies_ms.append(prediction.latency_ms)
    judged.sizes_px.append(prediction.image_size_px)


def _seen_of(
    mask: NDArray[np.bool_], valid: NDArray[np.bool_] | None, name: str, judged: TestScores
) -> NDArray[np.bool_] | None:
    """The mask, None where nothing of it is left at this size; what of it the model does not see is noted."""
    marked = int(np.count_nonzero(mask))
    inside = marked if valid is None else int(np.count_nonzero(mask & valid))
    if inside < marked:
        judged.outside[name] = (marked - inside) / marked
    if not inside:
        judged.unseen[name] = "roi" if marked else "size"
    return mask if marked else None


def peak_is_near(anomaly_map: NDArray[np.floating], mask: NDArray[np.bool_]) -> bool:
    """Whether the highest pixel is in the mask or within 2 % of the map's longer side of it.

    >>> mask = np.zeros((9, 9), bool); mask[4, 4] = True
    >>> peak_is_near(np.eye(9)[::-1] * np.arange(9), mask), peak_is_near(mask.astype(float), mask)
    (False, True)
    """
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    reach = max(2, round(0.02 * max(mask.shape)))
    return bool(mask[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1].any())


_NOT_REPEATED: dict[str, Any] = dict.fromkeys(("calibration_scores", "data_card", "history"), True)
_NOT_REPEATED["policy"] = {"roi_png", "shown_png"}
_NOT_REPEATED["calibration"] = {"folds", "group_names", "image_ids", "pixel_ids", "earlier_ids", "photo_values"}


def _results(
    predictor: Predictor, folder: Folder, judged: TestScores, settings: EvaluateSettings, conditions: Conditions
) -> Results:
    header, promise = predictor.header, _promised(predictor)
    overall, by_type = measure(judged.images, judged.pixels, predictor.threshold, settings)
    ladder = climb(header, judged.images, settings.confidence)
    return Results(
        **dict(overall),
        by_type=by_type,
        images=image_rows(judged.images, judged.pixels, overall, settings),
        notes=missing_notes(overall, by_type) | _extra_notes(predictor, folder, judged),
        threshold=predictor.threshold,
        has_paper_tau=is_algorithm_1(predictor, list(judged.samples.values())),
        promise=_promise_card(header, promise),
        realised_false_alarm_rate=realised_rate(judged.images, promise, settings.confidence, _groups(header, judged)),
        by_condition=measure_conditions(judged.images, conditions, promise, settings.confidence),
        by_size=measure_sizes(judged.images, settings.confidence),
        ladder=ladder,
        next_steps=advise(Judgement(predictor, judged.images, judged.sizes_px, ladder, folder)),
        data=TestData(
            root=plain_name(folder.root.resolve().name),
            skipped=judged.skipped,
            fitted=[name for name, found in judged.known.items() if found == "fitted"],
            calibrated=[name for name, found in judged.known.items() if found == "calibrated"],
            roi_share=_roi_share(predictor),
            compared_px=_most_common(judged.compared_px),
            photo_px=_most_common(judged.sizes_px),
            outside_roi=judged.outside,
        ),
        latency_ms=statistics.median(judged.latencies_ms),
        settings=settings,
        model=header.model_dump(mode="json", exclude=_NOT_REPEATED),
        data_card=header.data_card.model_dump(mode="json", exclude={"fit_ids", "fit_pixel_ids", "fit_groups"}),
        versions={"blemish": version("blemish"), "python": platform.python_version(), "numpy": np.__version__},
        seconds=0.0,
    )


def _most_common(sizes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    return Counter(sizes).most_common(1)[0][0] if sizes else None


def _promise_card(header: ArtifactHeader, promise: Promise) -> PromiseCard:
    certificate = header.certificate
    return PromiseCard(
        max_false_alarm_rate=promise.max_false_alarm_rate,
        confidence=certificate.confidence,
        kind=certificate.kind,
        sentence=certificate.promise,
        calibration_images=certificate.n,
        calibration_groups=certificate.groups,
        calibrated_threshold=header.threshold,
    )


def _roi_share(predictor: Predictor) -> float:
    """The share of a photo's pixels inside the region of interest."""
    policy = predictor.policy
    return 1.0 if policy.roi is None else float(policy.roi.sum() / math.prod(policy.window.map_px))


def _promised(predictor: Predictor) -> Promise:
    """What the threshold stands for. For one that was moved it is what the calibration scores lead to expect."""
    header, scores = predictor.header, np.asarray(predictor.header.calibration_scores)
    above = None if header.calibration.folds else int(np.count_nonzero(scores > predictor.threshold))
    if predictor.threshold == header.threshold and header.certificate.kind == "confidence":
        above = None
    return Promise(header.rate_at(predictor.threshold), above, scores.size)


def _groups(header: ArtifactHeader, judged: TestScores) -> dict[str, str] | None:
    """The group of each good test image; None where each is on its own, or nothing tells them."""
    card = header.calibration
    names = [image.name for image in judged.images if not image.label]
    if card.group_pattern is None:
        return None
    try:
        return dict(zip(names, read_groups(card.group_pattern, names), strict=True))
    except DataError:
        return None


KNOWN = {
    "fitted": "among the images fitted, so the figures come out too good; take such images out of the test",
    "calibrated": "among the images calibrated on, so false alarms come out too low; take such images out of the test",
}
"""What is wrong with a test image that the model was made with."""

_UNSEEN = {
    "size": "what the mask marks is too small for the model's size; with full_size=true it is judged",
    "roi": "the defect lies outside the region of interest, where no pixel can be called defective",
}


def _extra_notes(predictor: Predictor, folder: Folder, judged: TestScores) -> dict[str, str]:
    notes = {}
    if not folder.test:
        notes["data"] = (
            "a flat folder: all its images were taken as good; if the model was fitted or calibrated on some of them, "
            "the false alarms come out too low"
        )
    for how, advice in KNOWN.items():
        names = [name for name, found in judged.known.items() if found == how]
        if names:
            notes[how] = f"{join_names(names)}: {advice}"
    for reason, advice in _UNSEEN.items():
        names = [name for name, found in judged.unseen.items() if found == reason]
        if names:
            notes[f"unseen_{reason}"] = f"{join_names(names)}: {advice}"
    partly = {name: share for name, share in judged.outside.items() if name not in judged.unseen}
    if partly:
        shares = [f"{name} ({share:.0%})".replace("%", " %") for name, share in partly.items()]
        notes["outside_roi"] = (
            f"{join_names(shares)}: so much of the defective pixels lies outside the region of interest and is not "
            "counted"
        )
    unknown = [image.name for image in judged.images if image.label and not image.has_mask]
    unknown = [name for name in unknown if name not in judged.unseen]
    if unknown:
        notes["masks"] = f"{join_names(unknown)}: defective, but without a mask; judged as images, not by their pixels"
    if predictor.header.calibration.by_group and _groups(predictor.header, judged) is None:
        notes["groups"] = (
            "the model was calibrated by group, but the names of the test images do not tell their groups: false "
            "alarms are counted image by image, as if all were independent"
        )
    seen = list(judged.samples.values())
    found = {"pages": page_note(seen), "turned": turned_note(seen), "lossy_masks": lossy_note(seen)}
    found["profiles"] = profile_note(seen)
    found["depth"], found["transparency"] = judged.readings.deep.note, judged.readings.transparency
    notes |= {name: note for name, note in found.items() if note}
    if judged.pixels.resolution:
        notes["resolution"] = f"map values closer than {judged.pixels.resolution:.1e} of themselves count as equal"
    return notes


def _threshold_counts(judged: TestScores, results: Results, drawings: Drawings) -> ThresholdCounts:
    """Counts at many thresholds, those in use among them, and the maps of the examples whose truth is known."""
    marks = [part.threshold for part in results.at_threshold.values() if part.threshold is not None]
    marks += results.settings.paper_tau_by_type.values()
    known = [*drawings.three_thresholds, *(one for some in drawings.panels.values() for one in some)]
    examples = {example.name: example for example in known}
    return sweep_pixels(judged.pixels, judged.images, marks, list(examples.values()))


def _write(results: Results, drawings: Drawings, swept: ThresholdCounts, out: Path) -> Evaluation:
    """All files or none: each is complete before the first gets its name."""
    results_path, report_path = out / RESULTS, out / REPORT
    text, page = to_json(results.model_dump(mode="json")), render(results, drawings)
    with atomic_write(results_path) as first, atomic_write(report_path) as second:
        first.write_text(text, encoding="utf-8")
        second.write_text(page, encoding="utf-8")
        write_threshold_counts(out / MAPS, swept)
    return Evaluation(results, results_path, report_path)
