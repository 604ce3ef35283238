"""`blemish sweep setting`: one setting at several values, each trained, calibrated and evaluated on its own."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.files import atomic_write, exclusive_lock, make_folder
from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy
from blemish.data.masks import load_mask
from blemish.data.progress import Progress, Report, quiet
from blemish.data.split import split_good
from blemish.errors import DataError, SettingsError
from blemish.evaluation.compare.gallery import Gallery
from blemish.evaluation.compare.runs import (
    LOCK,
    DataSet,
    OnCell,
    Outcome,
    Run,
    execute_run,
    read_datasets,
    refuse_unused,
    settings_of,
)
from blemish.evaluation.compare.seed_paper import claims
from blemish.evaluation.compare.summary import ALL, scopes_of, spread
from blemish.evaluation.compare.sweep_page import render_setting
from blemish.evaluation.measures import EvaluateSettings, Nested
from blemish.inference.predictor import Predictor
from blemish.settings import parse_assignment

JSON, CSV, PAGE = "sweep.json", "sweep.csv", "sweep.html"
ERRORS = "map_means.json"

PIXELS = ("good_held_out", "good_test", "defective_test")
"""Whose map values are averaged: good images that were not fitted on, good pixels of test images, defective ones."""


@final
@dataclass(frozen=True)
class SettingSweep:
    """What to sweep. One of the assignments has several values: `model.latent=8,32,100`."""

    data: Path
    detector: str
    assignments: Sequence[str]
    seeds: int = 1
    settings: Path | None = None
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)


@final
@dataclass(frozen=True)
class Sweep:
    """The content of `sweep.json`, and how many runs failed."""

    content: Nested
    failed: int


def sweep_setting(
    plan: SettingSweep, out: Path, device: str = "auto", report: Report = quiet, on_cell: OnCell = lambda _: None
) -> Sweep:
    """Run every value with every seed, and write curves of the mean map value on good and defective pixels and of F1.

    Runs that were finished before are kept, as in a comparison; after each that was run, all files are written anew.

    Raises:
        SettingsError: none or several settings with several values; a setting or a value that will not do.
        DataError: the data cannot be read or have no test images; `out` cannot be written, or another process sweeps
            into it.
    """
    setting, values, cells = plan_runs(plan, out)
    with exclusive_lock(out / LOCK, f"sweeping into {out}"):
        category = cells[0].category
        gallery = Gallery(category.folder, PixelPolicy(size_px=(8, 8)), per_type=1)
        points: list[Nested] = []
        content: Nested = {}
        for place, cell in enumerate(cells):
            value = values[place % len(values)]
            report(Progress("runs", place, len(cells), f"{setting} = {value}, seed {cell.settings.seed}"))
            outcome = execute_run(cell, device, report)
            on_cell(outcome)
            points.append(_point(outcome, value, device))
            if outcome.status != "failed" and value not in gallery.columns:
                gallery.add(value, Predictor.load(cell.model, device), show="reconstruction")
            if outcome.status != "kept" or cell is cells[-1]:
                content = _content(plan, setting, values, category, points)
                _write(content, gallery, out)
        report(Progress("runs", len(cells), len(cells), ""))
        return Sweep(content, sum(point["error"] is not None for point in points))


def plan_runs(plan: SettingSweep, out: Path) -> tuple[str, list[str], list[Run]]:
    """The swept setting, its values, and the cells, seed by seed; nothing is run.

    Raises:
        SettingsError, DataError: as `sweep_setting`.
    """
    setting, values, others = split_assignments(plan.assignments)
    if plan.seeds < 1:
        raise SettingsError(f"--seeds {plan.seeds}: at least 1 is needed")
    runs = [
        (value, settings_of(plan.detector, plan.settings, [*others, f"{setting}={value}"], seed))
        for seed in range(plan.seeds)
        for value in values
    ]
    refuse_unused(others, [plan.detector])
    category = read_datasets([plan.data])[0]
    make_folder(out)
    cells = [
        Run(category, plan.detector, run, plan.evaluate, out / "cells" / _slug(setting, value) / f"seed{run.seed}")
        for value, run in runs
    ]
    return setting, values, cells


def split_assignments(assignments: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """The setting with several values, these values, and the other assignments.

    Raises:
        SettingsError: none or several with several values; a value given twice.

    >>> split_assignments(["model.latent=8,32", "data.size_px=[64, 64]"])
    ('model.latent', ['8', '32'], ['data.size_px=[64, 64]'])
    """
    swept = [text for text in assignments if len(split_values(text.partition("=")[2])) > 1]
    if len(swept) != 1:
        found = "none has" if not swept else " and ".join(text.partition("=")[0] for text in swept) + " have"
        raise SettingsError(f"--set: one setting needs several values, e.g. model.latent=8,32,100; {found}")
    setting, _, text = swept[0].partition("=")
    values = split_values(text)
    if len(set(values)) < len(values):
        raise SettingsError(f"--set {swept[0]}: a value is given twice")
    return setting.strip(), values, [text for text in assignments if text is not swept[0]]


def split_values(text: str) -> list[str]:
    """Values between commas; commas in brackets or quotes belong to the value.

    >>> split_values("8, 32"), split_values("[64, 64],[128, 128]")
    (['8', '32'], ['[64, 64]', '[128, 128]'])
    """
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _slug(setting: str, value: str) -> str:
    """A folder's name that any file system takes."""
    return re.sub(r"[^\w.+=-]+", "_", f"{setting}={value}")


