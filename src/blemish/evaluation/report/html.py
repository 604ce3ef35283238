"""The report of an evaluation as one page that needs nothing else: pictures, styles and all are inside."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from blemish.errors import plural
from blemish.evaluation.compared import describe_sizes
from blemish.evaluation.measures import FOUND_AND_AUROC, MEASURES
from blemish.evaluation.report import figures
from blemish.evaluation.report.pictures import Drawings, extent, panel, three_thresholds, thresholds_in_use
from blemish.evaluation.results import AS_READ, FalseAlarms, Results, Rung
from blemish.inference.score import score_text
from blemish.stats.conformal import promised_percent

THRESHOLD_NAMES = {"calibrated": "the model's", "paper_tau": "the paper's", "oracle_f1": "oracle F1"}


def render(results: Results, drawings: Drawings) -> str:
    """The page, from the content of `results.json` and what was drawn aside for it."""
    template = page_environment().get_template("report.html.j2")
    return template.render(
        r=results,
        verdict=verdict(results),
        is_calibrated=is_calibrated(results),
        rows=_measure_rows(results),
        found_and_auroc=FOUND_AND_AUROC,
        sizes=describe_sizes(results),
        as_read=[results.notes[name] for name in AS_READ if name in results.notes],
        names=THRESHOLD_NAMES,
        charts=_charts(results, drawings),
        bars=_bars(results) if results.has_paper_tau else {},
        other_rate=other_rate(results.ladder),
        panels={name: [panel(one, results) for one in some] for name, some in drawings.panels.items()},
        three=[three_thresholds(one, results) for one in drawings.three_thresholds],
        missed=[panel(one, results) for one in drawings.missed],
        false_alarms=[panel(one, results) for one in drawings.false_alarms],
    )


def other_rate(ladder: Sequence[Rung]) -> float | None:
    """The lowest rate of a ladder that can be used and is not the model's own; None where there is none."""
    others = (one.max_false_alarm_rate for one in ladder if one.threshold is not None and not one.is_chosen)
    return min(others, default=None)


PAGES = ("report", "compare", "challenge", "data_check")
"""Packages that hold templates."""


@cache
def page_environment(**filters: Callable[..., str]) -> Environment:
    """Where all pages come from: a template lies beside the page's module, and names in it are only names."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("blemish.evaluation", folder) for folder in PAGES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number,
        "score": score_text,
        "percent": percent,
        "promised_percent": promised_percent,
        "span": span,
        "code": code,
        "extent": extent,
        "plural": plural,
        **filters,
    }
    return environment


def verdict(results: Results) -> list[str]:
    """What was found, in plain sentences, the most important first."""
    count, realised = results.count, results.realised_false_alarm_rate
    sentences = []
    found = results.intervals["image"]["defect_rate"]
    if found is not None:
        sentences.append(
            f"Finds {count.flagged_defective} of {plural(count.defective, 'defective image')} "
            f"({percent(results.image['defect_rate'])}; {percent(found[0])} to {percent(found[1])} "
            f"with {percent(results.settings.confidence)} confidence).{_by_type(results)}"
        )
    else:
        sentences.append("There are no defective test images: evaluated for false alarms only.")
    if realised.interval is not None:
        low, high = realised.interval
        promised = "promised" if is_calibrated(results) else "to be expected"
        units = (
            plural(realised.good_images, "good image")
            if realised.groups is None
            else f"{plural(realised.groups, 'group')} of good images"
        )
        sentences.append(
            f"Flags {realised.flagged} of {units} "
            f"({percent(realised.rate)}; {percent(low)} to {percent(high)}), "
            f"where at most {promised_percent(realised.promised)} were {promised}: {_kept_rate(realised)}"
        )
    else:
        sentences.append("There are no good test images: nothing can be said about false alarms.")
    return sentences


def _by_type(results: Results) -> str:
    """How many of each type of defect are found, the worst first; nothing of a single type."""
    counts = {name: part.count for name, part in results.by_type.items() if part.count.defective}
    if len(counts) < 2:
        return ""
    worst = sorted(counts.items(), key=lambda one: one[1].flagged_defective / one[1].defective)
    told = (f"{name} {count.flagged_defective} of {count.defective}" for name, count in worst)
    return f" By type: {', '.join(told)}."


def is_calibrated(results: Results) -> bool:
    """Whether the threshold is the one that training chose, and not one set by hand."""
    return results.threshold == results.promise.calibrated_threshold


def _kept_rate(realised: FalseAlarms) -> str:
    if realised.verdict == "kept":
        return "it holds."
    if realised.verdict == "broken":
        return "that is broken. Are these images like the ones the threshold was calibrated on?"
    if realised.rate is not None and realised.rate > realised.promised:
        return "more than that, though so few good images prove nothing."
    return "no contradiction, but too few good images to be sure."


def number(value: float | None, digits: int = 3) -> str:
    """A measure for a table.

    >>> number(0.91649), number(None), number(12.3456)
    ('0.916', '-', '12.346')
    """
    return "-" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share for a sentence.

    >>> percent(0.05), percent(0.0344), percent(1.0), percent(None)
    ('5 %', '3.4 %', '100 %', '-')
    """
    return "-" if value is None else f"{100 * value:.1f}".removesuffix(".0") + " %"


