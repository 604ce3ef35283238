"""Detectors over several data sets: mean ranks, and the chance that one is better than another."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.compare.content import DetectorRank, Ranking, Summary
from blemish.evaluation.compare.summary import ALL, FOUND_AT
from blemish.stats.comparing import chance_better, critical_difference, mean_ranks

RANKED = ("image.auroc", "pixel.aupro", FOUND_AT)
MIN_SETS = 3
"""Of fewer sets nothing is said: two agree by chance every second time."""


def rank_detectors(summary: Sequence[Summary], detectors: Sequence[str]) -> list[Ranking]:
    """A ranking for each measure that `MIN_SETS` data sets have of all detectors; none of a single detector."""
    rankings = []
    for measure in RANKED:
        found = {(part["dataset"], part["detector"]): part["scopes"].get(ALL, {}).get(measure) for part in summary}
        sets = list(dict.fromkeys(part["dataset"] for part in summary))
        whole = [name for name in sets if all(found.get((name, detector)) for detector in detectors)]
        if len(whole) >= MIN_SETS and len(detectors) > 1:
            spreads = [[found[name, detector] for detector in detectors] for name in whole]
            values = np.array([[spread["mean"] if spread else math.nan for spread in row] for row in spreads])
            rankings.append(_ranking(measure, whole, detectors, values))
    return rankings


def _ranking(measure: str, sets: list[str], detectors: Sequence[str], values: NDArray[np.float64]) -> Ranking:
    ranks, means = mean_ranks(values), values.mean(axis=0)
    rows = []
    for place in np.argsort(ranks, kind="stable").tolist():
        better = {
            other: chance_better(values[:, place], values[:, column], np.random.default_rng(0))
            for column, other in enumerate(detectors)
            if column != place
        }
        rows.append(
            DetectorRank(
                detector=detectors[place],
                mean=float(means[place]),
                mean_rank=float(ranks[place]),
                chance_better_than=better,
            )
        )
    difference = critical_difference(len(detectors), len(sets))
    return Ranking(
        measure=measure,
        datasets=sets,
        critical_difference=None if math.isnan(difference) else difference,
        detectors=rows,
    )
