"""The tables of `blemish compare` as Markdown, for a document.

    blemish compare DATA -o comparison
    python benchmarks/comparison_table.py comparison/comparison.json [MORE.json ...]

For each dataset: rankings and costs; precision, recall and F1 of pixels in the manner of the paper's Table 3
with the image rates of the MVTec AD papers beside them; and, where there are several defect types, the same by type.
Means over the seeds, with the standard deviation behind ± where there are several. `--medians`: one table instead, a
row a dataset and detector, with medians over the seeds.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Nested = dict[str, Any]

AREAS = ("image.auroc", "pixel.auroc", "pixel.aupro", "pixel.aupimo", "pixel.oracle_f1")
LEVELS = ("calibrated", "paper_tau", "oracle_f1")


def number(scale: float = 1.0, digits: int = 3, with_spread: bool = True) -> Callable[[Nested | None], str]:
    """How to write a mean and its spread."""

    def write(spread: Nested | None) -> str:
        if spread is None:
            return "-"
        mean = f"{spread['mean'] * scale:,.{digits}f}"
        return f"{mean} ± {spread['std'] * scale:.{digits}f}" if with_spread and spread["std"] is not None else mean

    return write


def rates(part: Nested, level: str) -> str:
    """Precision, recall and F1 at one threshold, over the defective images alone."""
    spreads = [part[f"own.{level}.{name}"] for name in ("precision", "recall", "f1")]
    return "-" if spreads[-1] is None else " / ".join(number(digits=2, with_spread=False)(one) for one in spreads)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def rankings(summaries: Sequence[Nested]) -> str:
    """How well good and defective are told apart, and what it costs."""
    head = ["detector", "seeds", "image AUROC", "pixel AUROC", "AUPRO", "AUPIMO", "oracle F1"]
    costs = {
        "fit, s": ("fit_seconds", number(digits=0, with_spread=False)),
        "ms an image": ("latency_ms", number(digits=1, with_spread=False)),
        "parameters, M": ("parameters", number(1e-6, 2, with_spread=False)),
        "file, MB": ("artifact_bytes", number(1e-6, 1, with_spread=False)),
    }
    rows = []
    for each in summaries:
        part = each["scopes"].get("all", {})
        areas = [number()(part[name]) for name in AREAS]
        rows.append([f"`{each['detector']}`", str(each["seeds"]), *areas, *(w(part[n]) for n, w in costs.values())])
    return table([*head, *costs], rows)


def decisions(summaries: Sequence[Nested], scope: str) -> str:
    """What is decided at three thresholds: pixels, and images."""
    head = ["detector", "calibrated", "at τ", "oracle", "good accepted", "defective found"]
    rows = []
    for each in summaries:
        part = each["scopes"].get(scope, {})
        images = [number()(part[f"image.{name}"]) for name in ("ok_rate", "defect_rate")]
        rows.append([f"`{each['detector']}`", *(rates(part, level) for level in LEVELS), *images])
    return table(head, rows)


def medians(runs: Sequence[Nested]) -> str:
    """A row a dataset and detector: the medians over the seeds that finished."""
    head = ["set", "detector", "image AUROC", "pixel AUROC", "AUPRO", "AUPIMO", "oracle F1", "F1 calibrated"]
    together: dict[tuple[str, str], list[Nested]] = {}
    for run in runs:
        if "all" in run["scopes"]:
            together.setdefault((run["dataset"], run["detector"]), []).append(run["scopes"]["all"])
    rows = []
    for (dataset, detector), several in together.items():
        areas = [median(several, name) for name in (*AREAS, "calibrated.f1")]
        rates = " / ".join(median(several, f"image.{name}") for name in ("ok_rate", "defect_rate"))
        rows.append([dataset, f"`{detector}`", *areas, rates])
    return table([*head, "good accepted / defective found"], rows)


def median(several: Sequence[Nested], name: str) -> str:
    """The median of one measure over the runs that have it."""
    known = [one[name] for one in several if one[name] is not None]
    return f"{statistics.median(known):.3f}" if known else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", nargs="+", type=Path)
    parser.add_argument("--medians", action="store_true", help="one table, a row a dataset and detector")
    arguments = parser.parse_args()
    if arguments.medians:
        contents = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.comparison]
        print(medians([run for content in contents for run in content["runs"]]))
        return
    for path in arguments.comparison:
        summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
        for dataset in dict.fromkeys(each["dataset"] for each in summary):
            here = [each for each in summary if each["dataset"] == dataset and each["seeds"]]
            print(f"### {dataset}\n\n{rankings(here)}")
            print("Precision / recall / F1 of the pixels of the defective images:\n")
            scopes = [scope for scope in here[0]["scopes"] if scope != "all"] if here else []
            for scope in ["all", *(scopes if len(scopes) > 1 else [])]:
                print(f"{scope}:\n\n{decisions(here, scope)}")


if __name__ == "__main__":
    main()
