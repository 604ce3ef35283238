"""What a comparison found, as plain values: rows of runs, and their means and spread over the seeds.

A row has its measures under dotted names, as in `results.json`: `image.auroc`, `pixel.aupro`, `calibrated.f1`. A
scope is all test images, or one defect type's images and all good ones. `own.calibrated.f1` and its like count the
pixels of the type's own images alone, as the paper does.
"""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from blemish.evaluation.measures import IMAGE_MEASURES, PIXEL_MEASURES, THRESHOLDS, Nested
from blemish.stats import Counts, f1, precision, recall

ALL = "all"
"""The scope of all test images."""

RATES = ("precision", "recall", "f1")
COSTS = ("fit_seconds", "latency_ms", "parameters", "artifact_bytes")

MEASURES = (
    *(f"image.{name}" for name in IMAGE_MEASURES),
    *(f"pixel.{name}" for name in PIXEL_MEASURES if name not in RATES),
    *(f"{level}.{name}" for level in THRESHOLDS for name in RATES),
    *(f"own.{level}.{name}" for level in THRESHOLDS for name in RATES),
    *COSTS,
)
"""The names of all measures, in the order of the CSV's columns."""

_KEYS = ("dataset", "detector", "seed", "status", "scope")


class RunLike(Protocol):
    """What a row is made of; see `Outcome` in runs.py."""

    @property
    def results(self) -> Nested | None: ...
    @property
    def paper_counts(self) -> Mapping[str, Mapping[str, Mapping[str, int]]] | None: ...
    @property
    def has_paper_tau(self) -> bool: ...
    @property
    def artifact_bytes(self) -> int: ...


def scopes_of(outcome: RunLike) -> dict[str, dict[str, float | None]]:
    """The measures of a run, by scope and name; none of a run that failed."""
    if outcome.results is None:
        return {}
    sections = {ALL: outcome.results, **outcome.results["by_type"]}
    own = own_rates(outcome.paper_counts or {})
    return {
        scope: _without_tau(
            {**_measures(section), **own.get(scope, {}), **_costs(outcome)},
            outcome.has_paper_tau,
        )
        for scope, section in sections.items()
    }


def own_rates(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, float | None]]:
    """Precision, recall and F1 over the defective images of each type alone, and of all types together.

    >>> rates = own_rates({"cut": {"calibrated": {"tp": 3, "fp": 1, "tn": 9, "fn": 0}}})
    >>> rates["cut"] == rates["all"], rates["cut"]["own.calibrated.precision"]
    (True, 0.75)
    """
    totals: dict[str, dict[str, Counts]] = {}
    for defect_type, levels in counts.items():
        for level, part in levels.items():
            for scope in (defect_type, ALL):
                before = totals.setdefault(scope, {}).get(level, Counts(0, 0, 0, 0))
                totals[scope][level] = before + Counts(**part)
    return {scope: _rates_of(levels) for scope, levels in totals.items()}


def _rates_of(levels: Mapping[str, Counts]) -> dict[str, float | None]:
    functions = {"precision": precision, "recall": recall, "f1": f1}
    return {
        f"own.{level}.{name}": function(counts) if counts.tp + counts.fn else None
        for level, counts in levels.items()
        for name, function in functions.items()
    }


def _measures(section: Nested) -> dict[str, float | None]:
    areas = {f"image.{name}": section["image"][name] for name in IMAGE_MEASURES}
    areas |= {f"pixel.{name}": section["pixel"][name] for name in PIXEL_MEASURES if name not in RATES}
    rates = {f"{level}.{name}": section["at_threshold"][level][name] for level in THRESHOLDS for name in RATES}
    return {**areas, **rates}


def _costs(outcome: RunLike) -> dict[str, float | None]:
    results = outcome.results or {}
    return {
        "fit_seconds": results["model"]["fit_seconds"],
        "latency_ms": results["latency_ms"],
        "parameters": results["model"]["parameters"],
        "artifact_bytes": outcome.artifact_bytes,
    }


def _without_tau(measures: dict[str, float | None], has_paper_tau: bool) -> dict[str, float | None]:
    """The paper's threshold says nothing about a map of another kind."""
    return {name: None if not has_paper_tau and "paper_tau." in name else measures.get(name) for name in MEASURES}


def summarise(runs: Sequence[Nested]) -> list[Nested]:
    """One entry for each dataset and detector, in the order they came: every measure's mean and spread over seeds.

    >>> run = {"dataset": "nut", "detector": "ae", "status": "finished", "scopes": {"all": {"image.auroc": 0.5}}}
    >>> found = summarise([run, {**run, "scopes": {"all": {"image.auroc": 0.75}}}, {**run, "status": "failed"}])
    >>> found[0]["failed"], found[0]["scopes"]["all"]["image.auroc"]["mean"]
    (1, 0.625)
    """
    groups: dict[tuple[str, str], list[Nested]] = {}
    for run in runs:
        groups.setdefault((run["dataset"], run["detector"]), []).append(run)
    summaries = []
    for (dataset, detector), group in groups.items():
        good = [run for run in group if run["status"] != "failed"]
        scopes = list(dict.fromkeys(scope for run in good for scope in run["scopes"]))
        summaries.append(
            {
                "dataset": dataset,
                "detector": detector,
                "seeds": len(good),
                "failed": len(group) - len(good),
                "scopes": {scope: _spreads([run["scopes"][scope] for run in good]) for scope in scopes},
            }
        )
    return summaries


def _spreads(parts: Sequence[Mapping[str, float | None]]) -> dict[str, Nested | None]:
    return {name: spread([part[name] for part in parts]) for name in parts[0]}


def spread(values: Iterable[float | None]) -> Nested | None:
    """Mean, standard deviation (of the sample; None of one value), smallest, largest and number of the known values.

    >>> spread([1.0, 3.0, None])
    {'mean': 2.0, 'std': 1.414..., 'min': 1.0, 'max': 3.0, 'n': 2}
    """
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    return {
        "mean": math.fsum(known) / len(known),
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "min": min(known),
        "max": max(known),
        "n": len(known),
    }


def to_csv(runs: Sequence[Nested]) -> str:
    """One line a run and scope; a run that failed has one line with its error."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_KEYS, *MEASURES, "error"], lineterminator="\n")
    writer.writeheader()
    for run in runs:
        keys: dict[str, Any] = {name: run.get(name) for name in _KEYS}
        for scope, measures in (run["scopes"] or {ALL: {}}).items():
            writer.writerow({**keys, "scope": scope, **measures, "error": run["error"]})
    return text.getvalue()


def over_datasets(summaries: Sequence[Nested], names: Sequence[str]) -> list[Nested]:
    """For each detector the mean of its datasets' means, of those measures that every dataset of it has.

    >>> spreads = {"all": {"image.auroc": {"mean": 0.5}}}
    >>> one = {"dataset": "nut", "detector": "ae", "scopes": spreads}
    >>> over_datasets([one, {**one, "dataset": "brush"}], ["image.auroc"])
    [{'detector': 'ae', 'datasets': 2, 'image.auroc': 0.5}]
    """
    found = []
    for detector in dict.fromkeys(summary["detector"] for summary in summaries):
        parts = [each["scopes"].get(ALL, {}) for each in summaries if each["detector"] == detector]
        row: Nested = {"detector": detector, "datasets": len(parts)}
        for name in names:
            means = [part[name]["mean"] if part.get(name) else None for part in parts]
            row[name] = None if None in means else statistics.fmean(mean for mean in means if mean is not None)
        found.append(row)
    return found
