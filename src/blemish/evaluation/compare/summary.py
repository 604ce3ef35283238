"""What a comparison found, as plain values: rows of runs, and their means and spread over the seeds.

A row has its measures under dotted names, as in `results.json`: `image.auroc`, `pixel.aupro`, `calibrated.f1`. A
scope is all test images, or one defect type's images and all good ones. `own.calibrated.f1` and its like count the
pixels of the type's own images alone, as the paper does.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from blemish.data.csv_cells import csv_line
from blemish.evaluation.compare.content import RunRow, Spread, Summary
from blemish.evaluation.judged import THRESHOLDS
from blemish.evaluation.measures import MEASURES as ROWS
from blemish.evaluation.results import ImageRow, Results, Section, Values
from blemish.stats import Counts, f1, precision, recall

Nested = dict[str, Any]
"""Plain values, as a JSON file has them."""

ALL = "all"
"""The scope of all test images."""

RATES = ("precision", "recall", "f1")
FOUND_AT = "found_at.0.05"
"""Share of the defective images found where 5 % of false alarms are allowed: the same price for each detector."""

COSTS = ("fit_seconds", "latency_ms", "parameters", "artifact_bytes")

MEASURES = (
    *ROWS,
    FOUND_AT,
    *(f"{level}.{name}" for level in THRESHOLDS for name in RATES),
    *(f"own.{level}.{name}" for level in THRESHOLDS for name in RATES),
    *COSTS,
)
"""The names of all measures, in the order of the CSV's columns."""

_KEYS = ("dataset", "detector", "seed", "status", "scope")


def scopes_of(results: Results | None, artifact_bytes: int) -> dict[str, Values]:
    """The measures of a run, by scope and name; none of a run that failed."""
    if results is None:
        return {}
    own = own_rates(results.images)
    costs: Values = {
        "fit_seconds": results.model.fit_seconds,
        "latency_ms": results.latency_ms,
        "parameters": results.model.parameters,
        "artifact_bytes": artifact_bytes,
    }
    scopes = {}
    for scope, section in {ALL: results, **results.by_type}.items():
        measures = {**_measures(section), **own.get(scope, {}), **costs}
        measures[FOUND_AT] = _found_at_5_percent(results) if scope == ALL else None
        # The paper's threshold says nothing about a map of another kind.
        is_told = {name: results.has_paper_tau or "paper_tau." not in name for name in MEASURES}
        scopes[scope] = {name: measures.get(name) if told else None for name, told in is_told.items()}
    return scopes


def _found_at_5_percent(results: Results) -> float | None:
    for rung in results.ladder:
        if rung.max_false_alarm_rate == 0.05 and rung.found is not None and rung.defective:
            return rung.found / rung.defective
    return None


def own_rates(images: Sequence[ImageRow]) -> dict[str, Values]:
    """Precision, recall and F1 over the defective images of each type alone, and of all types together.

    >>> counts = {"calibrated": Counts(tp=3, fp=1, tn=9, fn=0)}
    >>> row = ImageRow(path="a", defect_type="cut", score=1, p_value=1, is_anomalous=True, counts=counts, f1={})
    >>> rates = own_rates([row])
    >>> rates["cut"] == rates["all"], rates["cut"]["own.calibrated.precision"]
    (True, 0.75)
    """
    totals: dict[str, dict[str, Counts]] = {}
    for image in images:
        for level, counts in image.counts.items():
            if image.defect_type == "good" or counts is None:
                continue
            for scope in (image.defect_type, ALL):
                before = totals.setdefault(scope, {}).get(level, Counts(0, 0, 0, 0))
                totals[scope][level] = before + counts
    return {scope: _rates_of(levels) for scope, levels in totals.items()}


def _rates_of(levels: Mapping[str, Counts]) -> Values:
    return {
        f"own.{level}.{rate.__name__}": rate(counts) if counts.tp + counts.fn else None
        for level, counts in levels.items()
        for rate in (precision, recall, f1)
    }


def _measures(section: Section) -> Values:
    areas = {key: getattr(section, row.group)[row.name] for key, row in ROWS.items()}
    rates = {f"{level}.{name}": getattr(section.at_threshold[level], name) for level in THRESHOLDS for name in RATES}
    return {**areas, **rates}


def summarise(runs: Sequence[RunRow]) -> list[Summary]:
    """One entry for each dataset and detector, in the order they came: every measure's mean and spread over seeds.

    >>> run = {"dataset": "nut", "detector": "ae", "status": "finished", "scopes": {"all": {"image.auroc": 0.5}}}
    >>> found = summarise([run, {**run, "scopes": {"all": {"image.auroc": 0.75}}}, {**run, "status": "failed"}])
    >>> found[0]["failed"], found[0]["scopes"]["all"]["image.auroc"]["mean"]
    (1, 0.625)
    """
    groups: dict[tuple[str, str], list[RunRow]] = {}
    for run in runs:
        groups.setdefault((run["dataset"], run["detector"]), []).append(run)
    summaries: list[Summary] = []
    for (dataset, detector), group in groups.items():
        good = [run for run in group if run["status"] != "failed"]
        scopes = list(dict.fromkeys(scope for run in good for scope in run["scopes"]))
        summaries.append(
            {
                "dataset": dataset,
                "detector": detector,
                "seeds": len(good),
                "failed": len(group) - len(good),
                "scopes": {
                    scope: {
                        name: spread(run["scopes"][scope][name] for run in good) for name in good[0]["scopes"][scope]
                    }
                    for scope in scopes
                },
            }
        )
    return summaries


def spread(values: Iterable[float | None]) -> Spread | None:
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


def to_csv(runs: Sequence[RunRow]) -> str:
    """One line a run and scope; a run that failed has one line with its error."""
    columns = [*_KEYS, *MEASURES, "error"]
    lines = [csv_line(columns)]
    for run in runs:
        keys: dict[str, Any] = {name: run.get(name) for name in _KEYS}
        for scope, measures in (run["scopes"] or {ALL: {}}).items():
            row = {**keys, "scope": scope, **measures, "error": run["error"]}
            lines.append(csv_line(row.get(name) for name in columns))
    return "".join(lines)


def mean_of(summary: Summary, name: str) -> float | None:
    """The mean of a measure over all test images; None where no seed has it.

    >>> mean_of({"scopes": {}}, "image.auroc") is None
    True
    """
    part = summary["scopes"].get(ALL, {}).get(name)
    return None if part is None else part["mean"]


def over_datasets(summaries: Sequence[Summary], names: Sequence[str]) -> list[Nested]:
    """For each detector the mean of its datasets' means, of those measures that every dataset of it has.

    >>> spreads = {"all": {"image.auroc": {"mean": 0.5}}}
    >>> one = {"dataset": "nut", "detector": "ae", "scopes": spreads}
    >>> over_datasets([one, {**one, "dataset": "brush"}], ["image.auroc"])
    [{'detector': 'ae', 'datasets': 2, 'image.auroc': 0.5}]
    """
    found = []
    for detector in dict.fromkeys(summary["detector"] for summary in summaries):
        own = [each for each in summaries if each["detector"] == detector]
        row: Nested = {"detector": detector, "datasets": len(own)}
        for name in names:
            means = [mean_of(each, name) for each in own]
            row[name] = None if None in means else statistics.fmean(mean for mean in means if mean is not None)
        found.append(row)
    return found
