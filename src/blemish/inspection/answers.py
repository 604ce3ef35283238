"""What programs are told of an image that was judged, by a station as by the fleet."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from blemish.inference.defect_regions import find_regions

MOST_REGIONS = 50
"""Regions kept of one image, the worst first."""


@final
class RegionInShares(NamedTuple):
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


def find_regions_in_shares(scored_map: NDArray[np.float32], threshold: float) -> list[RegionInShares]:
    """The connected parts of the map above the threshold, the highest first, at most `MOST_REGIONS`.

    >>> scored = np.zeros((4, 4), np.float32); scored[1, 2:] = 0.5
    >>> find_regions_in_shares(scored, 0.25)
    [RegionInShares(top=0.25, left=0.5, bottom=0.5, right=1.0, area=0.125, peak=0.5)]
    """
    height, width = scored_map.shape
    found = find_regions(scored_map, threshold, (height, width))
    return in_shares((region._asdict() for region in found), (height, width))


def in_shares(regions: Iterable[Mapping[str, float]], size_px: tuple[int, int]) -> list[RegionInShares]:
    """The first regions in pixels, by their fields' names, in shares of an image of `size_px` (height, width)."""
    height, width = size_px
    return [
        RegionInShares(
            top=one["top"] / height,
            left=one["left"] / width,
            bottom=(one["top"] + one["height"]) / height,
            right=(one["left"] + one["width"]) / width,
            area=one["area_px"] / (height * width),
            peak=float(one["peak"]),
        )
        for one in islice(regions, MOST_REGIONS)
    ]
