"""`blemish sweep threshold`: precision, recall and F1 over the threshold, from what an evaluation left; nothing is
trained and nothing is scored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from pydantic import ValidationError

from blemish.data.csv_cells import csv_line
from blemish.data.folder import read_folder
from blemish.data.outputs import check_report_folder
from blemish.errors import DataError, SettingsError, nearest
from blemish.evaluation.compare.content import ImageRates, Rates, RatesAt, ThresholdContent, ThresholdCurve
from blemish.evaluation.compare.sweep_page import render_threshold
from blemish.evaluation.evaluate import RESULTS
from blemish.evaluation.examples import show
from blemish.evaluation.judged import JudgedImage
from blemish.evaluation.paper import PAPER_TAUS
from blemish.evaluation.report.files import to_json, write_report
from blemish.evaluation.report.pictures import Example, thresholds_in_use
from blemish.evaluation.results import ImageRow, Results
from blemish.evaluation.threshold_counts import ALL, MAPS, ThresholdCounts, read_threshold_counts
from blemish.inference.predictor import Predictor
from blemish.settings import first_problem, read_regular
from blemish.stats import Counts, count, f1, precision, recall

MAX_RESULTS_BYTES = 1 << 29
JSON, CSV, PAGE = "threshold.json", "threshold.csv", "threshold.html"
SAME_SCORE = 1e-3
"""Scores this near to each other, as a share of them, may come from one model on two machines."""


@final
@dataclass(frozen=True)
class Source:
    """Where the map of an image comes from that the evaluation did not keep: this one image is scored again."""

    model: Path
    data: Path
    device: str = "auto"


def sweep_threshold(
    evaluation: Path,
    out: Path,
    taus: Sequence[float] | None = None,
    image: str | None = None,
    source: Source | None = None,
) -> ThresholdContent:
    """Write the curves over the threshold, and one image at `taus` (Figures 13 and 14 of the paper) into `out`.

    Left out, `taus` are the paper's where the map is on its scale, else the model's threshold, twice and half of it.

    `evaluation` is a folder that `blemish evaluate` wrote, or a run of a comparison. `image` is the name of a test
    image, or the end of one; without it one of the evaluation's examples is taken. Returns what `threshold.json` says.

    Raises:
        DataError: no evaluation there, or one without any known defective pixel; no such image, or one whose map was
            not kept, without a `source`.
        SettingsError: a threshold below 0.
        ArtifactError: a damaged file.
    """
    if bad := [tau for tau in taus or () if not 0.0 <= tau < float("inf")]:
        raise SettingsError(f"--tau {bad[0]}: maps are never below 0; give numbers of 0 or more")
    check_report_folder(out, JSON, CSV, PAGE)
    results = _read_results(evaluation)
    swept = read_threshold_counts(evaluation / MAPS)
    if len(swept.counts) == 1:
        raise DataError(f"{evaluation}: no defective pixel is known there, so there is no precision or recall to sweep")
    example = _find(swept, results, image, source)
    if taus is None:
        usual = results.threshold
        taus = PAPER_TAUS if results.has_paper_tau else (2 * usual, usual, usual / 2)
    content = _content(results, swept, sorted(taus, reverse=True), example)
    texts = {JSON: to_json(content), CSV: to_csv(swept)}
    texts[PAGE] = render_threshold(content, example)
    write_report(out, texts)
    return content


def _read_results(evaluation: Path) -> Results:
    path = evaluation / RESULTS
    try:
        return Results.model_validate_json(read_regular(path, MAX_RESULTS_BYTES))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give the folder that `blemish evaluate` wrote to"
        ) from None
    except ValidationError as error:
        raise DataError(
            f"{path}: not the results of an evaluation by this version ({first_problem(error)}); evaluate again"
        ) from None


def _find(swept: ThresholdCounts, results: Results, image: str | None, source: Source | None) -> Example:
    if image is None and source is None:
        return swept.examples[0]
    image = swept.examples[0].name if image is None else image
    names = [row.path for row in results.images]
    fitting = [name for name in names if name == image] or [name for name in names if name.endswith(f"/{image}")]
    if len(fitting) != 1:
        hint = nearest(image, names) if not fitting else f"it fits {', '.join(fitting[:3])}"
        raise DataError(f"--image {image}: {'no' if not fitting else 'more than one'} such test image; {hint}")
    if source is not None:
        return _score(source, next(row for row in results.images if row.path == fitting[0]))
    kept = {example.name: example for example in swept.examples}
    if fitting[0] not in kept:
        raise DataError(
            f"--image {image}: the evaluation did not keep its map, only those of {', '.join(kept)}; "
            "choose one of these, or give --model and --data to score this one image"
        )
    return kept[fitting[0]]


def _score(source: Source, row: ImageRow) -> Example:
    predictor = Predictor.load(source.model, source.device)
    trained = predictor.header.run.data
    folder = read_folder(source.data, trained.mask_value, trained.ignore_value)
    samples = {sample.name: sample for sample in folder.test}
    if row.path not in samples:
        raise DataError(f"{source.data}: no test image {row.path} in it; give the data the evaluation was made with")
    sample = samples[row.path]
    judged = JudgedImage(
        name=row.path,
        defect_type=row.defect_type,
        label=sample.label,
        has_mask=bool(sample.mask_paths),
        score=row.score,
        p_value=row.p_value,
        is_anomalous=row.is_anomalous,
    )
    score = predictor.predict(sample.path).score
    if not math.isclose(score, row.score, rel_tol=SAME_SCORE, abs_tol=SAME_SCORE):
        raise DataError(
            f"{source.model}: scores {row.path} {score:.6g}, in the evaluation it has {row.score:.6g}; give the "
            "model and the data that the evaluation was made with"
        )
    return show(predictor, judged, sample)


def _content(results: Results, swept: ThresholdCounts, taus: Sequence[float], example: Example) -> ThresholdContent:
    marks = {scope: _marks(results, scope) for scope in swept.counts}
    return {
        "detector": results.model.detector,
        "data": results.data.root,
        "images": results.count.images,
        "taus": list(taus),
        "at": {scope: [_asked(swept, tau, scope) for tau in taus] for scope in swept.counts},
        "at_marks": {
            scope: {name: _asked(swept, mark, scope) for name, mark in some.items()} for scope, some in marks.items()
        },
        "curves": {scope: _curve(swept, scope) for scope in swept.counts},
        "image": {
            "name": example.name,
            "defect_type": example.defect_type,
            "at": _on_image(example, taus),
            "scored_again": all(example is not kept for kept in swept.examples),
        },
        "versions": results.versions,
    }


def _marks(results: Results, scope: str) -> dict[str, float]:
    """The thresholds in use; the one best with hindsight is that of all images."""
    defect_type = None if scope == ALL else scope
    marks = thresholds_in_use(results, defect_type)
    return {name: mark for name, mark in marks.items() if mark is not None}


def _asked(swept: ThresholdCounts, tau: float, scope: str) -> RatesAt:
    counted_at, counts = swept.at(tau, scope)
    return {"threshold": tau, "counted_at": counted_at, **_rates(counts)}


def _curve(swept: ThresholdCounts, scope: str) -> ThresholdCurve:
    rows = [_rates(Counts(*row)) for row in swept.counts[scope].tolist()]
    return {
        "threshold": list(swept.thresholds.tolist()),
        "precision": [row["precision"] for row in rows],
        "recall": [row["recall"] for row in rows],
        "f1": [row["f1"] for row in rows],
    }


def _on_image(example: Example, taus: Sequence[float]) -> list[ImageRates]:
    if example.mask is None:
        return [{"threshold": tau} for tau in taus]
    return [{"threshold": tau, **_rates(count(example.anomaly_map > tau, example.mask))} for tau in taus]


def _rates(counts: Counts) -> Rates:
    """Without known defective pixels there is nothing to find, and so no rate; where none is called, no precision."""
    if counts.tp + counts.fn == 0:
        return {"precision": None, "recall": None, "f1": None}
    found = precision(counts) if counts.tp + counts.fp else None
    return {"precision": found, "recall": recall(counts), "f1": f1(counts)}


def to_csv(swept: ThresholdCounts) -> str:
    """One line a scope and threshold.

    >>> import numpy as np
    >>> print(to_csv(ThresholdCounts(np.array([0.5]), {"all": np.array([[1, 0, 2, 1]])}, [])))
    scope,threshold,tp,fp,tn,fn,precision,recall,f1
    all,0.5,1,0,2,1,1.0,0.5,0.66...
    """
    lines = [csv_line(["scope", "threshold", "tp", "fp", "tn", "fn", "precision", "recall", "f1"])]
    for scope, counts in swept.counts.items():
        for threshold, row in zip(swept.thresholds.tolist(), counts.tolist(), strict=True):
            lines.append(csv_line([scope, threshold, *row, *_rates(Counts(*row)).values()]))
    return "".join(lines)
