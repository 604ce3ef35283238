"""Does a defect hidden among 50 good images come out on top of `blemish data check`?

    python benchmarks/planted_defects.py ../shared/data/hazelnut_toy ../shared/data/mvtec_toothbrush
    python benchmarks/planted_defects.py ../shared/data/kolektorsdd --every 2 --first 0 70 140 210 280 \\
        --marked 089,092,094,103,205,230,242,243,275,343,347,359

Each defective test image in turn is put among 50 good ones (all, where there are fewer) and ranked with them; as in
`blemish data check`, near duplicates do not judge each other. Prints how often it is first, first but for the good
images that --marked names, among the first three then, and flagged; writes build/benchmarks/planted_defects.json.
"""

import argparse
from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, write_json
from numpy.typing import NDArray

from blemish.data.duplicates import clusters, fingerprint, near_duplicates
from blemish.data.folder import Sample, read_folder
from blemish.data.images import prepare, read_values
from blemish.data.pixels import as_pixels
from blemish.evaluation.data_check.findings import outlier_limit
from blemish.evaluation.data_check.leave_one_out import FeatureExtractor, leave_one_out
from blemish.settings import RunSettings
from blemish.training.policy import resolve_policy
from blemish.training.settings import make_settings

GOOD = 50


def rank_each(
    good: Sequence[Sample], bad: Sequence[Sample], marked: Collection[str], settings: RunSettings
) -> dict[str, Any]:
    """The rank of each planted defect, 1 the strangest, also without the marked good ones; and the flagged."""
    extractor = FeatureExtractor(resolve_policy(good, settings))
    grids = {sample.name: extractor.extract(prepare(sample.path, extractor.policy)) for sample in (*good, *bad)}
    prints = {
        sample.name: fingerprint(as_pixels(read_values(sample.path, extractor.policy)).mean(axis=2))
        for sample in (*good, *bad)
    }

    def scores_of(samples: Sequence[Sample]) -> NDArray[np.float64]:
        pairs = near_duplicates(np.stack([prints[sample.name] for sample in samples]))
        seen = [grids[sample.name] for sample in samples]
        return leave_one_out(extractor, seen, clusters(len(samples), pairs)).max(axis=1)

    clean, plain = scores_of(good), np.array([sample.path.stem not in marked for sample in good])
    ranks, ranks_unmarked, flagged = [], [], []
    for sample in bad:
        scores = scores_of([*good, sample])
        before = scores[:-1] >= scores[-1]
        ranks.append(1 + int(before.sum()))
        ranks_unmarked.append(1 + int(before[plain].sum()))
        flagged.append(bool(scores[-1] > outlier_limit(scores)))
    names = [good[place].name for place in np.flatnonzero(clean > outlier_limit(clean)).tolist()]
    return {
        "good": len(good),
        "marked": int((~plain).sum()),
        "ranks": ranks,
        "ranks_unmarked": ranks_unmarked,
        "flagged": flagged,
        "flagged_without_any": names,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--first", type=int, nargs="+", default=[0], help="leave out so many good images at the start")
    parser.add_argument("--every", type=int, default=1, help="plant every so-manieth defective image only")
    parser.add_argument("--marked", default="", help="stems of good images that bear a mark, with commas between")
    arguments = parser.parse_args()
    settings = make_settings(assignments=["data.speed=fast", *arguments.set])
    print("| set | from | good images | marked | planted | first | first but for marked | among three then | flagged | "
          "flagged without any |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    found = {}
    for root, first in product(arguments.data, arguments.first):
        folder = read_folder(root)
        good = [*folder.train, *(sample for sample in folder.test if not sample.label)][first : first + GOOD]
        bad = [sample for sample in folder.test if sample.label][:: arguments.every]
        one = found[f"{root.name} from {first}"] = rank_each(good, bad, arguments.marked.split(","), settings)
        ranks, unmarked = np.array(one["ranks"]), np.array(one["ranks_unmarked"])
        shares = (f"{np.mean(part):.0%}" for part in (ranks == 1, unmarked == 1, unmarked <= 3, one["flagged"]))
        counts = f"{root.name} | {first} | {len(good)} | {one['marked']} | {len(bad)}"
        print(f"| {counts} | {' | '.join(shares)} | {len(one['flagged_without_any'])} |", flush=True)
    write_json("planted_defects", {"machine": describe(), "found": found})


if __name__ == "__main__":
    main()
