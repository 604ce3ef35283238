"""`blemish evaluate`: judge a model on test images, and write what was found as results.json and report.html.

Beside them goes maps.safetensors, for `blemish sweep threshold`.
"""

import platform
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np

from blemish.data.files import atomic_write, folder_to_fill
from blemish.data.folder import Folder, Sample, read_folder
from blemish.data.groups import read_groups
from blemish.data.notes import lossy_note, outline_note, page_note, profile_note, turned_note
from blemish.data.outputs import check_report_folder
from blemish.data.progress import OnStep, tell_nobody
from blemish.errors import DataError, SettingsError, join_names
from blemish.evaluation.by_condition import Conditions, measure_conditions, read_conditions
from blemish.evaluation.by_size import measure_sizes
from blemish.evaluation.examples import draw
from blemish.evaluation.false_alarms import Promise, realised_rate
from blemish.evaluation.judged import image_rows, measure, plain_name
from blemish.evaluation.judging import TestScores, judge_images
from blemish.evaluation.ladder import climb
from blemish.evaluation.next_steps import Judgement, advise
from blemish.evaluation.paper import is_algorithm_1
from blemish.evaluation.report.files import to_json
from blemish.evaluation.report.html import render
from blemish.evaluation.report.pictures import Drawings
from blemish.evaluation.results import EvaluateSettings, PromiseCard, Results, TestData, missing_notes
from blemish.evaluation.threshold_counts import MAPS, ThresholdCounts, sweep_pixels, write_threshold_counts
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.predictor import Predictor
from blemish.settings import as_path, shortened

RESULTS, REPORT = "results.json", "report.html"


