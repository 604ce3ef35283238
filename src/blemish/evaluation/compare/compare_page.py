"""The page of a comparison: detectors side by side, with the published figures in columns of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from blemish.errors import plural
from blemish.evaluation.compare import published
from blemish.evaluation.compare.content import Content, RunRow, Spread, Spreads, Summary
from blemish.evaluation.compare.summary import ALL, FOUND_AT, mean_of, over_datasets
from blemish.evaluation.report.figures import measure_dots
from blemish.evaluation.report.html import inline, page_environment, percent

Pictures = Mapping[str, Sequence[Mapping[str, Any]]]
"""By dataset, one row an image; see `Gallery.rows`."""

LEAD = {
    "image.defect_rate": "found",
    FOUND_AT: "found, 5 % false alarms allowed",
    "image.auroc": "image AUROC",
    "pixel.aupro": "AUPRO",
    "pixel.auroc": "pixel AUROC",
    "pixel.oracle_f1": "F1, oracle",
}
"""What the first table of a dataset tells of each detector, images found first; a column that none has is left out."""

PRICES = {FOUND_AT: "with 5 % of false alarms allowed", "image.defect_rate": "at its own threshold"}

LEVELS = {"calibrated": "calibrated threshold", "paper_tau": "the paper's tau", "oracle_f1": "oracle threshold"}
RATES = ("precision", "recall", "f1")


def render(content: Content, pictures: Pictures) -> str:
    """The page, from the content of `comparison.json` and the pictures of each dataset."""
    summaries = content["summary"]
    datasets = [
        _dataset(name, [each for each in summaries if each["dataset"] == name], content["runs"])
        | {"pictures": pictures.get(name, ())}
        for name in content["plan"]["datasets"]
        if any(each["dataset"] == name for each in summaries)
    ]
    finished = [run for run in content["runs"] if run["scopes"]]
    environment = page_environment(mean=mean, mean_std=mean_std, seconds=seconds, amount=amount)
    return environment.get_template("compare.html.j2").render(
        c=content,
        sentences=verdict(content),
        datasets=datasets,
        means=over_datasets(summaries, list(LEAD)) if len(datasets) > 1 else [],
        columns={
            name: label for name, label in LEAD.items() if any(run["scopes"][ALL][name] is not None for run in finished)
        },
        labels=LEAD,
        rates=RATES,
        failed=[run for run in content["runs"] if run["status"] == "failed"],
        caveats=_caveats(content, datasets),
        paper_source=published.PAPER,
        rates_source=published.MVTEC_AD,
    )


def _caveats(content: Content, datasets: Sequence[Mapping[str, Any]]) -> list[str]:
    """What must be known of the published figures on this page: all but the first is about the paper's Table 3."""
    if any(each["has_published_rates"] for each in datasets):
        return content["published_caveats"]
    return content["published_caveats"][:1] if any(each["has_published_areas"] for each in datasets) else []


def verdict(content: Content) -> list[str]:
    """How far the comparison is, and which detector finds most on each dataset, in plain sentences."""
    done, planned = len(content["runs"]), content["plan"]["runs"]
    failed = sum(run["status"] == "failed" for run in content["runs"])
    sentences = [f"{done - failed} of {plural(planned, 'run')} finished{f', {failed} failed' if failed else ''}."]
    for dataset in content["plan"]["datasets"]:
        for name, price in PRICES.items():
            means = {each["detector"]: mean_of(each, name) for each in content["summary"] if each["dataset"] == dataset}
            known = [(mean, detector) for detector, mean in means.items() if mean is not None]
            if len(known) > 1:
                (most, winner), *_, (least, last) = sorted(known, reverse=True)
                sentences.append(
                    f"On {dataset}, {winner} finds most of the defective images {price}: {percent(most)}; "
                    f"{last} finds least, {percent(least)}."
                    if most > least
                    else f"On {dataset}, all find {percent(most)} of the defective images {price}."
                )
                break
    if len(sentences) > 1 and all(each["seeds"] < 2 for each in content["summary"]):
        sentences.append(
            "With one seed, nothing tells these differences from chance: run it again with `--seeds 3`, which keeps "
            "the finished runs."
        )
    return sentences


def _dataset(name: str, summaries: Sequence[Summary], runs: Sequence[RunRow]) -> dict[str, Any]:
    mine = [run for run in runs if run["dataset"] == name and run["status"] != "failed"]
    is_published = published.DATASET in name.lower()
    tables = [_rate_table(summary, is_published) for summary in summaries]
    rows = [row for table in tables for row in table["rows"]]
    leaders = _leaders(summaries, mine, is_published)
    by_name = {each["detector"]: each for each in summaries if each["scopes"]}
    return {
        "name": name,
        "count": mine[0]["count"][ALL] if mine else None,
        "types": {scope: part["defective"] for scope, part in mine[0]["count"].items() if scope != ALL} if mine else {},
        "notes": sorted({note for run in mine for note in run["notes"].values()}),
        "has_published_rates": any(row.get("published") or row.get("published_images") for row in rows),
        "has_published_areas": any(row["published"] for row in leaders),
        "levels": {
            level: label
            for level, label in LEVELS.items()
            if any(row["rates"][f"{level}.{rate}"] for row in rows for rate in RATES)
        },
        "tables": tables,
        "leaders": leaders,
        "chart": _chart([by_name[row["detector"]] for row in leaders if row["detector"] in by_name]),
    }


