"""What several evaluations found as one Markdown table: python benchmarks/evaluation_table.py REPORT/results.json [...]

A row an evaluation, with the intervals of its results; "found" and "accepted" are shares at the model's threshold.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from comparison_table import table

AREAS = {
    "image AUROC": ("image", "auroc"),
    "pixel AUROC": ("pixel", "auroc"),
    "AUPRO": ("pixel", "aupro"),
    "AUPIMO": ("pixel", "aupimo"),
    "oracle F1": ("pixel", "oracle_f1"),
}


def row(results: dict[str, Any]) -> list[str]:
    """The cells of one evaluation."""
    cells = [Path(results["data"]["root"]).name]
    for group, name in AREAS.values():
        value, ends = results[group][name], results["intervals"][group][name]
        around = "" if ends is None else f" ({ends[0]:.3f}-{ends[1]:.3f})"
        cells.append("-" if value is None else f"{value:.3f}{around}")
    cells += [_plain(results["at_threshold"][level]["f1"]) for level in ("calibrated", "paper_tau")]
    accepted, found = (_plain(results["image"][name]) for name in ("ok_rate", "defect_rate"))
    return [*cells, f"{accepted} / {found}", f"{results['model']['fit_seconds']:.0f} s"]


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    head = ["", *AREAS, "F1 calibrated", "F1 at τ = 0.2", "good accepted / defective found", "fit"]
    print(table(head, [row(json.loads(path.read_text(encoding="utf-8"))) for path in parser.parse_args().results]))


if __name__ == "__main__":
    main()