@final
@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_model` found, and the two files of it to read."""

    results: Results
    results_path: Path
    report_path: Path


def evaluate_model(
    predictor: Predictor,
    folder: Folder | Path | str,
    out: Path | str,
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
        SettingsError: a predictor or settings that are none.
    """
    started, out = time.perf_counter(), as_path(out, "out")
    if not isinstance(predictor, Predictor):
        found = shortened(repr(predictor))
        raise SettingsError(f"predictor: found {found}; load the model, as by Predictor.load('model.safetensors')")
    if not isinstance(settings, EvaluateSettings):  # those of a training, for example
        found = shortened(repr(settings))
        raise SettingsError(f"settings: found {found}; give an EvaluateSettings of blemish.evaluation.results")
    folder = folder if isinstance(folder, Folder) else read_folder(folder)
    check_report_folder(out, RESULTS, REPORT, MAPS)
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
    judged = judge_images(predictor, samples, settings, on_image)
    judged.skipped.update(unnamed)
    return _results(predictor, folder, judged, settings, conditions), judged


def _test_samples(folder: Folder) -> Sequence[Sample]:
    if folder.test:
        return folder.test
    if not folder.is_flat:
        raise DataError(
            f"{folder.root / 'test'}: no test images; put good ones into test/good and, where there are any, "
            "defective ones into test/<defect type>"
        )
    return folder.train


_NOT_REPEATED: dict[str, Any] = dict.fromkeys(("calibration_scores", "data_card", "history"), True)
_NOT_REPEATED["policy"] = {"roi_png", "shown_png"}
_NOT_REPEATED["calibration"] = {"folds", "group_names", "image_ids", "pixel_ids", "earlier_ids", "photo_values"}


def _results(
    predictor: Predictor, folder: Folder, judged: TestScores, settings: EvaluateSettings, conditions: Conditions
) -> Results:
    header, promise = predictor.header, _promised(predictor)
    overall, by_type = measure(judged.images, judged.pixels, predictor.threshold, settings)
    ladder, groups = climb(header, judged.images, settings.confidence), _groups(header, judged)
    false_alarms = partial(realised_rate, promise=promise, confidence=settings.confidence, groups=groups)
    return Results(
        **dict(overall),
        by_type=by_type,
        images=image_rows(judged.images, judged.pixels, overall, settings),
        notes=missing_notes(overall, by_type) | _extra_notes(predictor, folder, judged),
        threshold=predictor.threshold,
        has_paper_tau=is_algorithm_1(predictor, list(judged.samples.values())),
        promise=_promise_card(header, promise),
        realised_false_alarm_rate=false_alarms(judged.images),
        by_condition=measure_conditions(judged.images, conditions, false_alarms, settings.confidence),
        by_size=measure_sizes(judged.images, settings.confidence),
        ladder=ladder,
        next_steps=advise(Judgement(predictor, judged.images, judged.sizes_px, ladder, folder)),
        data=TestData(
            root=plain_name(folder.root.resolve().name),
            skipped=judged.skipped,
            bad_masks=judged.bad_masks,
            fitted=[name for name, found in judged.known.items() if found == "fitted"],
            calibrated=[name for name, found in judged.known.items() if found == "calibrated"],
            roi_share=predictor.policy.judged_share,
            compared_px=_most_common(judged.compared_px),
            of_other_sizes=len(judged.compared_px) - max(Counter(judged.compared_px).values(), default=0),
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
    if told := [note for note in (*folder.layout_notes, folder.unread_note) if note]:
        notes["layout"] = "; ".join(told)
    for how, advice in KNOWN.items():
        names = [name for name, found in judged.known.items() if found == how]
        if names:
            notes[how] = f"{join_names(names)}: {advice}"
    notes |= _repeats(judged)
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
    unknown = [name for name in unknown if name not in judged.unseen and name not in judged.bad_masks]
    if unknown:
        notes["masks"] = f"{join_names(unknown)}: defective, but without a mask; judged as images, not by their pixels"
    if judged.bad_masks:
        notes["bad_masks"] = (
            f"{join_names(list(judged.bad_masks))}: with a mask that cannot be used; judged as images, not by their "
            "pixels"
        )
    if predictor.header.calibration.by_group and _groups(predictor.header, judged) is None:
        notes["groups"] = (
            "the model was calibrated by group, but the names of the test images do not tell their groups: false "
            "alarms are counted image by image, as if all were independent"
        )
    seen = list(judged.samples.values())
    found = {"pages": page_note(seen), "turned": turned_note(seen), "lossy_masks": lossy_note(seen)}
    found["outlines"], found["profiles"] = outline_note(seen), profile_note(seen)
    found["grey"], found["depth"] = judged.readings.grey, judged.readings.deep.note
    found["transparency"], found["exif"] = judged.readings.transparency, judged.readings.turn
    found["coarse"] = judged.readings.coarse
    notes |= {name: note for name, note in found.items() if note}
    if judged.pixels.resolution:
        notes["resolution"] = f"map values closer than {judged.pixels.resolution:.1e} of themselves count as equal"
    return notes


def _repeats(judged: TestScores) -> dict[str, str]:
    """What is said of test images that are there twice, however they were saved."""
    first: dict[str, str] = {}
    pairs = {name: first.setdefault(identity, name) for name, identity in judged.pixel_ids.items()}
    again = [f"{name} is {before} again" for name, before in pairs.items() if before != name]
    labels = {name: judged.samples[name].label for name in pairs}
    both = [f"{name} is {before} again" for name, before in pairs.items() if labels[name] != labels[before]]
    notes = {}
    if again:
        notes["repeated"] = (
            f"{join_names(again)}: each is counted as an image of its own, and intervals come out too narrow; keep one"
        )
    if both:
        notes["contradicting"] = f"{join_names(both)}: one counts as good, the other as defective; take one out"
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
    with folder_to_fill(out), atomic_write(results_path) as first, atomic_write(report_path) as second:
        first.write_text(text, encoding="utf-8")
        second.write_text(page, encoding="utf-8")
        write_threshold_counts(out / MAPS, swept)
    return Evaluation(results, results_path, report_path)
