"""The pages of the two sweeps: over the threshold, and over the values of a setting."""

from collections.abc import Mapping, Sequence
from typing import Any

from blemish.evaluation.compare.compare_page import mean_std, seconds
from blemish.evaluation.compare.content import RatesAt, SweepContent, ThresholdContent, ValueSummary
from blemish.evaluation.report.figures import setting_curves, threshold_curves
from blemish.evaluation.report.html import inline, page_environment
from blemish.evaluation.report.pictures import Example, at_threshold, photo

MARKS = {"calibrated": "calibrated", "paper_tau": "the paper's", "oracle_f1": "oracle of all images"}

DRAWN = {
    "image.defect_rate": "defective images found",
    "image.auroc": "image AUROC",
    "pixel.aupro": "AUPRO",
    "pixel.oracle_f1": "pixel F1, oracle",
}
"""Measures that have a chart, with a line for each detector."""


def render_threshold(content: ThresholdContent, example: Example) -> str:
    """The page of a sweep of the threshold, from the content of `threshold.json` and the chosen image."""
    template = page_environment().get_template("sweep_threshold.html.j2")
    return template.render(
        c=content,
        charts={scope: _threshold_chart(content, scope) for scope in content["curves"]},
        pictures=_panels(content, example),
        rows={scope: table_rows(content, scope) for scope in content["curves"]},
    )


def _threshold_chart(content: ThresholdContent, scope: str) -> Any:
    """Where the curves say something: from a two-hundredth of the highest threshold counted."""
    curve = content["curves"][scope]
    lowest = max(curve["threshold"]) / 200
    kept = [place for place, threshold in enumerate(curve["threshold"]) if threshold >= lowest]
    lines = {"precision": curve["precision"], "recall": curve["recall"], "F1": curve["f1"]}
    rows = {name: [line[place] for place in kept] for name, line in lines.items()}
    marks: dict[str, float | None] = {MARKS[name]: row["threshold"] for name, row in content["at_marks"][scope].items()}
    return inline(threshold_curves([curve["threshold"][place] for place in kept], rows, marks))


def table_rows(content: ThresholdContent, scope: str) -> list[tuple[float, str, RatesAt]]:
    """Thresholds from high to low: those asked for and those in use, with what they are called, and their rates."""
    rows: dict[float, tuple[list[str], RatesAt]] = {row["threshold"]: ([], row) for row in content["at"][scope]}
    for name, row in content["at_marks"][scope].items():
        rows.setdefault(row["threshold"], ([], row))[0].append(MARKS[name])
    return [(threshold, ", ".join(names), row) for threshold, (names, row) in sorted(rows.items(), reverse=True)]


def _panels(content: ThresholdContent, example: Example) -> list[tuple[str, str]]:
    """Figures 13 and 14: the image, then what each threshold calls defective, outlined beside the truth."""
    pictures = [("test image", photo(example.image))]
    for row in content["image"]["at"]:
        found = "" if row.get("f1") is None else f", F1 {row['f1']:.2f}"
        pictures.append((f"threshold {row['threshold']:.4g}{found}", photo(at_threshold(example, row["threshold"]))))
    return pictures


def render_setting(content: SweepContent, pictures: Sequence[Mapping[str, Any]]) -> str:
    """The page of a sweep of a setting, from the content of `sweep.json` and its pictures (see `Gallery.rows`)."""
    environment = page_environment(mean_std=mean_std, seconds=seconds)
    done = [each for each in content["summary"] if each["seeds"]]
    return environment.get_template("sweep_setting.html.j2").render(
        c=content,
        done=done,
        charts=_setting_charts(content["setting"], {each["label"]: each["value"] for each in content["summary"]}, done),
        pictures=pictures,
        measures={key: label for key, label in DRAWN.items() if any(each["measures"][key] for each in done)},
        failed=[point for point in content["points"] if point["error"] is not None],
    )


def _setting_charts(setting: str, values: Mapping[str, Any], done: Sequence[ValueSummary]) -> dict[str, Any]:
    """By measure, where any detector has it."""
    charts = {}
    for key, title in DRAWN.items():
        lines = {
            name: {
                each["label"]: (part["mean"], part["min"], part["max"])
                for each in done
                if each["detector"] == name and (part := each["measures"][key]) is not None
            }
            for name in dict.fromkeys(each["detector"] for each in done)
        }
        known = {name: line for name, line in lines.items() if any(line.values())}
        if known:
            curves = {name: [line.get(label) for label in values] for name, line in known.items()}
            charts[title] = inline(setting_curves(list(values.values()), curves, setting, title))
    return charts
