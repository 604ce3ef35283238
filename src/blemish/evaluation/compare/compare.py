"""`blemish compare`: detectors side by side, on one dataset or several, each with several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import final

from blemish.data.files import exclusive_lock, folder_to_fill
from blemish.data.images import PixelPolicy
from blemish.data.outputs import check_report_folder
from blemish.evaluation.compare.compare_page import render
from blemish.evaluation.compare.content import Content, RunRow
from blemish.evaluation.compare.follow import HERE, Runner
from blemish.evaluation.compare.gallery import Gallery
from blemish.evaluation.compare.published import CAVEATS
from blemish.evaluation.compare.ranking import rank_detectors
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
from blemish.evaluation.compare.summary import ALL, scopes_of, summarise, to_csv
from blemish.evaluation.report.files import to_json, write_report
from blemish.evaluation.results import EvaluateSettings
from blemish.inference.predictor import Predictor
from blemish.settings import RunSettings

COMPARED = tuple(
    dict.fromkeys(
        (RunSettings().detector, "patchcore", "paper", "ae_l2", "ae_ssim", "vae", "anogan", "feature_dictionary")
    )
)
"""What is compared unless something else is asked for: the default detector, `patchcore`, and the paper's with those
it compares with."""

JSON, CSV, PAGE = "comparison.json", "comparison.csv", "comparison.html"


@final
@dataclass(frozen=True)
class Plan:
    """What to compare. Settings from the file and the assignments hold for every detector.

    An assignment `NAME:setting=value` holds for that detector alone.
    """

    data: Sequence[Path]
    detectors: Sequence[str] = COMPARED
    seeds: int = 3
    settings: Path | None = None
    assignments: Sequence[str] = ()
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)


def compare(plan: Plan, out: Path, runner: Runner = HERE) -> Compared[Content]:
    """Train, calibrate and evaluate every detector on every dataset with every seed, and write what was found.

    Runs that were finished before with the same settings and images are kept, one that was cut off goes on. A run
    that fails is shown as such and leaves the others alone. After each run `comparison.json`,
    `comparison.csv` and `comparison.html` are written, so that a run that is stopped leaves what it has.

    Raises:
        SettingsError: an unknown detector, preset or setting, or one that a detector does not have.
        DataError: a dataset that cannot be read, in which an image or a mask cannot be read (unless
            `evaluate.skip_bad`), or without test images; `out` cannot be written, or another process compares into it.
    """
    runs = plan_runs(plan, out)
    with folder_to_fill(out), exclusive_lock(out / LOCK, f"comparing into {out}"):
        refuse_bad_files(runs, runner.report)
        outcomes: list[Outcome] = []
        galleries: dict[str, Gallery] = {}

        def title(place: int) -> str:
            return f"{runs[place].dataset.name}, {runs[place].name}, seed {runs[place].settings.seed}"

        for outcome, is_news in runner.follow(runs, title):
            outcomes.append(outcome)
            _add_to_gallery(galleries, outcome, runner.device)
            if is_news:
                _write(_content(plan, runs, outcomes), galleries, out)
        failed = sum(outcome.status == "failed" for outcome in outcomes)
        return Compared(_content(plan, runs, outcomes), failed, skipped_in(outcomes))


def plan_runs(plan: Plan, out: Path) -> list[Run]:
    """All runs in order: every detector with the first seed, then with the second; nothing is trained.

    Raises:
        SettingsError, DataError: as `compare`.
    """
    check_asked(plan.detectors, plan.seeds)
    settings = {
        (name, seed): settings_of(name, plan.settings, plan.assignments, seed)
        for seed in range(plan.seeds)
        for name in plan.detectors
    }
    refuse_unused(plan.assignments, plan.detectors)
    datasets = read_datasets(plan.data, plan.evaluate.skip_bad)
    check_report_folder(out, JSON, CSV, PAGE)
    return [
        Run(dataset, name, own, plan.evaluate, run_path(out, dataset, name, seed))
        for dataset in datasets
        for (name, seed), own in settings.items()
    ]


def run_path(out: Path, dataset: Dataset, name: str, seed: int) -> Path:
    """Where a run lies."""
    return out / "runs" / dataset.name / name / f"seed{seed}"


def _add_to_gallery(galleries: dict[str, Gallery], outcome: Outcome, device: str) -> None:
    """Show the dataset's chosen images as the first model of each detector sees them."""
    run = outcome.run
    dataset = run.dataset
    if dataset.name not in galleries:
        limits = PixelPolicy(size_px=(8, 8), max_image_px=run.settings.data.max_image_px)
        galleries[dataset.name] = Gallery(dataset.folder, limits, run.mask_values)
    if outcome.status != "failed" and run.name not in galleries[dataset.name].columns:
        galleries[dataset.name].add(run.name, Predictor.load(run.model, device))


def _content(plan: Plan, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> Content:
    rows = [run_row(outcome) for outcome in outcomes]
    summary = summarise(rows)
    return {
        "plan": {
            "datasets": list(dict.fromkeys(run.dataset.name for run in runs)),
            "detectors": list(plan.detectors),
            "seeds": plan.seeds,
            "runs": len(runs),
            "assignments": list(plan.assignments),
            "evaluate": plan.evaluate.model_dump(mode="json"),
        },
        "summary": summary,
        "rankings": rank_detectors(summary, plan.detectors),
        "runs": rows,
        "published_caveats": list(CAVEATS),
        "versions": {"blemish": version("blemish")},
    }


def run_row(outcome: Outcome) -> RunRow:
    """What `comparison.json` says of a run."""
    run, results = outcome.run, outcome.results
    parts = {} if results is None else {ALL: results, **results.by_type}
    return {
        "dataset": run.dataset.name,
        "detector": run.name,
        "seed": run.settings.seed,
        "status": "failed" if outcome.status == "failed" else "finished",
        "error": outcome.error,
        "has_paper_tau": results is not None and results.has_paper_tau,
        "scopes": scopes_of(results, outcome.artifact_bytes),
        "count": {name: part.count.model_dump() for name, part in parts.items()},
        "notes": {} if results is None else _general_notes(results.notes),
        "false_alarms": None if results is None else results.realised_false_alarm_rate.model_dump(mode="json"),
        "settings": run.settings.model_dump(mode="json"),
    }


def _general_notes(notes: dict[str, str]) -> dict[str, str]:
    """What holds for all of an evaluation; why single measures are missing is in the run's own results."""
    return {name: note for name, note in notes.items() if "." not in name and name != "images"}


def _write(content: Content, galleries: dict[str, Gallery], out: Path) -> None:
    rows = {name: gallery.rows(content["plan"]["detectors"]) for name, gallery in galleries.items()}
    texts = {
        JSON: to_json(content),
        CSV: to_csv(content["runs"]),
        PAGE: render(content, rows),
    }
    write_report(out, texts)