def _rate_table(summary: Summary, is_published: bool) -> dict[str, Any]:
    """A detector's rows in the manner of the paper's Table 3."""
    scopes, detector = summary["scopes"], summary["detector"]
    types = [scope for scope in scopes if scope != ALL]
    rows = [_row(scope, scopes[scope], own=True) | {"ok_rate": None} for scope in types]
    if len(types) > 1:
        rows.append(_row("all defects", scopes[ALL], own=True) | {"ok_rate": None})
    if scopes:
        rows.append(_row("all images", scopes[ALL], own=False))
    for row in rows if is_published else []:
        key = "" if row["label"] == "all images" else row["label"]
        row["published"] = published.PAPER_TABLE_3.get((_preset(detector), key))
        row["published_images"] = published.MVTEC_AD_RATES.get(detector) if not key else None
        row["is_image_rate"] = bool(row["published_images"])
    return {"detector": detector, "seeds": summary["seeds"], "failed": summary["failed"], "rows": rows}


def _preset(name: str) -> str:
    """The paper's preset has two names."""
    return "paper" if name == "seed" else name


def _row(label: str, measures: Spreads, own: bool) -> dict[str, Any]:
    """Pixels of the defective images alone (`own`, as the paper has no good test images), or of all."""
    prefix = "own." if own else ""
    return {
        "label": label,
        "rates": {f"{level}.{rate}": measures[f"{prefix}{level}.{rate}"] for level in LEVELS for rate in RATES},
        "ok_rate": measures["image.ok_rate"],
        "defect_rate": measures["image.defect_rate"],
    }


def _leaders(summaries: Sequence[Summary], runs: Sequence[RunRow], is_published: bool) -> list[dict[str, Any]]:
    """One row a detector, who finds most first."""
    known = {name: [m for each in summaries if (m := mean_of(each, name)) is not None] for name in LEAD}
    best = {name: max(means) for name, means in known.items() if len(means) > 1}
    rows = []
    for summary in summaries:
        measures = summary["scopes"].get(ALL)
        alarms = [run["false_alarms"] for run in runs if run["detector"] == summary["detector"]]
        rows.append(
            {
                "detector": summary["detector"],
                "seeds": summary["seeds"],
                "failed": summary["failed"],
                "measures": measures,
                "alarms": alarms,
                "best": {name for name, most in best.items() if mean_of(summary, name) == most},
                "published": published.RANKINGS.get(summary["detector"]) if is_published else None,
            }
        )
    return sorted(rows, key=lambda row: [-_found(row, name) for name in (FOUND_AT, "image.defect_rate", "image.auroc")])


def _found(row: Mapping[str, Any], name: str) -> float:
    part = row["measures"] and row["measures"][name]
    return float(part["mean"]) if part else -1.0


def _chart(summaries: Sequence[Summary]) -> Any:
    columns = {
        label: [(each["detector"], each["scopes"][ALL][name]) for each in summaries] for name, label in LEAD.items()
    }
    known = {
        label.replace(", 5 % false alarms allowed", " at 5 %"): {
            name: (part["mean"], part["min"], part["max"]) for name, part in column if part is not None
        }
        for label, column in columns.items()
    }
    known = {label: column for label, column in known.items() if column}
    return inline(measure_dots([each["detector"] for each in summaries], known)) if known else None


def mean(part: Spread | None, digits: int = 3) -> str:
    """The mean over seeds, for a table.

    >>> mean({"mean": 0.5, "std": 0.02}, 2), mean(None)
    ('0.50', '-')
    """
    return "-" if part is None else f"{part['mean']:.{digits}f}"


def mean_std(part: Spread | None, digits: int = 3) -> str:
    """Mean and standard deviation over seeds, for a table.

    >>> mean_std({"mean": 0.5, "std": 0.02}), mean_std({"mean": 0.5, "std": None}), mean_std(None)
    ('0.500 ± 0.020', '0.500', '-')
    """
    spread = "" if part is None or part["std"] is None else f" ± {part['std']:.{digits}f}"
    return mean(part, digits) + spread


def seconds(part: Spread | None) -> str:
    """A time for a table.

    >>> seconds({"mean": 4.25, "std": None}), seconds({"mean": 300.0, "std": 12.0}), seconds(None)
    ('4.2 s', '5.0 ± 0.2 min', '-')
    """
    if part is None:
        return "-"
    unit, divisor = next(
        (unit, size) for unit, size in (("h", 3600), ("min", 60), ("s", 1)) if part["mean"] >= 2 * size or size == 1
    )
    spread = "" if part["std"] is None else f" ± {part['std'] / divisor:.1f}"
    return f"{part['mean'] / divisor:.1f}{spread} {unit}"


def amount(value: float) -> str:
    """A number of parameters or bytes for a table.

    >>> amount(1_234_567), amount(53_000), amount(12)
    ('1.2 M', '53.0 k', '12')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f}"
