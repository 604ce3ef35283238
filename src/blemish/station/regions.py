"""The defective regions of an image as the store has them: in shares of its height and width."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, final

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


def in_shares(regions: Iterable[Mapping[str, float]], size_px: tuple[int, int]) -> list[Region]:
    """Regions in pixels, by the names of their fields (inference/defect_regions.py), in shares of (height, width).

    >>> in_shares([{"left": 2, "top": 1, "width": 2, "height": 1, "area_px": 2, "peak": 0.5}], (4, 4))
    [Region(top=0.25, left=0.5, bottom=0.5, right=1.0, area=0.125, peak=0.5)]
    """
    height, width = size_px
    return [
        Region(
            top=one["top"] / height,
            left=one["left"] / width,
            bottom=(one["top"] + one["height"]) / height,
            right=(one["left"] + one["width"]) / width,
            area=one["area_px"] / (height * width),
            peak=float(one["peak"]),
        )
        for one in list(regions)[:MOST_REGIONS]
    ]