def _point(outcome: Outcome, value: str, device: str) -> Nested:
    failed = outcome.status == "failed"
    return {
        "value": value,
        "seed": outcome.cell.settings.seed,
        "error": outcome.error,
        "map_means": dict.fromkeys(PIXELS) if failed else _map_means_once(outcome.cell, device),
        "scopes": scopes_of(outcome),
        "settings": outcome.cell.settings.model_dump(mode="json"),
    }


def _map_means_once(cell: Run, device: str) -> dict[str, float | None]:
    """From the cell's file, where that belongs to this very run; else computed, and written there."""
    path, run = cell.path / ERRORS, cell.training + cell.judging
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("run") == run:
            return {name: found[name] for name in PIXELS}
    means = map_means(Predictor.load(cell.model, device), cell)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({"run": run, **means}, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return means


def map_means(predictor: Predictor, cell: Run) -> dict[str, float | None]:
    """Mean map value over all pixels of each kind in `PIXELS`; None where there are none.

    Only pixels inside the region of interest count, and defective images without a mask are left out. The images taken
    as held out must give the model's calibration scores again; where they do not, it is not known which they were.
    """
    folder, run = cell.category.folder, cell.settings
    held_out = split_good(folder.train, run.data.calibration_fraction, np.random.default_rng(run.seed))[1]
    known = [sample for sample in folder.test if sample.mask_path is not None or not sample.label]
    sums = {name: np.zeros(2) for name in PIXELS}  # of the values, and their number
    for sample in known:
        _add_map(predictor, sample, sums["good_test"], sums["defective_test"])
    with suppress(DataError):  # an unreadable image that training was told to leave out
        scores = [_add_map(predictor, sample, sums["good_held_out"], np.zeros(2)) for sample in held_out]
        calibrated = predictor.header.calibration_scores
        if len(scores) == len(calibrated) and np.allclose(sorted(scores), calibrated, rtol=1e-3):
            return _means(sums)
    return {**_means(sums), "good_held_out": None}


def _means(sums: dict[str, NDArray[np.float64]]) -> dict[str, float | None]:
    return {name: float(total / number) if number else None for name, (total, number) in sums.items()}


def _add_map(predictor: Predictor, sample: Sample, good: Any, defective: Any) -> float:
    """Adds to both sums; returns the score."""
    prediction = predictor.predict(sample.path)
    scored, policy = prediction.scored_map.astype(np.float64), predictor.policy
    valid = np.ones(scored.shape, np.bool_) if policy.roi is None else policy.roi
    mask = np.zeros(scored.shape, np.bool_)
    if sample.mask_path is not None:
        mask = load_mask(sample.mask_path, policy.size_px, prediction.image_size_px)
    for sums, where in ((good, valid & ~mask), (defective, valid & mask)):
        sums += scored[where].sum(), where.sum()
    return prediction.score


def _content(
    plan: SettingSweep, setting: str, values: Sequence[str], category: DataSet, points: Sequence[Nested]
) -> Nested:
    summary = [_summary(value, [point for point in points if point["value"] == value]) for value in values]
    return {
        "setting": setting,
        "values": list(values),
        "detector": plan.detector,
        "category": category.name,
        "seeds": plan.seeds,
        "runs": plan.seeds * len(values),
        "summary": summary,
        "claims": claims(summary) if setting == "model.latent" else [],
        "points": list(points),
        "versions": {"blemish": version("blemish")},
    }


def _summary(value: str, points: Sequence[Nested]) -> Nested:
    good = [point for point in points if point["error"] is None]
    names = list(good[0]["scopes"][ALL]) if good else []
    return {
        "value": _parsed(value),
        "label": value,
        "seeds": len(good),
        "failed": len(points) - len(good),
        "map_means": {name: spread(point["map_means"][name] for point in good) for name in PIXELS},
        "measures": {name: spread(point["scopes"][ALL][name] for point in good) for name in names},
    }


def _parsed(value: str) -> Any:
    return parse_assignment(f"value={value}")["value"]


def to_csv(points: Iterable[Nested]) -> str:
    """One line a run."""
    points = list(points)
    names = list(dict.fromkeys(name for point in points for name in point["scopes"].get(ALL, {})))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["value", "seed", *(f"map_mean.{name}" for name in PIXELS), *names, "error"])
    for point in points:
        measures = point["scopes"].get(ALL, {})
        means = [point["map_means"][name] for name in PIXELS]
        writer.writerow(
            [point["value"], point["seed"], *means, *(measures.get(name) for name in names), point["error"]]
        )
    return text.getvalue()


def _write(content: Nested, gallery: Gallery, out: Path) -> None:
    texts = {
        JSON: json.dumps(content, indent=2, allow_nan=False) + "\n",
        CSV: to_csv(content["points"]),
        PAGE: render_setting(content, gallery.rows(content["values"])),
    }
    for name, text in texts.items():
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
