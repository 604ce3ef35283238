"""How large a defect has to be to be found: recall of defect regions, by their size."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.judged import JudgedImage, RegionHit, as_range
from blemish.evaluation.results import SizeRow
from blemish.stats import rate_interval
from blemish.stats.regions import label_regions

EDGES = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 1.0)
"""Sizes of regions, the square root of their area over the shorter side of the image, doubling."""


def judge_regions(
    mask: NDArray[np.bool_], anomaly_map: NDArray[np.floating], threshold: float
) -> tuple[RegionHit, ...]:
    """Each region of a mask (h, w), pixels that touch at a corner connected, and the share of it above the threshold.

    >>> mask = np.zeros((10, 10), np.bool_); mask[0, 0] = mask[5:7, 5:7] = True
    >>> judge_regions(mask, np.where(np.arange(10) > 5, 1.0, 0.0) * np.ones((10, 1)), 0.5)
    (RegionHit(size=0.1, covered=0.0), RegionHit(size=0.2, covered=0.5))
    """
    labels = label_regions(mask)
    areas = np.bincount(labels.ravel())[1:]
    hits = np.bincount(labels[anomaly_map > threshold], minlength=areas.size + 1)[1:]
    side = min(mask.shape)
    return tuple(
        RegionHit(size=float(np.sqrt(area) / side), covered=float(hit / area))
        for area, hit in zip(areas, hits, strict=True)
    )


def measure_sizes(images: Sequence[JudgedImage], confidence: float) -> list[SizeRow]:
    """A row for each size that occurs: regions, those with a pixel above the threshold, and the mean share covered."""
    hits = [hit for image in images for hit in image.regions]
    rows = []
    for low, high in pairwise(EDGES):
        some = [hit for hit in hits if low <= hit.size < high or (high == EDGES[-1] and hit.size >= high)]
        if some:
            rows.append(_row(low, high, some, confidence))
    return rows


def _row(low: float, high: float, hits: Iterable[RegionHit], confidence: float) -> SizeRow:
    covered = [hit.covered for hit in hits]
    found = sum(share > 0 for share in covered)
    return SizeRow(
        at_least=low,
        below=high,
        regions=len(covered),
        found=found,
        interval=as_range(rate_interval(found, len(covered), confidence)),
        covered=float(np.mean(covered)),
    )