def span(interval: Sequence[float] | None) -> str:
    """An interval for a table.

    >>> span([0.5, 0.75])
    '0.500 to 0.750'
    """
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def code(text: str) -> Markup:
    """What stands between backticks as code, all else as plain text.

    >>> code("set `<b>` here")
    Markup('set <code>&lt;b&gt;</code> here')
    """
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _measure_rows(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "group": measure.group,
            "name": measure.titled(results.settings),
            "value": getattr(results, measure.group)[measure.name],
            "interval": results.intervals[measure.group][measure.name],
            "meaning": measure.explanation,
            "note": results.notes.get(measure.key, ""),
        }
        for measure in MEASURES.values()
    ]


def _charts(results: Results, drawings: Drawings) -> dict[str, Markup]:
    scores: dict[bool, list[float]] = {False: [], True: []}
    for row in results.images:
        scores[row.defect_type != "good"].append(row.score)
    charts = {
        "scores": figures.score_histogram(
            {"calibration": drawings.calibration_scores, "good": scores[False], "defective": scores[True]},
            results.threshold,
        )
    }
    if results.count.defective:
        charts["ladder"] = figures.ladder_chart(results.ladder)
    if drawings.roc:
        charts["roc"] = figures.roc_curves(drawings.roc)
    if drawings.threshold_curves:
        curves = dict(drawings.threshold_curves)
        marks = {THRESHOLD_NAMES[name]: level for name, level in thresholds_in_use(results).items()}
        charts["thresholds"] = figures.threshold_curves(curves.pop("threshold"), curves, marks)
    if drawings.history:
        charts["loss"] = figures.loss_curve(drawings.history)
    return {name: inline(svg) for name, svg in charts.items()}


def _bars(results: Results) -> dict[str, Markup]:
    """Figures 5 to 8 of the paper: F1 of each image at its tau, a chart for each type."""
    charts = {}
    for defect_type, part in results.by_type.items():
        rows = [row for row in results.images if row.defect_type == defect_type]
        f1 = [row.f1["paper_tau"] for row in rows]
        if any(value is not None for value in f1):
            names = [PurePosixPath(row.path).stem for row in rows]
            tau = part.at_threshold["paper_tau"].threshold
            charts[defect_type] = inline(figures.f1_bars(names, f1, f"pixel F1 at tau = {tau:g}"))
    return charts


def inline(svg: bytes) -> Markup:
    """A chart of `figures` as a part of a page."""
    return Markup(svg.decode())  # drawn here, its texts escaped by matplotlib
