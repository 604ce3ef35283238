"""Recall of defect regions by their size."""

import numpy as np

from blemish.evaluation.by_size import judge_regions, measure_sizes
from blemish.evaluation.judged import JudgedImage, RegionHit


def judged(*regions: RegionHit) -> JudgedImage:
    return JudgedImage("a", "cut", True, True, 1.0, 0.1, True, regions=regions)


def test_regions_are_told_apart_and_their_cover_counted() -> None:
    mask, values = np.zeros((100, 200), np.bool_), np.zeros((100, 200))
    mask[0:4, 0:4] = mask[50, 50] = mask[51, 51] = True  # the last two touch at a corner: one region
    values[0:2, 0:4] = values[51, 51] = values[90, 190] = 2.0
    assert judge_regions(mask, values, 1.0) == (RegionHit(0.04, 0.5), RegionHit(float(np.sqrt(2) / 100), 0.5))
    assert judge_regions(mask, values, 2.0)[0].covered == 0.0  # above, not at


def test_nothing_marked_is_no_region() -> None:
    assert judge_regions(np.zeros((3, 3), np.bool_), np.ones((3, 3)), 0.0) == ()


def test_rows_hold_what_falls_between_two_sizes() -> None:
    images = [judged(RegionHit(0.005, 0.0), RegionHit(0.03, 1.0)), judged(RegionHit(0.02, 0.5), RegionHit(1.4, 0.1))]
    rows = {(row.at_least, row.below): row for row in measure_sizes(images, 0.95)}
    assert list(rows) == [(0.0, 0.01), (0.02, 0.04), (0.16, 1.0)]  # a size that never occurs has no row
    middle = rows[0.02, 0.04]
    assert (middle.regions, middle.found, middle.covered) == (2, 2, 0.75)
    assert (rows[0.0, 0.01].found, rows[0.16, 1.0].regions) == (0, 1)
    assert middle.interval is not None
    assert middle.interval[0] < 1.0 <= middle.interval[1]
