"""What programs are told of an image that was judged, by a station as by the fleet."""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from blemish.stats.regions import label_regions

MOST_REGIONS = 50
"""Regions kept of one image, the worst first."""


@final
class Region(NamedTuple):
    """One defect: its box in shares of the image's height and width, its share of the image, its highest value."""

    top: float
    left: float
    bottom: float
    right: float
    area: float
    peak: float


class Answer(BaseModel):
    """An image, and what was decided about it."""

    name: str
    sha256: str
    received_at: str
    verdict: str
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    model_sha256: str | None = None
    decided_at: str | None = None
    message: str = ""
    regions: list[list[float]] = []


def find_regions(scored_map: NDArray[np.float32], threshold: float) -> list[Region]:
    """The connected parts of the map above the threshold, the highest first.

    >>> scored = np.zeros((4, 4), np.float32); scored[1, 2:] = 0.5
    >>> find_regions(scored, 0.25)
    [Region(top=0.25, left=0.5, bottom=0.5, right=1.0, area=0.125, peak=0.5)]
    """
    labels = label_regions(scored_map > np.float64(threshold))
    height, width = labels.shape
    regions = []
    for number in range(1, int(labels.max()) + 1):
        inside = labels == number
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        top, bottom = rows[0] / height, (rows[-1] + 1) / height
        left, right = columns[0] / width, (columns[-1] + 1) / width
        area, peak = inside.mean(), scored_map[inside].max()
        regions.append(Region(float(top), float(left), float(bottom), float(right), float(area), float(peak)))
    return sorted(regions, key=lambda region: -region.peak)[:MOST_REGIONS]
