"""`blemish sweep setting`: one setting at several values, each trained, calibrated and evaluated on its own."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import final

from blemish.data.csv_cells import csv_line
from blemish.data.files import exclusive_lock, folder_to_fill
from blemish.data.images import PixelPolicy
from blemish.data.outputs import check_report_folder
from blemish.errors import SettingsError
from blemish.evaluation.compare.content import Point, SweepContent, ValueSummary
from blemish.evaluation.compare.follow import HERE, Runner
from blemish.evaluation.compare.gallery import Gallery
from blemish.evaluation.compare.runs import (
    LOCK,
    Compared,
    Dataset,
    Outcome,
    Run,
    check_asked,
    read_datasets,
    refuse_bad_files,
    refuse_unused,
    settings_of,
    skipped_in,
)
from blemish.evaluation.compare.summary import ALL, scopes_of, spread
from blemish.evaluation.compare.sweep_page import render_setting
from blemish.evaluation.report.files import to_json, write_report
from blemish.evaluation.results import EvaluateSettings
from blemish.inference.predictor import Predictor
from blemish.settings import RunSettings, parse_assignment

SWEPT = tuple(dict.fromkeys((RunSettings().detector, "patchcore")))
"""What is swept unless something else is asked for."""

JSON, CSV, PAGE = "sweep.json", "sweep.csv", "sweep.html"


@final
@dataclass(frozen=True)
class SettingSweep:
    """What to sweep. One of the assignments has several values: `model.latent=8,32,100`."""

    data: Path
    assignments: Sequence[str]
    detectors: Sequence[str] = SWEPT
    seeds: int = 1
    settings: Path | None = None
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)


def sweep_setting(plan: SettingSweep, out: Path, runner: Runner = HERE) -> Compared[SweepContent]:
    """Run every value with every seed, and write curves of F1 and the areas.

    Runs that were finished before are kept, as in a comparison; after each that was run, all files are written.

    Raises:
        SettingsError: none or several settings with several values; a setting or a value that will not do.
        DataError: the data cannot be read, an image or a mask among them cannot (unless `evaluate.skip_bad`), or they
            have no test images; `out` cannot be written, or another process sweeps into it.
    """
    setting, values, runs = plan_runs(plan, out)
    with folder_to_fill(out), exclusive_lock(out / LOCK, f"sweeping into {out}"):
        refuse_bad_files(runs, runner.report)
        dataset = runs[0].dataset
        gallery = Gallery(dataset.folder, PixelPolicy(size_px=(8, 8)), runs[0].mask_values, per_type=1)
        points, outcomes = list[Point](), list[Outcome]()

        def title(place: int) -> str:
            run = runs[place]
            return f"{run.name}, {setting} = {values[place % len(values)]}, seed {run.settings.seed}"

        for outcome, is_news in runner.follow(runs, title):
            value = values[len(points) % len(values)]
            outcomes.append(outcome)
            points.append(_point(outcome, value))
            column = f"{outcome.run.name}, {value}"
            if outcome.status != "failed" and column not in gallery.columns:
                gallery.add(column, Predictor.load(outcome.run.model, runner.device), show="reconstruction")
            if is_news:
                _write(_content(plan, setting, values, dataset, points), gallery, out)
        content = _content(plan, setting, values, dataset, points)
        return Compared(content, sum(point["error"] is not None for point in points), skipped_in(outcomes))


def plan_runs(plan: SettingSweep, out: Path) -> tuple[str, list[str], list[Run]]:
    """The swept setting, its values, and the runs, seed by seed; nothing is run.

    Raises:
        SettingsError, DataError: as `sweep_setting`.
    """
    setting, values, others = split_assignments(plan.assignments)
    check_asked(plan.detectors, plan.seeds)
    asked = [
        (name, value, settings_of(name, plan.settings, [*others, f"{setting}={value}"], seed))
        for seed in range(plan.seeds)
        for name in plan.detectors
        for value in values
    ]
    refuse_unused(others, plan.detectors)
    dataset = read_datasets([plan.data], plan.evaluate.skip_bad)[0]
    check_report_folder(out, JSON, CSV, PAGE)
    runs = [
        Run(dataset, name, own, plan.evaluate, out / "runs" / name / _slug(setting, value) / f"seed{own.seed}")
        for name, value, own in asked
    ]
    return setting, values, runs


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


def _point(outcome: Outcome, value: str) -> Point:
    return {
        "detector": outcome.run.name,
        "value": value,
        "seed": outcome.run.settings.seed,
        "error": outcome.error,
        "scopes": scopes_of(outcome.results, outcome.artifact_bytes),
        "settings": outcome.run.settings.model_dump(mode="json"),
    }


def _content(
    plan: SettingSweep, setting: str, values: Sequence[str], dataset: Dataset, points: Sequence[Point]
) -> SweepContent:
    summary = [
        _summary(name, value, [point for point in points if (point["detector"], point["value"]) == (name, value)])
        for name in plan.detectors
        for value in values
    ]
    return {
        "setting": setting,
        "values": list(values),
        "detectors": list(plan.detectors),
        "dataset": dataset.name,
        "seeds": plan.seeds,
        "runs": plan.seeds * len(values) * len(plan.detectors),
        "summary": summary,
        "points": list(points),
        "versions": {"blemish": version("blemish")},
    }


def _summary(name: str, value: str, points: Sequence[Point]) -> ValueSummary:
    good = [point for point in points if point["error"] is None]
    names = list(good[0]["scopes"][ALL]) if good else []
    return {
        "detector": name,
        "value": parse_assignment(f"value={value}")["value"],
        "label": value,
        "seeds": len(good),
        "failed": len(points) - len(good),
        "measures": {name: spread(point["scopes"][ALL][name] for point in good) for name in names},
    }


def to_csv(points: Iterable[Point]) -> str:
    """One line a run."""
    points = list(points)
    names = list(dict.fromkeys(name for point in points for name in point["scopes"].get(ALL, {})))
    lines = [csv_line(["value", "seed", *names, "error"])]
    for point in points:
        measures = point["scopes"].get(ALL, {})
        row = [point["value"], point["seed"], *(measures.get(name) for name in names), point["error"]]
        lines.append(csv_line(row))
    return "".join(lines)


def _write(content: SweepContent, gallery: Gallery, out: Path) -> None:
    columns = [f"{name}, {value}" for name in content["detectors"] for value in content["values"]]
    texts = {
        JSON: to_json(content),
        CSV: to_csv(content["points"]),
        PAGE: render_setting(content, gallery.rows(columns)),
    }
    write_report(out, texts)
