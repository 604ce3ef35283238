"""Does a defect hidden among 50 good images come out on top of `blemish data check`?

    python benchmarks/planted_defects.py ../shared/data/hazelnut_toy ../shared/data/mvtec_toothbrush
    python benchmarks/planted_defects.py ../shared/data/kolektorsdd --set data.size_px=[640,256]

Each defective test image in turn is put among the first 50 good ones (all, where there are fewer) and ranked with them.
Prints how often it is first, among the first three, and flagged; writes build/benchmarks/planted_defects.json.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, write_json

from blemish.data.folder import Sample, read_folder
from blemish.findings import odd_limit
from blemish.odd_ones import Eye, odd_ones
from blemish.settings import RunSettings
from blemish.train import make_settings, resolve_policy

GOOD = 50


def rank_each(good: Sequence[Sample], bad: Sequence[Sample], settings: RunSettings) -> dict[str, Any]:
    """The rank of each planted defect, 1 the strangest, and whether it is flagged."""
    eye = Eye(resolve_policy(good, settings))
    grids = [eye.look(sample.path) for sample in good]
    clean = odd_ones(eye, grids, range(len(good))).scores
    ranks, flagged = [], []
    for sample in bad:
        scores = odd_ones(eye, [*grids, eye.look(sample.path)], range(len(good) + 1)).scores
        ranks.append(1 + int((scores[:-1] >= scores[-1]).sum()))
        flagged.append(bool(scores[-1] > odd_limit(scores)))
    names = [good[place].name for place in np.flatnonzero(clean > odd_limit(clean))]
    return {"good": len(good), "ranks": ranks, "flagged": flagged, "flagged_without_any": names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--first", type=int, default=0, help="leave out so many good images at the start")
    parser.add_argument("--every", type=int, default=1, help="plant every so-manieth defective image only")
    arguments = parser.parse_args()
    settings = make_settings(assignments=arguments.set)
    print("| set | good images | planted | first | among three | flagged | flagged without any |")
    print("|---|---|---|---|---|---|---|")
    found = {}
    for root in arguments.data:
        folder = read_folder(root)
        good = [*folder.train, *(sample for sample in folder.test if not sample.label)]
        good = good[arguments.first : arguments.first + GOOD]
        bad = [sample for sample in folder.test if sample.label][:: arguments.every]
        one = found[root.name] = rank_each(good, bad, settings)
        ranks = np.array(one["ranks"])
        shares = (f"{np.mean(part):.0%}" for part in (ranks == 1, ranks <= 3, one["flagged"]))
        print(f"| {root.name} | {len(good)} | {len(bad)} | {' | '.join(shares)} | {len(one['flagged_without_any'])} |")
    write_json("planted_defects", {"machine": describe(), "found": found})


if __name__ == "__main__":
    main()
